"""The command `bandicoot cache fill`: Redis anew from the published tables, by a run that the UI shows like any other.

How it is filled, and what is checked, belongs to bandicoot_core.
"""

import click

from bandicoot_core.errors import InvalidInputError, MissingPartitionError, UnreachableError
from bandicoot_core.settings import load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.opening import open_installation


@click.group()
def cache() -> None:
    """Redis, which answers for PostgreSQL."""


@cache.command()
def fill() -> None:
    """Fill Redis with the indices and states of the newest list."""
    settings = load_settings()
    if settings.redis_url is None:
        raise InvalidInputError("no Redis is configured; set BANDICOOT_REDIS_URL")
    installation = open_installation(settings)

    from bandicoot_core.stores.published.call_lists import last_publication
    from bandicoot_dagster.dagster_home import open_instance
    from bandicoot_dagster.definitions import build_definitions
    from bandicoot_dagster.launch import execute_step
    from bandicoot_dagster.plan import Step

    with installation.published() as connection:
        newest = last_publication(connection)
    if newest is None:
        raise MissingPartitionError("no list is published yet, so there is nothing to fill Redis with; `bandicoot run`")
    day = newest.call_date.isoformat()
    with open_instance(installation) as instance:
        definitions = build_definitions(settings, system_clock)
        step = Step("daily_list", day, day, why="fills Redis again")
        result = execute_step(definitions, instance, step, only_asset="index_cache")
    checks = result.get_asset_check_evaluations()
    # The check only warns, so that no run fails for want of Redis; whoever asks for nothing else wants to know.
    for check in checks:
        if not check.passed:
            raise UnreachableError(f"Redis was not filled: {check.description}")
    click.echo("\n".join(check.description or "" for check in checks))
