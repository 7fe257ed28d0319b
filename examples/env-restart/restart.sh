#!/bin/sh
# Runs a service with the variables of an env file, and restarts it whenever the file is replaced:
#
#     restart.sh ENV-FILE COMMAND [ARGUMENT]...
#
# It exits with the service's status when the service ends by itself. A service that should finish its
# work before a restart is better notified with a signal.
set -eu
file=$1
shift

# A replaced file has another inode or another time (in nanoseconds).
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
		wait "$service" # it ended by itself, so exit too
		exit
	fi
	kill "$service" 2>/dev/null || :
	wait "$service" || :
done
