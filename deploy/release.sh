#!/usr/bin/env bash
# Makes everything that a release consists of, so that whoever has the same commit and the same Go
# makes the same bytes. Names are from the root of the checkout. Usage:
#   release.sh binary ARCH FILE       one stripped, static binary
#   release.sh packages DIR [ARCH…]   binaries, bills of materials, archives, .deb and .rpm, in DIR
#   release.sh check [ARCH…]          makes all that twice, from two clones, and compares
# The version is the commit's, as go build stamps it, unless RELEASE_VERSION is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Pinned, like the tools in the Makefile.
readonly nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
export LC_ALL=C TZ=UTC
umask 022

binary() { # ARCH FILE
	# What the environment could change is set here.
	GOCACHE=${RELEASE_CACHE:-$(go env GOCACHE)} GOOS=linux GOARCH=$1 GOAMD64=v1 GOARM64=v8.0 \
		CGO_ENABLED=0 GOFLAGS='' GOEXPERIMENT='' \
		go build -trimpath "-tags=$(<deploy/tags)" -buildvcs=true -ldflags='-w -funcalign=16' -o "$2" ./cmd/credagent
}

release() { # COMMAND BINARY [DIR]
	go run ./deploy/release "$@"
}

# documents lays out what is the same for every architecture. It asks a binary for this machine.
documents() { # BINARY DIR
	local doc=$2/usr/share/doc/credagent
	install -d "$doc/docs/servers" "$2/usr/share/man" "$2/completion" \
		"$2/usr/share/bash-completion/completions" "$2/usr/share/fish/vendor_completions.d"
	release man "$1" "$2/usr/share/man"
	find "$2/usr/share/man" -type f -exec gzip --best --no-name {} +
	"$1" completion bash >"$2/usr/share/bash-completion/completions/credagent"
	"$1" completion fish >"$2/usr/share/fish/vendor_completions.d/credagent.fish"
	"$1" completion zsh >"$2/completion/_credagent"
	release notices "$1" >"$doc/THIRD-PARTY"
	install -m 0644 LICENSE README.md CHANGELOG.md SECURITY.md "$doc"
	install -m 0644 docs/*.md "$doc/docs"
	install -m 0644 docs/servers/*.md "$doc/docs/servers"
	cat LICENSE "$doc/THIRD-PARTY" >"$doc/copyright"
	install -D -m 0644 -t "$2/usr/lib/systemd/system" deploy/systemd/*.service deploy/systemd/*.path
	install -D -m 0644 -t "$2/usr/lib/sysusers.d" deploy/systemd/sysusers.d/credagent.conf
	install -D -m 0644 -t "$2/usr/lib/tmpfiles.d" deploy/systemd/tmpfiles.d/credagent.conf
	install -D -m 0644 -t "$2/usr/lib/credagent" deploy/systemd/wait-for-token.conf
	install -D -m 0644 -t "$2/etc/credagent" deploy/packages/credagent.yaml
}

# bundle makes the archive and the packages of one architecture.
bundle() { # ARCH STAGE DIR
	local name=credagent_${VERSION}_linux_$1
	find "$2" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
	tar --create --sort=name --owner=0 --group=0 --numeric-owner --format=gnu \
		--directory="$2" --transform="s,^\.,$name," . | gzip --best --no-name >"$3/$name.tar.gz"
	for kind in deb rpm; do
		ARCH=$1 STAGE=$2 go run "$nfpm" package --config deploy/packages/nfpm.yaml --packager "$kind" --target "$3/" >/dev/null
	done
}

packages() { # DIR [ARCH…]
	local dir arch
	mkdir -p "$1"
	dir=$(realpath "$1")
	shift
	if (($# == 0)); then set -- amd64 arm64; fi
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	binary "$(go env GOHOSTARCH)" "$work/credagent"
	VERSION=${RELEASE_VERSION:-$("$work/credagent" version | cut -d ' ' -f 2)}
	[[ $VERSION =~ ^v?[0-9] ]] || { echo "release.sh: $VERSION is no version: build from a git clone, or set RELEASE_VERSION" >&2; exit 1; }
	export VERSION=${VERSION#v} SOURCE_DATE_EPOCH
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
	documents "$work/credagent" "$work/common"
	for arch; do
		install -d "$dir/linux-$arch" "$work/$arch/usr/bin"
		binary "$arch" "$dir/linux-$arch/credagent"
		release sbom "$dir/linux-$arch/credagent" >"$dir/credagent_${VERSION}_linux_$arch.cdx.json"
		cp -r "$work/common/." "$work/$arch"
		install -m 0755 "$dir/linux-$arch/credagent" "$work/$arch/usr/bin"
		bundle "$arch" "$work/$arch" "$dir"
	done
	cp "$work/common/usr/share/doc/credagent/THIRD-PARTY" "$dir"
	echo "$VERSION" >"$dir/VERSION"
	(cd "$dir" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
}

# check makes the second release in another place and compiles everything anew for it.
check() { # [ARCH…]
	local source=$PWD
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	git clone --quiet "$source" "$work/one"
	git clone --quiet "$source" "$work/another/place"
	"$work/one/deploy/release.sh" packages dist "$@"
	RELEASE_CACHE=$work/cache "$work/another/place/deploy/release.sh" packages dist "$@"
	diff "$work/one/dist/SHA256SUMS" "$work/another/place/dist/SHA256SUMS"
	echo "the same bytes twice:"
	cat "$work/one/dist/SHA256SUMS"
}

case "${1:-}" in
binary | check | packages) "$@" ;;
*) sed -n '2,7s/^# \{0,1\}//p' deploy/release.sh >&2; exit 64 ;;
esac
