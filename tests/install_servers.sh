#!/bin/sh
# Installs Debian's PostgreSQL, PgBouncer and Redis, a C compiler, and Azurite from npm's registry, where that is allowed;
# elsewhere names the command. The tests start servers of their own on free ports; nothing is started or left running here.
set -eu
# The last release that Debian's Node can run.
azurite=azurite@3.35.0
missing=""
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
PATH="$PATH:/usr/sbin"
command -v pgbouncer >/dev/null 2>&1 || missing="$missing pgbouncer"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
# The clock that tests move is a few lines of C.
command -v cc >/dev/null 2>&1 || missing="$missing gcc libc6-dev"
if ! command -v azurite-blob >/dev/null 2>&1; then
    command -v node >/dev/null 2>&1 || missing="$missing nodejs"
    command -v npm >/dev/null 2>&1 || missing="$missing npm"
fi
if [ -n "$missing" ]; then
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
fi
command -v azurite-blob >/dev/null 2>&1 && exit 0
if command -v npm >/dev/null 2>&1 && [ -w "$(npm prefix --global)/lib" ]; then
    echo "Installing $azurite for the tests on Azure Blob Storage"
    # Nothing of it is compiled, and none of its packages runs anything, while it is installed.
    npm install --global --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error "$azurite" >/dev/null &&
        exit 0
fi
echo "The tests on Azure Blob Storage need Azurite. Install it with: sudo npm install --global --ignore-scripts $azurite" >&2
