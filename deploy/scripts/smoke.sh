#!/usr/bin/env bash
# Asks a running service what it must answer: that it lives, that its answers are right, and that strangers get none.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

usage() {
    cat <<'TEXT'
smoke.sh --url https://... [--allow-unready] [--tries N] [--dry-run]

With --allow-unready /ready is not asked: before the first list it says 503, and that it should.
BANDICOOT_SMOKE_KEY, when set, is a key with scope read: with it the newest list is asked for, too.
Exit codes: 0 as it should be; 1 not; 3 wrong arguments.
TEXT
}

url='' allow_unready=false tries=10
while (($#)); do
    common_option "$@"
    if ((used)); then
        shift "$used"
        continue
    fi
    case $1 in
        --url) url=${2:?--url needs a value} && shift 2 ;;
        --allow-unready) allow_unready=true && shift ;;
        --tries) tries=${2:?--tries needs a value} && shift 2 ;;
        --help) usage && exit 0 ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done
[[ -n $url ]] || die "which service? Give --url"
url=${url%/}
if $dry_run; then
    $allow_unready || change curl "$url/ready"
    for path in /health /recommend; do change curl "$url$path"; done
    exit 0
fi
command -v curl >/dev/null || die "curl is not installed"

# The status of an answer; the key goes in by a file descriptor, so that no list of processes shows it.
status() {
    local path=$1 key=${2:-}
    curl --silent --show-error --output /dev/null --max-time 30 --write-out '%{http_code}' \
        --config <([[ -z $key ]] || printf 'header = "Authorization: Bearer %s"\n' "$key") "$url$path" || true
}

# A new revision may take a moment to begin.
expect() {
    local path=$1 wanted=$2 key=${3:-} found='' try
    for ((try = 1; try <= tries; try++)); do
        found=$(status "$path" "$key")
        [[ " $wanted " == *" $found "* ]] && {
            echo "$path answers $found"
            return
        }
        ((try == tries)) || sleep 2
    done
    echo "smoke.sh: $url$path answers ${found:-nothing}, expected $wanted" >&2
    exit 1
}

expect /health 200
# Its 503 before the first list would count as an error of the revision, too.
$allow_unready || expect /ready 200
expect /recommend 401
if [[ -n ${BANDICOOT_SMOKE_KEY:-} ]]; then expect "/recommend?budget=1" 200 "$BANDICOOT_SMOKE_KEY"; fi
