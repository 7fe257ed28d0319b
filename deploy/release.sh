#!/usr/bin/env bash
# Makes everything that a release consists of, reproducibly: the same commit and the same Go give the
# same bytes. Names are relative to the root of the checkout. Usage:
#   release.sh binary ARCH FILE       one stripped, static binary for Linux
#   release.sh packages DIR [ARCH…]   for Linux: binaries, bills of materials, archives, .deb and .rpm, in DIR
#   release.sh all DIR [ARCH…]        that, archives for macOS and Windows, and the notes from CHANGELOG.md
#   release.sh sums DIR               SHA256SUMS of what is in DIR
#   release.sh check [ARCH…]          makes all twice, from two clones, and compares
# The version is that of CHANGELOG.md's newest release, unless RELEASE_VERSION is set.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Pinned, like the tools in the Makefile.
readonly nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
export LC_ALL=C TZ=UTC
umask 022

# compile builds for Linux with symbols, of which strip keeps the one that the program needs.
compile() { # OS ARCH FILE
	local flags='-s -w -funcalign=8'
	if [[ $1 == linux ]]; then flags='-w -funcalign=8'; fi
	# Set everything that the environment could change.
	GOCACHE=${RELEASE_CACHE:-$(go env GOCACHE)} GOOS=$1 GOARCH=$2 GOAMD64=v1 GOARM64=v8.0 \
		CGO_ENABLED=0 GOFLAGS='' GOEXPERIMENT='' \
		go build -trimpath "-tags=$(<deploy/tags)" -buildvcs=true -ldflags="$flags" -o "$3" ./cmd/credagent
	if [[ $1 == linux ]]; then release strip "$3"; fi
}

binary() { compile linux "$@"; } # ARCH FILE

release() { # COMMAND [ARGUMENT…]
	go run ./deploy/release "$@"
}

# texts copies what people read: the files in the root of the checkout, and docs.
texts() { # DIR
	local file
	install -D -m 0644 -t "$1" LICENSE README.md CHANGELOG.md SECURITY.md
	while read -r file; do
		install -D -m 0644 "$file" "$1/$file"
	done < <(find docs -name '*.md' -o -name '*.svg' | sort)
}

# documents lays out the files that are the same for every architecture. It runs a binary for this machine.
documents() { # BINARY DIR
	local doc=$2/usr/share/doc/credagent
	install -d "$doc" "$2/usr/share/man" "$2/completion" \
		"$2/usr/share/bash-completion/completions" "$2/usr/share/fish/vendor_completions.d"
	release man "$1" "$2/usr/share/man"
	find "$2/usr/share/man" -type f -exec gzip --best --no-name {} +
	"$1" completion bash >"$2/usr/share/bash-completion/completions/credagent"
	"$1" completion fish >"$2/usr/share/fish/vendor_completions.d/credagent.fish"
	"$1" completion zsh >"$2/completion/_credagent"
	release notices "$1" >"$doc/THIRD-PARTY"
	texts "$doc"
	cat LICENSE "$doc/THIRD-PARTY" >"$doc/copyright"
	install -D -m 0644 -t "$2/usr/lib/systemd/system" deploy/systemd/*.service deploy/systemd/*.path
	install -D -m 0644 -t "$2/usr/lib/sysusers.d" deploy/systemd/sysusers.d/credagent.conf
	install -D -m 0644 -t "$2/usr/lib/tmpfiles.d" deploy/systemd/tmpfiles.d/credagent.conf
	install -D -m 0644 -t "$2/usr/lib/credagent" deploy/systemd/wait-for-token.conf
	install -D -m 0644 -t "$2/etc/credagent" deploy/packages/credagent.yaml
}

# dated gives all files the time of the commit.
dated() { # DIR
	find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}

archive() { # DIR NAME FILE
	tar --create --sort=name --owner=0 --group=0 --numeric-owner --format=gnu \
		--directory="$1" --transform="s,^\.,$2," . | gzip --best --no-name >"$3"
}

# bundle makes the archive and the packages of one architecture.
bundle() { # ARCH STAGE DIR
	local name=credagent_${VERSION}_linux_$1
	dated "$2"
	archive "$2" "$name" "$3/$name.tar.gz"
	for kind in deb rpm; do
		ARCH=$1 STAGE=$2 go run "$nfpm" package --config deploy/packages/nfpm.yaml --packager "$kind" --target "$3/" >/dev/null
	done
}

# elsewhere makes the archive for a system without packages: the program and its documents.
elsewhere() { # OS ARCH DIR
	local name=credagent_${VERSION}_$1_$2 program=credagent stage=$work/$1-$2
	if [[ $1 == windows ]]; then program=credagent.exe; fi
	install -d "$stage"
	compile "$1" "$2" "$stage/$program"
	release sbom "$VERSION" "$stage/$program" >"$3/$name.cdx.json"
	texts "$stage"
	install -m 0644 "$work/common/usr/share/doc/credagent/THIRD-PARTY" "$stage"
	if [[ $1 == darwin ]]; then cp -r "$work/common/usr/share/man" "$work/common/usr/share/bash-completion" "$work/common/completion" "$stage"; fi
	dated "$stage"
	if [[ $1 == windows ]]; then
		release zip "$stage" "$name" >"$3/$name.zip"
	else
		archive "$stage" "$name" "$3/$name.tar.gz"
	fi
}

# prepare sets VERSION and makes what all systems share, in the directory $work.
prepare() {
	local says
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	VERSION=$(release version)
	binary "$(go env GOHOSTARCH)" "$work/credagent"
	says=$("$work/credagent" version)
	if [[ $says != "credagent $VERSION ("* ]]; then
		echo "release.sh: the newest release of CHANGELOG.md is $VERSION, but the program of cmd/credagent/version.go says: $says" >&2
		exit 1
	fi
	if [[ -z ${RELEASE_VERSION:-} && $says == *"unknown commit"* ]]; then
		echo "release.sh: go build stamps no commit here: build from a git clone, which a work tree or an archive is not, or set RELEASE_VERSION" >&2
		exit 1
	fi
	VERSION=${RELEASE_VERSION:-$VERSION}
	[[ $VERSION =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || { echo "release.sh: RELEASE_VERSION is \"$VERSION\", which is no version such as 1.2.3" >&2; exit 1; }
	SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
	export VERSION SOURCE_DATE_EPOCH
	documents "$work/credagent" "$work/common"
}

packages() { # DIR [ARCH…]
	local dir arch
	mkdir -p "$1"
	dir=$(realpath "$1")
	shift
	if (($# == 0)); then set -- amd64 arm64; fi
	prepare
	for arch; do
		install -d "$dir/linux-$arch" "$work/$arch/usr/bin"
		binary "$arch" "$dir/linux-$arch/credagent"
		release sbom "$VERSION" "$dir/linux-$arch/credagent" >"$dir/credagent_${VERSION}_linux_$arch.cdx.json"
		cp -r "$work/common/." "$work/$arch"
		install -m 0755 "$dir/linux-$arch/credagent" "$work/$arch/usr/bin"
		bundle "$arch" "$work/$arch" "$dir"
	done
	cp "$work/common/usr/share/doc/credagent/THIRD-PARTY" "$dir"
	echo "$VERSION" >"$dir/VERSION"
	sums "$dir"
}

all() { # DIR [ARCH…]
	local dir system arch
	packages "$@"
	dir=$(realpath "$1")
	shift
	if (($# == 0)); then set -- amd64 arm64; fi
	for system in darwin windows; do
		for arch; do elsewhere "$system" "$arch" "$dir"; done
	done
	release notes >"$dir/RELEASE-NOTES.md"
	sums "$dir"
}

sums() { # DIR
	(cd "$1" && find . -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS)
}

# check makes the second release in another directory, without the build cache.
check() { # [ARCH…]
	local source=$PWD
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	git clone --quiet "$source" "$work/one"
	git clone --quiet "$source" "$work/another/place"
	"$work/one/deploy/release.sh" all dist "$@"
	RELEASE_CACHE=$work/cache "$work/another/place/deploy/release.sh" all dist "$@"
	diff "$work/one/dist/SHA256SUMS" "$work/another/place/dist/SHA256SUMS"
	echo "the same bytes twice:"
	cat "$work/one/dist/SHA256SUMS"
}

case "${1:-}:$#" in
binary:3 | check:* | packages:[2-9] | all:[2-9] | sums:2) "$@" ;;
*) sed -n '2,9s/^# \{0,1\}//p' deploy/release.sh >&2; exit 64 ;;
esac
