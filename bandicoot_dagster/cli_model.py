"""The commands `bandicoot model list | show | promote | rollback`: which model ranks the lists, changed by hand.

Each command is a few lines over the model registry. What a model is and how it is checked belongs to bandicoot_core.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from bandicoot_core.calendar import PROGRAMME_TIME_ZONE
from bandicoot_core.settings import load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.opening import open_installation

if TYPE_CHECKING:
    from bandicoot_core.stores.published.models import ModelRecord

_BY_HAND = "by hand"
"""What stands as run of a promotion that a person made on the command line."""


@click.group()
def model() -> None:
    """The models that were trained, and which one ranks the lists."""


@model.command("list")
def list_versions() -> None:
    """Print every model, the newest first."""
    from bandicoot_core.stores.published.models import list_models

    with open_installation(load_settings()).published() as connection:
        models = list_models(connection)
    if not models:
        click.echo("no model has been trained yet; `bandicoot run` trains the first")
        return
    click.echo(_table(["model", "last week", "status", "champion since", "note"], [_line(found) for found in models]))


@model.command()
@click.argument("version")
def show(version: str) -> None:
    """Print a model: its checks, its options, and what a call is worth in each cluster."""
    from bandicoot_core.stores.published.models import find_model, read_clusters, read_indices

    with open_installation(load_settings()).published() as connection:
        found = find_model(connection, version)
        clusters, indices = read_clusters(connection, version), read_indices(connection, version)
    click.echo(_table(["model", "last week", "status", "champion since", "note"], [_line(found)]))
    click.echo("\nchecks")
    for name, check in found.checks.items():
        failed = "FAILED" if check["is_blocking"] else "warns"
        click.echo(f"  {'passed' if check['is_passed'] else failed}  {name}: {check['found']}")
    click.echo("\noptions")
    for name, value in sorted(found.recipe.items()):
        click.echo(f"  {name} = {value}")
    size = dict(zip(clusters["cluster_id"].to_pylist(), clusters["n_caregivers"].to_pylist(), strict=True))
    rows = [
        [
            row["cluster_id"],
            f"{size[row['cluster_id']]:,}",
            row["state"],
            f"{row['p_passive']:.3f}",
            f"{row['p_active']:.3f}",
            f"{row['whittle_index']:.3f}",
            f"{row['index_low']:.3f} to {row['index_high']:.3f}",
        ]
        for row in indices.to_pylist()
    ]
    click.echo()
    click.echo(_table(["cluster", "caregivers", "state", "P(R) passive", "P(R) active", "index", "interval"], rows))


@model.command()
@click.argument("version")
def promote(version: str) -> None:
    """Make a model the champion: the lists made from now on are ranked by it."""
    from bandicoot_core.stores.published import models

    with open_installation(load_settings()).published() as connection:
        promoted = models.promote(connection, version, promoted_at=system_clock(), run_id=_BY_HAND)
    click.echo(f"champion is now {promoted.model_version}; the next list is made with it")


@model.command()
@click.option("--why", required=True, help="Why the champion is taken back; kept with it.")
def rollback(why: str) -> None:
    """Bring back the champion before the current one, which is then not promoted again by itself."""
    from bandicoot_core.stores.published.models import roll_back

    with open_installation(load_settings()).published() as connection:
        now, before = roll_back(connection, note=f"rolled back: {why}", rolled_back_at=system_clock(), run_id=_BY_HAND)
    click.echo(f"champion is now {now.model_version} again, in place of {before.model_version}")
    click.echo("the next list is made with it; `bandicoot run` makes today's again")


def _line(found: "ModelRecord") -> list[str]:
    since = found.promoted_at.astimezone(PROGRAMME_TIME_ZONE).strftime("%Y-%m-%d %H:%M") if found.promoted_at else ""
    is_champion = found.status == "champion"
    return [found.model_version, str(found.training_week), found.status, since if is_champion else "", found.note or ""]


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    from tabulate import tabulate

    return tabulate(rows, headers=header, disable_numparse=True, maxcolwidths=[None] * (len(header) - 1) + [60])
