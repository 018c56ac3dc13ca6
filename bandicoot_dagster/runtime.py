"""What assets share at run time: the days or week a run is for."""

from datetime import date

import dagster as dg

from bandicoot_core.calendar import parse_day


def days_of_run(context: dg.AssetExecutionContext) -> list[date]:
    """The daily partitions of the run, oldest first: one, or many in a single-run backfill."""
    return [parse_day(key, name="partition") for key in sorted(context.partition_keys)]


def day_of_run(context: dg.AssetExecutionContext) -> date:
    """The one partition of the run, as a day (the Sunday, for a week)."""
    return parse_day(context.partition_key, name="partition")
