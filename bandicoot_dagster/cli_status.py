"""`bandicoot status`: what a run would do and why, what is stale, and the open incidents.

Nothing is read from the source or written.
"""

from typing import TYPE_CHECKING

import click

from bandicoot_core.calendar import day_of, parse_day, refuse_future_day
from bandicoot_core.settings import load_model_options, load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.opening import open_installation

if TYPE_CHECKING:
    from datetime import date

    from bandicoot_core.stores.installation import Installation


@click.command()
@click.option("--as-of", metavar="DATE", help="For the list of this day (YYYY-MM-DD); default: today in India.")
def status(as_of: str | None) -> None:
    """Say what a run would do and why, which calls it would read again, which lists are stale, and what is wrong."""
    now = system_clock()
    call_date = parse_day(as_of, name="--as-of") if as_of else day_of(now)
    refuse_future_day(call_date, now=now, name="--as-of")
    for line in status_lines(open_installation(load_settings()), call_date):
        click.echo(line)


def status_lines(installation: "Installation", call_date: "date") -> list[str]:
    """What there is to do for the list of a day, the stale lists before it that went out, and the open incidents."""
    from bandicoot_core.pipeline.alarms import describe_open_incidents
    from bandicoot_core.pipeline.rereading import days_with_other_calls
    from bandicoot_core.stores.published.models import champion
    from bandicoot_dagster.catch_up import describe_stale_lists, span_of
    from bandicoot_dagster.plan import plan_days, plan_model_and_list

    lake, options = installation.lake, load_model_options()
    with installation.published() as connection:
        current = champion(connection)
        incidents = describe_open_incidents(connection)
        other_calls = days_with_other_calls(connection, lake, before=call_date)
    steps = plan_days(lake, call_date, settings=installation.settings, options=options)
    week = current.training_week if current else None
    steps += plan_model_and_list(lake, call_date, options=options, champion_week=week)
    lines = [f"a run for the list of {call_date} would do:"]
    lines += [f"  {step.job}: {span_of(step)} ({step.why})" for step in steps]
    lines += [f"the calls recorded for {day} are others than were read: a run reads them again" for day in other_calls]
    lines += describe_stale_lists(installation, call_date) or ["no list that went out is stale"]
    return lines + (incidents or ["no incident is open"])
