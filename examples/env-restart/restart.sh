#!/bin/sh
# Runs a service with the variables of an env file, and starts it anew whenever the file was replaced:
#
#     restart.sh ENV-FILE COMMAND [ARGUMENT]...
#
# It ends, with the service's status, when the service ends by itself. Anything that can wait for a
# restart until it has nothing to do is better told by a signal.
set -eu
file=$1
shift

# A replaced file is another file: the inode or the time differs, to the nanosecond.
stamp() { stat -c '%i %y' "$file"; }

service=
trap 'test -z "$service" || kill "$service" 2>/dev/null; exit 143' TERM INT

while :; do
	seen=$(stamp)
	(
		set -a
		. "$file"
		set +a
		exec "$@"
	) &
	service=$!
	while kill -0 "$service" 2>/dev/null && [ "$(stamp)" = "$seen" ]; do
		sleep 1
	done
	if [ "$(stamp)" = "$seen" ]; then
		wait "$service" # it ended by itself, and so does this
		exit
	fi
	kill "$service" 2>/dev/null || :
	wait "$service" || :
done
