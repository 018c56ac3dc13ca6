#!/bin/sh
# PgBouncer with the users whose passwords are in its environment. What it knows of them stays in memory (/tmp is tmpfs).
set -eu
umask 077
printf '"%s" "%s"\n' \
    pipeline "$BANDICOOT_PIPELINE_PASSWORD" \
    service "$BANDICOOT_SERVICE_PASSWORD" \
    bandicoot_dagster "$BANDICOOT_DAGSTER_PASSWORD" >/tmp/userlist.txt
exec pgbouncer "$1"
