"""What assets share at run time: the clock, and the days or week a run is for.

The clock is a resource so that tests decide what time it is; nothing else in the project asks.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime

import dagster as dg

from bandicoot_core.calendar import parse_day

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


def days_of_run(context: dg.AssetExecutionContext) -> list[date]:
    """The daily partitions of the run, oldest first: one, or many in a single-run backfill."""
    return [parse_day(key, name="partition") for key in sorted(context.partition_keys)]


def day_of_run(context: dg.AssetExecutionContext) -> date:
    """The one partition of the run, as a day (the Sunday, for a week)."""
    return parse_day(context.partition_key, name="partition")
