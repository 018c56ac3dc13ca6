#!/usr/bin/env bash
# Gives all traffic back to the revision before, and runs their image. The schema stays: it serves both releases.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

usage() {
    cat <<'TEXT'
rollback.sh --project P --region R [--revision NAME] [--dry-run]

Without --revision, to the one that deploy.sh has tagged `previous`.
Exit codes: 0 traffic is there; 1 there is nothing to go back to; 3 wrong arguments.
TEXT
}

revision=''
while (($#)); do
    common_option "$@"
    if ((used)); then
        shift "$used"
        continue
    fi
    case $1 in
        --revision) revision=${2:?--revision needs a value} && shift 2 ;;
        --help) usage && exit 0 ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done
need_place
set_place
[[ -n $revision ]] || revision=$(tagged previous revisionName)
if [[ -z $revision ]]; then
    echo "rollback.sh: no revision is tagged previous; name one: gcloud run revisions list --service $API" >&2
    exit 1
fi
# Traffic first: people wait for it.
say "all traffic to $revision"
change gcloud run services update-traffic "$API" "${in_place[@]}" --to-revisions "$revision=100"
image=$(image_of_revision "$revision")
[[ -n $image ]] || die "$revision names no image; runs keep the image that they have"
say "runs and code location"
set_images_of_runs "$image"
say_what_the_machine_needs "$image"
