#!/bin/sh
# Reports each new token in a file: inotify.sh FILE. It needs inotifywait, from inotify-tools.
set -eu
directory=$(dirname "$1")
name=$(basename "$1")

use() { echo "using token $(sha256sum <"$directory/$name" | cut -d ' ' -f 1)"; }

# Watch the directory, not the file: a watch of the file ends when the file is replaced. Check the file
# only once the watch has begun, so that no change is missed between the two.
inotifywait --monitor --event moved_to --event close_write --format %f "$directory" 2>&1 |
	while read -r said; do
		case $said in
		"$name" | 'Watches established.') use ;;
		esac
	done
