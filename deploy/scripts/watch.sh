#!/usr/bin/env bash
# Judges the newest release for as long as it is new, after deploy.sh has gone, and goes back when a trigger fires.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

usage() {
    cat <<'TEXT'
watch.sh --project P --region R [--days 14] [--dry-run]

Looks at the revision tagged `candidate` while it has traffic. Once traffic is back there is nothing to do, so it may run
as often as you like. A release that has served for --days is not taken back: what breaks then is something else.
Exit codes: 0 all is well, or there is nothing to judge; 1 a trigger has fired, traffic is back; 2 nobody could be asked,
nothing is changed; 3 wrong arguments.
TEXT
}

days=14
while (($#)); do
    common_option "$@"
    if ((used)); then
        shift "$used"
        continue
    fi
    case $1 in
        --days) days=${2:?--days needs a value} && shift 2 ;;
        --help) usage && exit 0 ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done
need_place
set_place
[[ $days =~ ^[0-9]+$ ]] || die "--days is a number of days"

candidate=$(tagged candidate revisionName)
previous=$(tagged previous revisionName)
if [[ -z $candidate || -z $previous || $candidate == "$previous" ]]; then
    say "there is no release with another before it: nothing to judge"
    exit 0
fi
if [[ $(share_of "$candidate") == 0 ]]; then
    say "$candidate has no traffic, so it is back already: nothing to judge"
    exit 0
fi
since=$(ask "$(date -u +%Y-%m-%dT%H:%M:%SZ)" gcloud run revisions describe "$candidate" "${in_place[@]}" \
    --format 'value(metadata.creationTimestamp)')
if (($(date +%s) - $(date -d "$since" +%s) > days * 86400)); then
    say "$candidate is of $since, more than $days days old: it is not taken back by itself any more"
    exit 0
fi
verdict=0
change python3 "$here/judge.py" --project "$PROJECT" --region "$REGION" --revision "$candidate" --since "$since" || verdict=$?
case $verdict in
    0) say "$candidate may stay" ;;
    1)
        say "a trigger has fired: back to $previous"
        options=(--project "$PROJECT" --region "$REGION" --revision "$previous")
        $dry_run && options+=(--dry-run)
        "$here/rollback.sh" "${options[@]}"
        exit 1
        ;;
    # A release that serves is not taken back because Google's monitoring is away; while it gets its traffic, it is.
    *) exit 2 ;;
esac
