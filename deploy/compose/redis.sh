#!/bin/sh
# Redis with the password from its environment, which no command line shows.
set -eu
{ cat "$1"; printf '\nrequirepass "%s"\n' "$BANDICOOT_REDIS_PASSWORD"; } | exec redis-server -
