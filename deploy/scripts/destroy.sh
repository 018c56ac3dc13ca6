#!/usr/bin/env bash
# Takes the installation down: a last backup, protection off, then Terraform's destroy.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

usage() {
    cat <<'TEXT'
destroy.sh --project P --region R --confirm P --var-file FILE... [--instance NAME --bucket gs://BUCKET] [--dry-run]

--confirm repeats the project's name; --var-file may be given several times, as to terraform apply. With --instance its database is copied to --bucket first; that bucket must not be
one of Terraform's own, since those go, too. A bucket with locked retention refuses until its time is over.
TEXT
}

confirm='' var_files=() instance='' bucket=''
while (($#)); do
    common_option "$@"
    if ((used)); then
        shift "$used"
        continue
    fi
    case $1 in
        --confirm) confirm=${2:?--confirm needs a value} && shift 2 ;;
        --var-file) var_files+=("${2:?--var-file needs a value}") && shift 2 ;;
        --instance) instance=${2:?--instance needs a value} && shift 2 ;;
        --bucket) bucket=${2:?--bucket needs a value} && shift 2 ;;
        --help) usage && exit 0 ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done
need_place
[[ $confirm == "$PROJECT" ]] || die "this removes Bandicoot from $PROJECT: repeat the name with --confirm $PROJECT"
((${#var_files[@]})) || die "which variables? Give --var-file for each file that terraform apply was given"
in_terraform=()
for var_file in "${var_files[@]}"; do
    $dry_run || [[ -r $var_file ]] || die "$var_file cannot be read"
    [[ $var_file == /* ]] || var_file=$PWD/$var_file
    in_terraform+=(-var-file "$var_file")
done
$dry_run || command -v terraform >/dev/null || die "terraform is not installed"
if [[ -n $instance ]]; then
    [[ -n $bucket ]] || die "give --bucket: a backup of the instance goes with the instance"
    [[ $bucket != "gs://$PROJECT-bandicoot-"* ]] || die "$bucket is one of Terraform's own and goes, too: name another"
    options=(--project "$PROJECT" --region "$REGION" --instance "$instance" --bucket "$bucket")
    $dry_run && options+=(--dry-run)
    "$here/backup.sh" "${options[@]}"
fi
in_terraform+=(-var "project=$PROJECT" -var "region=$REGION" -var is_protected=false)
change terraform "-chdir=$here/../terraform" apply -input=false -auto-approve "${in_terraform[@]}"
change terraform "-chdir=$here/../terraform" destroy -input=false -auto-approve "${in_terraform[@]}"
