# What the scripts of this folder share; sourced, never run. Each script may be run again after it was cut off: what is
# done already is found and left.
# shellcheck shell=bash

API=bandicoot-api
CODE=bandicoot-code
MACHINE=bandicoot-control
RUN_SIZES=(small large gpu)

dry_run=false
PROJECT=${PROJECT:-}
REGION=${REGION:-}

die() {
    echo "$(basename "$0"): $*" >&2
    exit 3
}

say() { echo "== $*"; }

# Something that changes the world: with --dry-run it is only printed.
change() {
    if $dry_run; then
        printf 'would run:'
        printf ' %q' "$@"
        echo
    else
        "$@"
    fi
}

# Something that only reads: with --dry-run nothing is asked either, and the first argument stands for the answer.
ask() {
    local stand_in=$1
    shift
    if $dry_run; then
        {
            printf 'would ask:'
            printf ' %q' "$@"
            echo
        } >&2
        echo "$stand_in"
    else
        "$@"
    fi
}

# Options that all have. Sets `used` to how many arguments were taken, 0 when the option is another one.
# shellcheck disable=SC2034
common_option() {
    used=0
    case $1 in
        --dry-run) dry_run=true used=1 ;;
        --project) PROJECT=${2:?--project needs a value} used=2 ;;
        --region) REGION=${2:?--region needs a value} used=2 ;;
        *) ;;
    esac
}

need_place() {
    [[ -n $PROJECT ]] || die "which project? Give --project, or set PROJECT"
    [[ -n $REGION ]] || die "which region? Give --region, or set REGION"
    $dry_run || command -v gcloud >/dev/null || die "gcloud is not installed: https://cloud.google.com/sdk/docs/install"
}

in_place=()
set_place() { in_place=(--project "$PROJECT" --region "$REGION" --quiet); }

# What some Python prints of the service, as Cloud Run describes it; `given` are the arguments after it.
of_service() {
    local stand_in=$1 program=$2
    shift 2
    ask "$stand_in" gcloud run services describe "$API" "${in_place[@]}" --format json | read_service "$program" "$@"
}

read_service() {
    if $dry_run; then
        cat
        return
    fi
    local program=$1
    shift
    python3 -c "
import json, sys
status, given = json.load(sys.stdin).get('status', {}), sys.argv[1:]
traffic = status.get('traffic', [])
$program" "$@"
}

# The revision that gets all traffic, or most of it; empty when there is none.
serving_revision() {
    of_service REVISION-NOW '
shares = {}
for one in traffic:
    name = one.get("revisionName", "")
    shares[name] = shares.get(name, 0) + one.get("percent", 0)
    # A deployment that was cut off half-way: of two halves the new one is not what was there before.
    shares[name] -= 0.5 if one.get("tag") == "candidate" else 0
best = max(shares, key=shares.get, default="")
print(best if shares.get(best, 0) > 0 else "")'
}

# What a tag of the service leads to: its revision or its address.
tagged() {
    of_service "$2-of-$1" 'print(next((one.get(given[1], "") for one in traffic if one.get("tag") == given[0]), ""))' "$@"
}

# How much of the traffic a revision gets, in per cent.
share_of() {
    of_service 100 'print(sum(one.get("percent", 0) for one in traffic if one.get("revisionName") == given[0]))' "$1"
}

# The newest revision that could start, whether it gets traffic or not.
latest_revision() {
    of_service LATEST-REVISION 'print(status.get("latestReadyRevisionName", ""))'
}

image_of_revision() {
    ask IMAGE-OF-REVISION gcloud run revisions describe "$1" "${in_place[@]}" --format 'value(spec.containers[0].image)'
}

# Whether a job or service exists: the one with a GPU, and the code location on Cloud Run, are a choice.
exists() {
    local kind=$1 name=$2
    [[ -n $(ask "$name" gcloud run "$kind" list "${in_place[@]}" --filter "metadata.name=$name" --format 'value(metadata.name)') ]]
}

# Runs and code location get the image; giving it to what has it already changes nothing. What comes after the image are
# options for the code location.
set_images_of_runs() {
    local image=$1 size
    shift
    for size in "${RUN_SIZES[@]}"; do
        if exists jobs "bandicoot-run-$size"; then
            change gcloud run jobs update "bandicoot-run-$size" "${in_place[@]}" --image "$image" || return 1
        fi
    done
    if exists services "$CODE"; then
        change gcloud run services update "$CODE" "${in_place[@]}" --image "$image" "$@" || return 1
    fi
}

# Zone of the machine; empty where there is none, ZONE where whoever asks may not see machines.
zone_of_machine() {
    ask ZONE gcloud compute instances list --project "$PROJECT" --quiet --filter "name=$MACHINE" \
        --format 'value(zone.basename())' || echo ZONE
}

# Daemon, webserver, and the code location where it is beside them: who deploys may not change machines, so it is said what
# does. A machine reads its image from Terraform, and both image and secrets when it starts.
say_what_the_machine_needs() {
    local image=$1 zone
    zone=$(zone_of_machine)
    [[ -n $zone ]] || return 0
    say "the machine $MACHINE is as it was: schedules and assets are those of its image until somebody runs"
    [[ -z $image ]] ||
        echo "TF_VAR_image=$image terraform -chdir=deploy/terraform apply -var-file=PROFILE.tfvars -var-file=mine.tfvars"
    echo "gcloud compute instances reset $MACHINE --project=$PROJECT --zone=$zone"
}
