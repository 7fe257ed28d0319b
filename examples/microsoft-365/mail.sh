#!/bin/sh
# Counts the unread mails of a mailbox: mail.sh MAILBOX [GRAPH-URL [HEADER-FILE]]
set -eu
mailbox=$1
graph=${2:-https://graph.microsoft.com}
header=${3:-/run/credagent/mail.header}

exec curl --silent --show-error --fail --max-time 30 -H "@$header" \
	"$graph/v1.0/users/$mailbox/mailFolders/inbox?\$select=unreadItemCount"
