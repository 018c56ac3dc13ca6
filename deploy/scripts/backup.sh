#!/usr/bin/env bash
# A backup of the Cloud SQL instance besides the nightly ones, and a copy of one database in a bucket.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

usage() {
    cat <<'TEXT'
backup.sh --project P --region R --instance NAME [--database NAME --bucket gs://BUCKET] [--dry-run]

With --bucket the database (default bandicoot) is also exported there, as .sql.gz, which outlives the instance.
The lake needs none of this: its bucket keeps what was deleted (docs/deploy.md).
TEXT
}

instance='' database=bandicoot bucket=''
while (($#)); do
    common_option "$@"
    if ((used)); then
        shift "$used"
        continue
    fi
    case $1 in
        --instance) instance=${2:?--instance needs a value} && shift 2 ;;
        --database) database=${2:?--database needs a value} && shift 2 ;;
        --bucket) bucket=${2:?--bucket needs a value} && shift 2 ;;
        --help) usage && exit 0 ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done
need_place
[[ -n $instance ]] || die "which Cloud SQL instance? Give --instance"
[[ -z $bucket || $bucket == gs://* ]] || die "--bucket is gs://BUCKET"
at=$(date -u +%Y%m%dT%H%M%SZ)
change gcloud sql backups create --instance "$instance" --project "$PROJECT" --quiet \
    --description "bandicoot $at"
if [[ -n $bucket ]]; then
    change gcloud sql export sql "$instance" "${bucket%/}/$database-$at.sql.gz" --database "$database" --offload \
        --project "$PROJECT" --quiet
fi
