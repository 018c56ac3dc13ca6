#!/usr/bin/env bash
# Brings an image, or new settings for the one that serves, into production: backup, migration, runs, then traffic in
# steps, each judged; back by itself.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=common.sh
source "$here/common.sh"

usage() {
    cat <<'TEXT'
deploy.sh --project P --region R --image REGISTRY/PATH@sha256:DIGEST [options]
deploy.sh --project P --region R --reload [options]

  --reload               the image that serves, with the settings that Terraform has given the service since and the
                         secrets as they are now; nothing is migrated. Terraform makes revisions, but moves no traffic
  --steps 10,25,50,100   shares of traffic, in per cent
  --pause SECONDS        how long each step is watched before it is judged (default 900)
  --backup-instance NAME Cloud SQL instance that is backed up before the migration; without it nothing is
  --allow-unready        before the first list: /ready is not asked
  --dry-run              print what would be done

Exit codes: 0 deployed, or there already; 1 not healthy, traffic is back where it was; 3 wrong arguments.
TEXT
}

image='' reload=false steps=10,25,50,100 pause=900 backup_instance='' smoke_options=()
while (($#)); do
    common_option "$@"
    if ((used)); then
        shift "$used"
        continue
    fi
    case $1 in
        --image) image=${2:?--image needs a value} && shift 2 ;;
        --reload) reload=true && shift ;;
        --steps) steps=${2:?--steps needs a value} && shift 2 ;;
        --pause) pause=${2:?--pause needs a value} && shift 2 ;;
        --backup-instance) backup_instance=${2:?--backup-instance needs a value} && shift 2 ;;
        --allow-unready) smoke_options+=(--allow-unready) && shift ;;
        --help) usage && exit 0 ;;
        *) usage >&2 && die "unknown argument $1" ;;
    esac
done
need_place
set_place
$reload && [[ -n $image ]] && die "give --image or --reload, not both: what is loaded again is the image that serves"
$reload || [[ $image =~ @sha256:[0-9a-f]{64}$ ]] ||
    die "--image has to end with @sha256:DIGEST: a tag may mean another image tomorrow"
[[ $steps =~ ^([0-9]+,)*100$ ]] || die "--steps are numbers that end with 100, as 10,25,50,100"
[[ $pause =~ ^[0-9]+$ ]] || die "--pause is a number of seconds"
$dry_run && smoke_options+=(--dry-run)

before=$(serving_revision)
code_location_options=()
if $reload; then
    [[ -n $before ]] || die "nothing serves yet, so nothing can be loaded again: deploy an image"
    image=$(image_of_revision "$before")
    [[ -n $image ]] || die "$before names no image; deploy one with --image"
    label=loaded-again=$(date -u +%Y%m%d-%H%M%S)
    # The code location reads secrets when it starts.
    code_location_options=(--update-labels "$label")
    latest=$(latest_revision)
    # After a rollback the latest is the release that was taken back: never that one.
    if [[ -n $latest && $latest != "$before" && $(image_of_revision "$latest") == "$image" ]]; then
        say "$latest has the image of $before and newer settings"
        change gcloud run services update-traffic "$API" "${in_place[@]}" --update-tags "candidate=$latest"
    else
        say "new revision of the image of $before without traffic"
        change gcloud run services update "$API" "${in_place[@]}" --image "$image" --update-labels "$label" \
            --no-traffic --tag candidate
    fi
else
    if [[ -n $before && $(image_of_revision "$before") == "$image" ]]; then
        say "$before serves this image already; new settings or secrets get traffic with --reload"
        set_images_of_runs "$image"
        say_what_the_machine_needs "$image"
        exit 0
    fi

    if [[ -n $backup_instance ]]; then
        say "backup"
        backup_options=(--project "$PROJECT" --region "$REGION" --instance "$backup_instance")
        $dry_run && backup_options+=(--dry-run)
        "$here/backup.sh" "${backup_options[@]}"
    fi

    # The old release goes on answering on the new schema: a migration is compatible with the release before.
    say "migration"
    change gcloud run jobs update bandicoot-migrate "${in_place[@]}" --image "$image"
    change gcloud run jobs execute bandicoot-migrate "${in_place[@]}" --wait

    say "new revision without traffic"
    change gcloud run services update "$API" "${in_place[@]}" --image "$image" --no-traffic --tag candidate
fi
candidate=$(tagged candidate revisionName)
address=$(tagged candidate url)
[[ -n $candidate && -n $address ]] || die "no revision is tagged candidate; traffic is where it was"

back() {
    say "going back: $1"
    if [[ -z $before ]]; then
        say "there is no revision before this one: traffic stays where it is"
        exit 1
    fi
    local options=(--project "$PROJECT" --region "$REGION" --revision "$before")
    $dry_run && options+=(--dry-run)
    "$here/rollback.sh" "${options[@]}"
    exit 1
}

"$here/smoke.sh" --url "$address" "${smoke_options[@]}" || back "the new revision fails the smoke test"

say "runs and code location"
set_images_of_runs "$image" "${code_location_options[@]}" || back "runs could not be given the image"

since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
if [[ -z $before ]]; then
    steps=100 # there is nobody to share traffic with
else
    change gcloud run services update-traffic "$API" "${in_place[@]}" --update-tags "previous=$before"
fi
for share in ${steps//,/ }; do
    say "$share % of traffic"
    to=("$candidate=$share")
    ((share == 100)) || to+=("$before=$((100 - share))")
    change gcloud run services update-traffic "$API" "${in_place[@]}" --to-revisions "$(IFS=, && echo "${to[*]}")" \
        || back "traffic could not be moved"
    change sleep "$pause"
    "$here/smoke.sh" --url "$address" "${smoke_options[@]}" || back "the smoke test fails at $share %"
    change python3 "$here/judge.py" --project "$PROJECT" --region "$REGION" --revision "$candidate" \
        --window "$((pause > 900 ? pause : 900))" --since "$since" || back "the triggers fire at $share %"
    # Whoever takes traffic back meanwhile, by hand or by watch.sh, does not get it overruled by the next step.
    if ! $dry_run && [[ $(share_of "$candidate") != "$share" ]]; then
        echo "deploy.sh: somebody has moved traffic away from $candidate meanwhile; it stays as it is" >&2
        exit 1
    fi
done
say "$candidate serves $image"
if $reload; then say_what_the_machine_needs ''; else say_what_the_machine_needs "$image"; fi
