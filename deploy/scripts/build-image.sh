#!/usr/bin/env bash
# Builds the image of the checked-out commit, with its tags and labels, and its bill of materials if asked.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

usage() {
    cat <<'TEXT'
build-image.sh --repository REGISTRY/PATH --base IMAGE@sha256:DIGEST [options] [-- OPTIONS OF THE BUILDER]

  --builder docker        what builds: docker (the default) or buildah
  --extras api,gcs,pubsub what of pyproject.toml's extras the image has; without it, what deploy/Dockerfile says
  --sbom FOLDER           also write FOLDER/bandicoot.cdx.json, the bill of materials (CycloneDX)
  --only-sbom-of IMAGE    build nothing: the bill of an image that is there, with --sbom
  --source URL            the label org.opencontainers.image.source
  --pip-conf FILE         a pip.conf for an index of your own; it is in no layer
  --allow-unpinned        take a base without a digest, for a trial
  --allow-dirty           build a tree with changes; its tags say so
  --dry-run               print what would be done

A base of today and its digest: docker buildx imagetools inspect python:3.11-slim-bookworm --format '{{.Manifest.Digest}}'
Prints the names of the image, one a line, and nothing else on standard output. Nothing is pushed.
Exit codes: 0 built; 3 wrong arguments, or changes that no tag can name.
TEXT
}

die() {
    echo "build-image.sh: $*" >&2
    exit 3
}

run() {
    if $dry_run; then
        printf 'would run:'
        printf ' %q' "$@"
        echo
    else
        "$@" >&2
    fi
}

repository='' base='' builder=docker extras='' sbom='' of='' source='' pip_conf='' allow_unpinned=false dry_run=false
tag_options=()
while (($#)); do
    case $1 in
        --repository) repository=${2:?--repository needs a value} && shift 2 ;;
        --base) base=${2:?--base needs a value} && shift 2 ;;
        --builder) builder=${2:?--builder needs a value} && shift 2 ;;
        --extras) extras=${2:?--extras needs a value} && shift 2 ;;
        --sbom) sbom=${2:?--sbom needs a value} && shift 2 ;;
        --only-sbom-of) of=${2:?--only-sbom-of needs a value} && shift 2 ;;
        --source) source=${2:?--source needs a value} && shift 2 ;;
        --pip-conf) pip_conf=${2:?--pip-conf needs a value} && shift 2 ;;
        --allow-unpinned) allow_unpinned=true && shift ;;
        --allow-dirty) tag_options+=(--allow-dirty) && shift ;;
        --dry-run) dry_run=true && shift ;;
        --help) usage && exit 0 ;;
        --) shift && break ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done
[[ -n $repository ]] || die "--repository is missing"
[[ -n $base ]] || die "--base is missing"
$allow_unpinned || [[ $base =~ @sha256:[0-9a-f]{64}$ ]] ||
    die "--base has to end with @sha256:DIGEST: a tag may mean another base tomorrow"
[[ -z $of || -n $sbom ]] || die "--only-sbom-of needs --sbom, the folder"
case $builder in
    # OCI's own format has no healthcheck.
    buildah) build=(buildah build --format docker) ;;
    docker) build=(docker build) ;;
    *) die "--builder is docker or buildah, not $builder" ;;
esac

tags=$("$here/image-tags.sh" "${tag_options[@]}")
mapfile -t tags <<<"$tags"
[[ -z $pip_conf ]] || build+=(--secret "id=pip,src=$pip_conf")
build+=("$@")

arguments=(--build-arg "BASE_IMAGE=$base")
[[ -z $extras ]] || arguments+=(--build-arg "EXTRAS=$extras")
for tag in "${tags[@]}"; do arguments+=(--tag "$repository:$tag"); done
created=$(TZ=UTC git -C "$root" show --no-patch --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd HEAD)
if [[ -z $of ]]; then
    run "${build[@]}" --file "$root/deploy/Dockerfile" "${arguments[@]}" \
        --build-arg "VERSION=${tags[0]}" \
        --build-arg "REVISION=$(git -C "$root" rev-parse HEAD)" \
        --build-arg "CREATED=$created" \
        --build-arg "SOURCE=$source" \
        "$root"
fi
if [[ -n $sbom ]]; then
    run "${build[@]}" --file "$root/deploy/image/sbom.Dockerfile" --build-arg "IMAGE=${of:-$repository:${tags[0]}}" \
        --output "type=local,dest=$sbom" "$root"
fi
printf '%s\n' "${tags[@]/#/$repository:}"
