#!/bin/sh
# Runs before a removal, and before an upgrade, during which the agent keeps running.
set -e

case "${1:-}" in
remove | 0) ;; # the arguments of dpkg and rpm for a removal
*) exit 0 ;;
esac
if [ -d /run/systemd/system ]; then
	for unit in $(systemctl list-units --all --plain --no-legend \
		credagent.service 'credagent@*.service' 'credagent-reload@*.path' | cut -d ' ' -f 1); do
		systemctl disable --now "$unit"
	done
fi
