#!/bin/sh
# Builds programs of Kubernetes from its Go module, once, and prints the directory they are in.
#
#     build-kubernetes.sh [PROGRAM…]
#
# Without a PROGRAM it builds kube-apiserver, kubectl and kubelet. KUBERNETES_VERSION chooses another
# version. The directory is in the user's cache, shared by all suites; a second run waits for the first.
# Upstream publishes no importable binaries, but the whole of Kubernetes is a module: its go.mod points
# at directories of its own repository for the parts that are modules of their own, so those are pointed
# at their published versions.
set -eu

version=${KUBERNETES_VERSION:-v1.34.4}
[ $# -gt 0 ] || set -- kube-apiserver kubectl kubelet
minor=${version#v1.} minor=${minor%.*} patch=${version##*.}
directory=${XDG_CACHE_HOME:-$HOME/.cache}/credagent-test/kubernetes-$version

missing() {
	for program; do
		[ -x "$directory/$program" ] || return 0
	done
	return 1
}

if ! missing "$@"; then
	echo "$directory"
	exit
fi
mkdir -p "$directory"
if command -v flock >/dev/null 2>&1; then
	exec 9>"$directory/.lock"
	flock -n 9 || echo "waiting until $directory is filled by somebody else" >&2
	flock 9
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
cd "$work"

export GOWORK=off CGO_ENABLED=0 GOFLAGS="-mod=mod -buildvcs=false -trimpath"
printf 'module kubernetes\n\ngo 1.24\n' >go.mod
source=$(go mod download -json "k8s.io/kubernetes@$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
{
	echo "module kubernetes"
	grep -E '^(go|godebug) ' "$source/go.mod"
	echo "require k8s.io/kubernetes $version"
	sed -n "s|^[[:space:]]*\(k8s.io/[a-z0-9-]*\) => ./staging.*|replace \1 => \1 v0.$minor.$patch|p" "$source/go.mod"
} >go.mod
cp "$source/go.sum" go.sum # pins what upstream pinned
cat >tools.go <<'GO'
//go:build tools

package tools

import (
	_ "k8s.io/kubernetes/cmd/kube-apiserver"
	_ "k8s.io/kubernetes/cmd/kubectl"
	_ "k8s.io/kubernetes/cmd/kubelet"
)
GO
go mod tidy >&2

package=k8s.io/component-base/version
stamp="-s -w -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=$minor"
for program; do
	missing "$program" || continue # built while this run waited
	echo "building $program $version; this takes minutes, once" >&2
	nice -n 19 go build -ldflags "$stamp" -o "$directory/$program.new" "k8s.io/kubernetes/cmd/$program"
	mv "$directory/$program.new" "$directory/$program" # never half there
done
echo "$directory"
