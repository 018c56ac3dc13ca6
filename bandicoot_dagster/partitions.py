"""Partitions definitions and the mappings between them, all in Asia/Kolkata.

A daily partition D holds what happened in, or was known at the end of, day D. A list partition D is the list to be
called on D, so it exists as soon as D begins, and so does a day whose events are told as they happen. A weekly
partition is named by its Sunday and ends on its Saturday.
"""

import dagster as dg

from bandicoot_core.calendar import PROGRAMME_TIME_ZONE

_FIRST_SUNDAY = "2024-01-07"
"""Partitions before this day do not exist; a programme with older history moves it back to an earlier Sunday."""

TIME_ZONE = PROGRAMME_TIME_ZONE.key

PARTITION_TAG = "dagster/partition"
RANGE_START_TAG = "dagster/asset_partition_range_start"
RANGE_END_TAG = "dagster/asset_partition_range_end"

daily = dg.DailyPartitionsDefinition(start_date=_FIRST_SUNDAY, timezone=TIME_ZONE)
list_days = dg.DailyPartitionsDefinition(start_date=_FIRST_SUNDAY, timezone=TIME_ZONE, end_offset=1)
event_days = dg.DailyPartitionsDefinition(start_date=_FIRST_SUNDAY, timezone=TIME_ZONE, end_offset=1)
weekly = dg.WeeklyPartitionsDefinition(start_date=_FIRST_SUNDAY, timezone=TIME_ZONE)


def last_days(n_days: int) -> dg.TimeWindowPartitionMapping:
    """A day depends on the n_days that end with it."""
    return dg.TimeWindowPartitionMapping(start_offset=-(n_days - 1), allow_nonexistent_upstream_partitions=True)


def training_window(n_weeks: int) -> dg.TimeWindowPartitionMapping:
    """A week depends on the days of the n_weeks that end with it."""
    return dg.TimeWindowPartitionMapping(start_offset=-(n_weeks - 1), allow_nonexistent_upstream_partitions=True)


day_before = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1, allow_nonexistent_upstream_partitions=True)
"""A list day depends on the day that ended when it began."""


def span_of_run(run: dg.DagsterRun) -> tuple[str, str] | None:
    """The first and last partition key of a run, alike for a single one; None when it has no partition."""
    if PARTITION_TAG in run.tags:
        return run.tags[PARTITION_TAG], run.tags[PARTITION_TAG]
    if RANGE_START_TAG in run.tags:
        return run.tags[RANGE_START_TAG], run.tags[RANGE_END_TAG]
    return None
