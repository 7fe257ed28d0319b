#!/bin/sh
# Runs after an installation and after an upgrade, of a .deb and of an .rpm alike.
set -e

systemd-sysusers credagent.conf
systemd-tmpfiles --create credagent.conf || true # in a container that is being built there may be no /run

# Nothing is enabled or started: there is no configuration yet. A running agent is restarted with the new
# version, without waiting for it: while the server is unreachable it does not become ready.
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	systemctl --no-block try-restart credagent.service 'credagent@*.service'
fi
