#!/usr/bin/env bash
# Prints the tags of the image of the checked-out commit: semantic version, git commit, date. One a line.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)

usage() {
    cat <<'TEXT'
image-tags.sh [--repository REGISTRY/PATH] [--allow-dirty]

  0.1.0                   the version in pyproject.toml, on the commit with the git tag v0.1.0; on any other commit
  0.1.0-dev.3f9c1a2b7d4e  a pre-release of it
  3f9c1a2b7d4e            the commit
  20261129-094500         when it was committed, in UTC

  --repository R          print R:TAG
  --allow-dirty           where files of the image are changed: tags that end with -dirty, for a trial

Each names one commit for ever, so a registry may refuse to give a tag anew. Deploy by digest all the same.
A shallow clone lacks the git tags: fetch them first.
Exit codes: 0 printed; 3 wrong arguments, or changes that no tag can name.
TEXT
}

die() {
    echo "image-tags.sh: $*" >&2
    exit 3
}

repository='' allow_dirty=false
while (($#)); do
    case $1 in
        --repository) repository=${2:?--repository needs a value} && shift 2 ;;
        --allow-dirty) allow_dirty=true && shift ;;
        --help) usage && exit 0 ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done

version=$(sed -n 's/^version = "\([0-9]*\.[0-9]*\.[0-9]*\)"$/\1/p' "$root/pyproject.toml")
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || die "pyproject.toml has no version of the form 1.2.3"
commit=$(git -C "$root" rev-parse --short=12 HEAD) || die "$root is no git repository with a commit"
date=$(TZ=UTC git -C "$root" show --no-patch --date=format-local:%Y%m%d-%H%M%S --format=%cd HEAD)

# What the image is made of; other files may come and go beside it.
made_of=(bandicoot_api bandicoot_core bandicoot_dagster constraints.txt pyproject.toml README.md .dockerignore)
made_of+=(deploy/Dockerfile deploy/dagster.yaml deploy/image)
changes=$(git -C "$root" status --porcelain -- "${made_of[@]}")
suffix=''
if [[ -n $changes ]]; then
    $allow_dirty || die "changes that no commit names; commit them, or say --allow-dirty for a trial: ${changes//$'\n'/, }"
    suffix=-dirty
fi

releases=$(git -C "$root" tag --points-at HEAD --list 'v[0-9]*')
if [[ -z $releases ]]; then
    version+=-dev.$commit
elif ! grep --quiet --line-regexp --fixed-strings "v$version" <<<"$releases"; then
    die "the commit is tagged ${releases//$'\n'/, }, and pyproject.toml says $version; they have to agree"
fi

for tag in "$version" "$commit" "$date"; do
    echo "${repository:+$repository:}$tag$suffix"
done
