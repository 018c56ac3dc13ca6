"""The command `bandicoot forget CAREGIVER_ID`: removes a caregiver from every store, for good.

What is removed, in which order, and what is kept instead belongs to bandicoot_core.pipeline.forgetting; the runs in
which somebody asked about her, to asked_runs.
"""

from collections.abc import Mapping

import click

from bandicoot_core.settings import load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.logs import say
from bandicoot_dagster.opening import open_installation

_ELSEWHERE = (
    "Not reached from here, and yours to see to: backups, WAL archives and replicas of the databases; versions that a "
    "bucket keeps of replaced objects; files that were written from lists; and the source, which still has her. "
    "Deleted rows leave the server's files when it vacuums them."
)


@click.command()
@click.argument("caregiver_id", metavar="CAREGIVER_ID")
@click.option("--requested-by", metavar="NAME", help="Who asks, for the record; needed unless --dry-run.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for the record; name nobody.")
@click.option("--dry-run", is_flag=True, help="Only say how many rows there are of her.")
def forget(caregiver_id: str, requested_by: str | None, reason: str, dry_run: bool) -> None:
    """Remove a caregiver from the lake, the published tables, the cache and runs that asked about her, for good.

    A record without her identity stays. When it ends early, the same command finishes the job.
    """
    if not dry_run and not (requested_by or "").strip():
        raise click.UsageError("--requested-by says who asks, for the record; or look first with --dry-run")
    for name, value in (("--requested-by", requested_by), ("--reason", reason)):
        if value and caregiver_id.strip() and caregiver_id in value:
            raise click.UsageError(f"{name} names the caregiver; the record must not")

    from bandicoot_core.pipeline.forgetting import find_caregiver, forget_caregiver
    from bandicoot_core.stores.published.forgettings import add_removed_rows
    from bandicoot_dagster.asked_runs import PLACE, asked_about, forget_asked
    from bandicoot_dagster.dagster_home import open_instance

    installation = open_installation(load_settings())
    if dry_run:
        found = dict(find_caregiver(installation, caregiver_id))
        with open_instance(installation) as instance:
            n_runs = len(asked_about(instance, installation.dagster_storage_url, caregiver_id))
        _say_rows(found | ({PLACE: n_runs} if n_runs else {}), "nothing is known of this caregiver")
        click.echo("nothing was changed")
        return
    record = forget_caregiver(
        installation, caregiver_id, requested_by=(requested_by or "").strip(), reason=reason, clock=system_clock
    )
    with open_instance(installation) as instance, installation.published() as connection:
        n_runs = forget_asked(instance, installation.dagster_storage_url, caregiver_id)
        add_removed_rows(connection, record.suppression_hash, PLACE, n_runs)
    before = record.removed_rows.get(PLACE, 0)
    removed = {**record.removed_rows, **({PLACE: before + n_runs} if before + n_runs else {})}
    _say_rows(removed, "nothing was found of this caregiver")
    click.echo(f"forgotten and suppressed; the record in bandicoot.forgettings is {record.suppression_hash}")
    say(_ELSEWHERE)


def _say_rows(rows: Mapping[str, int], otherwise: str) -> None:
    for place, n_rows in sorted(rows.items()):
        click.echo(f"{place:<36} {n_rows:>10,}")
    if not rows:
        click.echo(otherwise)
