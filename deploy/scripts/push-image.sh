#!/usr/bin/env bash
# Gets the image of the checked-out commit into the registry, once: one that is there already is taken as it is.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
    cat <<'TEXT'
push-image.sh --repository REGISTRY/PATH --base IMAGE@sha256:DIGEST --sbom FOLDER [--allow-dirty] [--dry-run]

Tags are given once and for ever, and no two builds are the same: a second build of a commit could not be pushed. So where
REGISTRY/PATH:COMMIT exists, its digest is taken, and tags that were not given any more before are given now. The bill of
materials is written into FOLDER either way. With --allow-dirty, for a trial, a tree with changes has tags that say so. Docker has to be signed in (gcloud auth configure-docker).
Prints REGISTRY/PATH@sha256:DIGEST and nothing else on standard output. Exit codes: 0 it is there; 3 wrong arguments.
TEXT
}

die() {
    echo "push-image.sh: $*" >&2
    exit 3
}

change() {
    if $dry_run; then
        {
            printf 'would run:'
            printf ' %q' "$@"
            echo
        } >&2
    else
        "$@" >&2
    fi
}

# Empty where there is no such tag.
digest_of() {
    if $dry_run; then return; fi
    gcloud artifacts docker images describe "$1" --format 'value(image_summary.digest)' 2>/dev/null || true
}

repository='' base='' sbom='' dry_run=false dirty=()
while (($#)); do
    case $1 in
        --repository) repository=${2:?--repository needs a value} && shift 2 ;;
        --base) base=${2:?--base needs a value} && shift 2 ;;
        --sbom) sbom=${2:?--sbom needs a value} && shift 2 ;;
        --allow-dirty) dirty=(--allow-dirty) && shift ;;
        --dry-run) dry_run=true && shift ;;
        --help) usage && exit 0 ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done
[[ -n $repository && -n $base && -n $sbom ]] || die "give --repository, --base and --sbom"

names=$("$here/image-tags.sh" --repository "$repository" "${dirty[@]}")
mapfile -t names <<<"$names"
by_commit=${names[1]}
build=("$here/build-image.sh" --repository "$repository" --base "$base" --sbom "$sbom" "${dirty[@]}")
digest=$(digest_of "$by_commit")
if [[ -n $digest ]]; then
    echo "push-image.sh: $by_commit is there already: $digest" >&2
    change docker pull "$repository@$digest"
    change "${build[@]}" --only-sbom-of "$repository@$digest"
    for name in "${names[@]}"; do
        [[ -n $(digest_of "$name") ]] || change gcloud artifacts docker tags add "$repository@$digest" "$name" --quiet
    done
else
    change "${build[@]}"
    # The commit first: with it a push that was cut off is found again.
    change docker push "$by_commit"
    for name in "${names[@]}"; do
        [[ $name == "$by_commit" ]] || change docker push "$name"
    done
    if $dry_run; then digest=sha256:DIGEST; else digest=$(digest_of "$by_commit"); fi
    [[ -n $digest ]] || die "the registry does not say which digest $by_commit has"
fi
echo "$repository@$digest"
