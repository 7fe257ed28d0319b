#!/bin/sh
# Finds sites of SharePoint: sites.sh WORD [GRAPH-URL [TOKEN-FILE]]
set -eu
word=$1
graph=${2:-https://graph.microsoft.com}
token=${3:-/run/credagent/sites.token}

# The token goes to curl by a pipe: an argument could be seen by every user of the machine.
printf 'header = "Authorization: Bearer %s"\n' "$(cat "$token")" |
	curl --silent --show-error --fail --max-time 30 --config - "$graph/v1.0/sites?search=$word"
