#!/bin/sh
# Installs from Debian what `make deploy-check` runs besides Python's packages, where that is allowed; elsewhere names the
# command. What is missing all the same fails its checks, which say so.
set -eu
missing=""
need() {
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need promtool prometheus
need podman podman
need buildah buildah
need runc runc
need mmdebstrap mmdebstrap
need newuidmap uidmap
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing for the checks of deploy/"
    apt-get update -qq
    # The packages would start servers with their own settings on the usual ports.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "The checks of deploy/ need:$missing. Install them with: sudo apt-get install --no-install-recommends$missing" >&2
fi
