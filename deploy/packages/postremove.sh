#!/bin/sh
# Runs after a removal. Only a purge removes tokens and state: the tokens are good until they expire.
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
if [ "${1:-}" = purge ]; then
	rm -rf /run/credagent /run/credagent-* /var/lib/credagent /var/lib/credagent-*
	rm -f /etc/credstore.encrypted/credagent.state-key
fi
