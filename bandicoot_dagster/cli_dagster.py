"""The command `bandicoot dagster prune`: looking after Dagster's own storage by hand.

What is removed and what stays belongs to pruning; the job `housekeeping` does the same every week.
"""

import click

from bandicoot_core.settings import load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.opening import open_installation


@click.group()
def dagster() -> None:
    """Dagster's own storage: the logs of runs and the ticks of its daemon."""


@dagster.command()
@click.option("--days", "n_days", type=click.IntRange(0), help="Days to keep; default: the setting.")
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only say what would be removed.")
def prune(n_days: int | None, is_dry_run: bool) -> None:
    """Remove old logs and ticks; materializations, check results and the runs themselves stay."""
    settings = load_settings()
    installation = open_installation(settings)

    from bandicoot_dagster.dagster_home import open_instance
    from bandicoot_dagster.pruning import history_start, prune_instance

    n_days = settings.dagster_history_days if n_days is None else n_days
    with open_instance(installation) as instance:
        pruned = prune_instance(
            instance,
            installation.dagster_storage_url,
            before=history_start(system_clock(), n_days),
            is_dry_run=is_dry_run,
        )
    click.echo(f"older than {n_days} days: {pruned.sentence(is_dry_run=is_dry_run)}")
