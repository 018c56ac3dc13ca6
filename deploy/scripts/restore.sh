#!/usr/bin/env bash
# Brings PostgreSQL back to a point in time, or a copy from a bucket: always beside what is there, never over it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

usage() {
    cat <<'TEXT'
restore.sh --project P --region R --instance NAME --to 2026-11-28T21:00:00Z --into NEW-INSTANCE [--dry-run]
restore.sh --project P --region R --instance NAME --from gs://BUCKET/FILE.sql.gz --into NEW-DATABASE [--dry-run]

The first makes a new instance as the old one was at that moment; the second a new database in the same instance.
Nothing uses it until the secrets with the databases' addresses name it.
TEXT
}

instance='' to='' from='' into=''
while (($#)); do
    common_option "$@"
    if ((used)); then
        shift "$used"
        continue
    fi
    case $1 in
        --instance) instance=${2:?--instance needs a value} && shift 2 ;;
        --to) to=${2:?--to needs a value} && shift 2 ;;
        --from) from=${2:?--from needs a value} && shift 2 ;;
        --into) into=${2:?--into needs a value} && shift 2 ;;
        --help) usage && exit 0 ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done
need_place
[[ -n $instance && -n $into ]] || die "give --instance and --into"
[[ -n $to || -n $from ]] || die "give --to, a moment, or --from, a file"
[[ -z $to || -z $from ]] || die "give --to or --from, not both"
[[ $into != "$instance" && $into != bandicoot ]] || die "--into names what is there: restore beside it, then change the secrets"
in_project=(--project "$PROJECT" --quiet)
if [[ -n $to ]]; then
    [[ $to =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z$ ]] \
        || die "--to is a moment in UTC, as 2026-11-28T21:00:00Z"
    found=$(ask '' gcloud sql instances list "${in_project[@]}" --filter "name=$into" --format 'value(name)')
    if [[ -n $found ]]; then
        say "instance $into is there already"
    else
        change gcloud sql instances clone "$instance" "$into" --point-in-time "$to" "${in_project[@]}"
    fi
else
    [[ $from == gs://* ]] || die "--from is gs://BUCKET/FILE"
    found=$(ask '' gcloud sql databases list --instance "$instance" "${in_project[@]}" --filter "name=$into" --format 'value(name)')
    # A database that is there may be half filled: an import that was cut off is not continued.
    [[ -z $found ]] || die "database $into is there already; drop it (gcloud sql databases delete) or name another"
    change gcloud sql databases create "$into" --instance "$instance" "${in_project[@]}"
    change gcloud sql import sql "$instance" "$from" --database "$into" "${in_project[@]}"
fi
say "restored. Roles do not come along with a file: run \`bandicoot database roles\` there. Then point the secrets at it and"
say "deploy the same image again (a new revision reads them). The lake may know what this database does not: see docs/recovery.md,"
say "run \`bandicoot lake reconcile --dry-run\` and \`bandicoot database rebuild --dry-run\`, then \`bandicoot status\`."
