#!/bin/sh
# Installs Debian's PostgreSQL, PgBouncer and Redis, and a C compiler, where that is allowed; elsewhere names the command.
# The tests start servers of their own on free ports; nothing is started or left running here.
set -eu
missing=""
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
PATH="$PATH:/usr/sbin"
command -v pgbouncer >/dev/null 2>&1 || missing="$missing pgbouncer"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
# The clock that tests move is a few lines of C.
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing for the tests on real servers"
    apt-get update -qq
    # The packages would start servers with their own settings on the usual ports.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
else
    echo "The tests on real servers need:$missing. Install them with: sudo apt-get install$missing" >&2
fi
