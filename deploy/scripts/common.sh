# What the scripts of this folder share; sourced, never run. Each script may be run again after it was cut off: what is
# done already is found and left.
# shellcheck shell=bash

API=bandicoot-api
CODE=bandicoot-code
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

# The revision that gets all traffic, or most of it; empty when there is none.
serving_revision() {
    ask REVISION-NOW gcloud run services describe "$API" "${in_place[@]}" --format json | revision_with_most_traffic
}

revision_with_most_traffic() {
    if $dry_run; then
        cat
        return
    fi
    python3 -c '
import json, sys
traffic = json.load(sys.stdin).get("status", {}).get("traffic", [])
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
    local tag=$1 field=$2
    ask "${field}-of-${tag}" gcloud run services describe "$API" "${in_place[@]}" --format json | value_of_tag "$tag" "$field"
}

value_of_tag() {
    if $dry_run; then
        cat
        return
    fi
    python3 -c '
import json, sys
tag, field = sys.argv[1:]
traffic = json.load(sys.stdin).get("status", {}).get("traffic", [])
print(next((one.get(field, "") for one in traffic if one.get("tag") == tag), ""))' "$1" "$2"
}

image_of_revision() {
    ask IMAGE-OF-REVISION gcloud run revisions describe "$1" "${in_place[@]}" --format 'value(spec.containers[0].image)'
}

# Whether a job or service exists: the one with a GPU, and the code location on Cloud Run, are a choice.
exists() {
    local kind=$1 name=$2
    [[ -n $(ask "$name" gcloud run "$kind" list "${in_place[@]}" --filter "metadata.name=$name" --format 'value(metadata.name)') ]]
}

# Runs and code location get the image; giving it to what has it already changes nothing.
set_images_of_runs() {
    local image=$1 size
    for size in "${RUN_SIZES[@]}"; do
        if exists jobs "bandicoot-run-$size"; then
            change gcloud run jobs update "bandicoot-run-$size" "${in_place[@]}" --image "$image" || return 1
        fi
    done
    if exists services "$CODE"; then
        change gcloud run services update "$CODE" "${in_place[@]}" --image "$image" || return 1
    else
        say "the code location is on the control machine, which gets the image by: terraform apply -var image=$image"
    fi
}
