#!/bin/sh
# Builds kubelet, kube-apiserver and kubectl from their Go module, once, and prints the directory they are in.
#
#     build-kubernetes.sh [DIRECTORY]
#
# The directory is the user's cache unless one is given. Upstream publishes no importable binaries,
# but the whole of Kubernetes is a module: its go.mod points at directories of its own repository
# for the parts that are modules of their own, so those are pointed at their published versions.
set -eu

minor=34
patch=4
version=v1.$minor.$patch
directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/credagent-test/kubernetes-$version}

if [ -x "$directory/kubelet" ] && [ -x "$directory/kube-apiserver" ] && [ -x "$directory/kubectl" ]; then
	echo "$directory"
	exit
fi
mkdir -p "$directory"
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
for program in kubelet kube-apiserver kubectl; do
	if [ -x "$directory/$program" ]; then continue; fi
	echo "building $program $version; this takes minutes, once" >&2
	nice -n 19 go build -ldflags "$stamp" -o "$directory/$program.new" "k8s.io/kubernetes/cmd/$program"
	mv "$directory/$program.new" "$directory/$program" # never half there
done
echo "$directory"
