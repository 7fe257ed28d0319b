#!/usr/bin/env bash
# Makes the container image from the output of release.sh. It pulls nothing and runs nothing, so it works
# for any architecture. Names are relative to the root of the checkout. Usage:
#   image.sh DIR [ARCH…]   localhost/credagent:VERSION, one image list, and DIR/credagent_VERSION_image.tar
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022

need() { # COMMAND PACKAGE
	command -v "$1" >/dev/null || { echo "image.sh: $1 is missing: apt-get install $2" >&2; exit 1; }
}

# roots prints only the roots that Debian ships, not those that this machine trusts in addition.
roots() {
	local files=(/usr/share/ca-certificates/mozilla/*.crt)
	[[ -e ${files[0]} ]] || { echo 'image.sh: no trusted roots: apt-get install ca-certificates' >&2; exit 1; }
	sed -s '$a\' "${files[@]}"
}

(($# > 0)) || { sed -n '2,4s/^# \{0,1\}//p' deploy/image.sh >&2; exit 64; }
need buildah buildah
dir=$(realpath "$1")
shift
if (($# == 0)); then set -- amd64 arm64; fi
version=$(<"$dir/VERSION")
name=localhost/credagent:${version//+/-} # a tag has no plus sign
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

roots >"$context/ca-certificates.crt"
cp LICENSE "$dir/THIRD-PARTY" "$context"
buildah rmi "$name" >/dev/null 2>&1 || true # remove an earlier list
buildah manifest rm "$name" >/dev/null 2>&1 || true
for arch; do
	install -D "$dir/linux-$arch/credagent" "$context/linux-$arch/credagent"
	buildah bud --quiet --pull-never --isolation chroot --platform "linux/$arch" --format oci \
		--timestamp "$(git log -1 --format=%ct)" --build-arg "TARGETARCH=$arch" \
		--build-arg "VERSION=$version" --build-arg "REVISION=$(git rev-parse HEAD)" \
		--file deploy/image/Dockerfile --manifest "$name" "$context"
done
buildah manifest push --quiet --all "$name" "oci:$context/layout:${name#localhost/}"
# buildah would pack the layout with current times.
tar --create --sort=name --owner=0 --group=0 --numeric-owner --format=gnu --mtime="@$(git log -1 --format=%ct)" \
	--directory="$context/layout" --file="$dir/credagent_${version}_image.tar" .
