"""The commands `bandicoot lake verify | repair | expire | reconcile`: whether the lake is sound, mending it, keeping it
small, and bringing it in line with a restored database.

Each command is a few lines over the lake. What may go belongs to bandicoot_core.pipeline.retention.
"""

from typing import TYPE_CHECKING

import click

from bandicoot_core.calendar import day_of, parse_day
from bandicoot_core.errors import CorruptPartitionError, InvalidInputError
from bandicoot_core.settings import load_list_options, load_model_options, load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.opening import open_installation

if TYPE_CHECKING:
    from bandicoot_core.stores.installation import Installation

_JOBS = ("source_history", "registry", "nightly", "weekly_training", "daily_list", "evaluation")


@click.group()
def lake() -> None:
    """The lake: verify what it holds, repair it, expire what is old, reconcile it with a restored database."""


@lake.command()
@click.option("--asset", help="Only this asset.")
@click.option("--from", "first", metavar="DATE", help="Only partitions from this day on (YYYY-MM-DD).")
@click.option("--to", "last", metavar="DATE", help="Only partitions up to this day (YYYY-MM-DD).")
def verify(asset: str | None, first: str | None, last: str | None) -> None:
    """Read every file and compare it with what was written; name what is corrupt and the command that repairs it."""
    from bandicoot_core.stores.installation import Installation

    low = parse_day(first, name="--from").isoformat() if first else ""
    high = parse_day(last, name="--to").isoformat() if last else "~"
    found = Installation(load_settings()).lake
    if asset is not None and asset not in found.assets():
        raise InvalidInputError(f"--asset {asset}: the lake has no such asset; it has {', '.join(found.assets())}")
    n_partitions, corrupt = 0, []
    for name in [asset] if asset else found.assets():
        for partition in found.partitions(name):
            if low <= partition[:10] <= high:
                n_partitions += 1
                problems = found.verify(name, partition)
                for problem in problems:
                    click.echo(str(problem))
                if problems:
                    corrupt.append((name, partition))
                    click.echo(f"  repair it:  bandicoot lake repair {name} {partition}")
    if corrupt:
        raise CorruptPartitionError(
            f"{len(corrupt)} of {n_partitions} partitions are corrupt; repair those that others are made from first"
        )
    click.echo(f"{n_partitions} partitions are what was written")


@lake.command()
@click.argument("asset")
@click.argument("partition")
def repair(asset: str, partition: str) -> None:
    """Make one partition again from what it is made from; the same input gives the same bytes."""
    repair_partition(open_installation(load_settings()), asset, partition)
    click.echo(f"{asset}/{partition} was made again")


@lake.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def expire(dry_run: bool) -> None:
    """Remove partitions older than BANDICOOT_KEEP_DAYS and BANDICOOT_KEEP_WEEKS that nothing needs any more."""
    from bandicoot_core.pipeline.retention import expired_partitions, remove_expired

    settings = load_settings()
    if settings.keep_days is None and settings.keep_weeks is None:
        click.echo("everything is kept; set BANDICOOT_KEEP_DAYS or BANDICOOT_KEEP_WEEKS to let old partitions go")
        return
    installation = open_installation(settings)
    with installation.published() as connection:
        expired = expired_partitions(
            installation.lake,
            connection,
            day_of(system_clock()),
            settings=settings,
            list_options=load_list_options(),
            model_options=load_model_options(),
        )
    for each in expired:
        click.echo(f"{each.asset}/{each.partition}  {each.n_bytes:,} bytes")
    if not dry_run:
        remove_expired(installation.lake, expired)
    n_bytes = sum(each.n_bytes for each in expired)
    click.echo(f"{len(expired)} partitions, {n_bytes:,} bytes {'would go' if dry_run else 'removed'}")


@lake.command()
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def reconcile(dry_run: bool) -> None:
    """Take out what the lake knows of caregivers whose keys a restored database has lost; a run reads them again."""
    from bandicoot_core.pipeline.unknown_keys import drop_unknown_keys, find_unknown_keys

    installation = open_installation(load_settings())
    with installation.published() as connection:
        found = find_unknown_keys(connection, installation.lake)
    for each in found:
        click.echo(f"{each.asset}/{each.partition}{': only rows with unknown keys' if each.is_kept else ''}")
    if not dry_run:
        drop_unknown_keys(installation, found)
    if not found:
        click.echo("the database knows every key of the lake")
        return
    click.echo(f"{len(found)} partitions {'would go' if dry_run else 'have gone; `bandicoot run` makes them again'}")


def repair_partition(installation: "Installation", asset: str, partition: str) -> None:
    """Materialize one partition by the job that has it; InvalidInputError when no job has the asset."""
    from bandicoot_core.pipeline.bundles import BUNDLES
    from bandicoot_dagster.catch_up import run_config_of
    from bandicoot_dagster.dagster_home import open_instance
    from bandicoot_dagster.definitions import build_definitions
    from bandicoot_dagster.launch import execute_step
    from bandicoot_dagster.plan import Step

    # A bundle is kept by the decision about its week's model.
    asset, partition = ("model_version", partition[:10]) if asset == BUNDLES else (asset, partition)
    definitions = build_definitions(installation.settings, system_clock)
    jobs = [name for name in _JOBS if _has(definitions.resolve_job_def(name), asset)]
    if not jobs:
        raise InvalidInputError(f"{asset}: no job makes this asset; see `bandicoot lake verify` for the names")
    key = parse_day(partition, name="PARTITION").isoformat()
    step = Step(jobs[0], key, key, why="repair")
    options = run_config_of(step, load_list_options(), load_model_options()) if asset != "published_call_list" else {}
    with open_instance(installation) as instance:
        execute_step(definitions, instance, step, run_config=options, only_asset=asset)


def _has(job: object, asset: str) -> bool:
    keys = job.asset_layer.executable_asset_keys  # type: ignore[attr-defined]
    return asset in {key.to_user_string() for key in keys}
