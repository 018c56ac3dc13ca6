"""The commands `bandicoot database status | upgrade | downgrade | roles | rebuild`: what an administrator does to the
schema.

Run as the owner of schema `bandicoot`; the pipeline itself needs less. What they do belongs to bandicoot_core.stores.
"""

from typing import TYPE_CHECKING

import click

from bandicoot_core.settings import load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.opening import open_installation

if TYPE_CHECKING:
    from bandicoot_core.stores.installation import Installation


@click.group()
def database() -> None:
    """The published schema: its revision, and who may do what in it."""


@database.command()
def status() -> None:
    """Print at which revision the schema is, and what this user may do."""
    from bandicoot_core.stores.published.migrations import HEAD_REVISION
    from bandicoot_core.stores.published.migrations.state import read_state
    from bandicoot_core.stores.published.roles import existing_roles

    with _installation().published() as connection:
        found = read_state(connection)
        roles = existing_roles(connection)
    verdict = "current" if found.is_current else "not the one this release needs"
    click.echo(f"revision  {found.revision or 'none'} ({verdict}; this release needs {HEAD_REVISION})")
    click.echo(f"owner     {found.owner or 'none'}")
    click.echo(f"user      {found.user_name}, who may {'' if found.may_migrate else 'not '}migrate it")
    click.echo(f"roles     {', '.join(roles) or 'none; `bandicoot database roles` makes them'}")


@database.command()
@click.option("--to", "revision", metavar="REVISION", default="head", help="Default: the newest of this release.")
def upgrade(revision: str) -> None:
    """Bring the schema up to a revision; data stay. Rights of the roles follow."""
    from bandicoot_core.stores.published.migrations import upgrade as migrations

    installation = _migratable()
    migrations.upgrade(installation.database_url, revision, limits=installation.limits)
    _say_revision(installation)


@database.command()
@click.option("--to", "revision", metavar="REVISION", required=True, help="A revision, or `base` for an empty schema.")
def downgrade(revision: str) -> None:
    """Bring the schema back to what an older release needs; data stay, or nothing is done."""
    from bandicoot_core.stores.published.migrations import upgrade as migrations

    installation = _migratable()
    migrations.downgrade(installation.database_url, revision, limits=installation.limits)
    _say_revision(installation)


@database.command()
def roles() -> None:
    """Make bandicoot_reader, _caller, _writer, _service and _watcher, and give them exactly their rights."""
    from bandicoot_core.stores.installation import DAGSTER_SCHEMA
    from bandicoot_core.stores.published.roles import apply_roles

    installation = _installation()
    schema = DAGSTER_SCHEMA if installation.settings.dagster_storage_url is None else None
    with installation.published() as connection:
        done = apply_roles(connection, dagster_schema=schema)
    click.echo("\n".join(done) or "nothing to do: every role has exactly its rights")
    click.echo("give a role to a user with: CREATE USER name PASSWORD '...' IN ROLE bandicoot_caller")


@database.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be brought back.")
def rebuild(dry_run: bool) -> None:
    """Bring back from the lake what the published tables lack: models, lists, everybody's state."""
    from bandicoot_core.pipeline.republishing import plan_rebuilding, rebuild_published

    installation = open_installation(load_settings())
    done = plan_rebuilding(installation) if dry_run else rebuild_published(installation, rebuilt_at=system_clock())
    for version in done.models:
        click.echo(f"model {version}{', the champion' if version == done.champion else ''}")
    for call_date in reversed(done.lists):
        click.echo(f"list of {call_date}")
    for day in done.other_calls:
        click.echo(f"the calls recorded for {day} are others than the lake has: the next run reads them again")
    click.echo(f"{len(done.models)} models and {len(done.lists)} lists {'would be ' if dry_run else ''}brought back")


def _installation() -> "Installation":
    """The installation as it is: these commands are what prepares it."""
    from bandicoot_core.stores.installation import Installation

    return Installation(load_settings())


def _migratable() -> "Installation":
    """The installation, whose schema this user may change; OutdatedSchemaError says who may."""
    from bandicoot_core.stores.published.migrations.state import read_state, require_migratable

    installation = _installation()
    with installation.published() as connection:
        require_migratable(read_state(connection))
    return installation


def _say_revision(installation: "Installation") -> None:
    from bandicoot_core.stores.published.migrations.state import read_state

    with installation.published() as connection:
        click.echo(f"schema bandicoot is at revision {read_state(connection).revision or 'none'}")
