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

# What each URL has to become. A password has neither @ nor / in it: deploy.md makes them of hexadecimal digits.
in_sed="s|\\(@[^@/]*/\\)[^?]*|\\1$into|" address=''
if [[ -n $to ]]; then
    in_sed="s|@[^@/]*/|@\$HOST:5432/|"
    address="HOST=\$(gcloud sql instances describe $into --project=$PROJECT --format='value(ipAddresses[0].ipAddress)')"
fi
zone=$(zone_of_machine)

# The command that has a job execute something else than it does by itself, or just that.
execution() {
    echo "gcloud run jobs execute $1 --project=$PROJECT --region=$REGION ${2:+--args=$2 }--wait"
}

say "restored, and used by nobody yet. These commands, from the repository's folder, switch to it; docs/recovery.md (Restore"
say "Cloud SQL) says what comes before them and between them, how long it takes, and what Terraform has to be told."
{
    cat <<TEXT
$address
for name in bandicoot-owner-url bandicoot-database-url bandicoot-service-url bandicoot-dagster-storage-url; do
    url=\$(gcloud secrets versions access latest --secret=\$name --project=$PROJECT) &&
        printf %s "\$url" | sed "$in_sed" | gcloud secrets versions add \$name --data-file=- --project=$PROJECT
done
TEXT
    execution bandicoot-migrate
    # Rights do not come along with a file.
    [[ -n $to ]] || execution bandicoot-migrate database,roles
    # The lake may know what this database does not.
    execution bandicoot-run-large bandicoot,lake,reconcile
    execution bandicoot-run-large bandicoot,database,rebuild
    echo "deploy/scripts/deploy.sh --project $PROJECT --region $REGION --reload --steps 100 --pause 0 --allow-unready"
    execution bandicoot-run-large bandicoot,run
    execution bandicoot-run-large bandicoot,cache,fill
    # Stopped before the restore, or not: it reads its secrets when it starts.
    [[ -z $zone ]] || printf "gcloud compute instances %s $MACHINE --project=$PROJECT --zone=$zone\n" stop start
    execution bandicoot-run-small bandicoot,status
} | sed '/^$/d'
