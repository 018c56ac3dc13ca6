"""Sensors: the list of a day follows the night that closed the day before."""

from datetime import timedelta

import dagster as dg

from bandicoot_core.calendar import day_of, parse_day
from bandicoot_dagster.jobs import daily_list, nightly
from bandicoot_dagster.runtime import Clock

_PARTITION_TAG = "dagster/partition"


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    monitored_jobs=[nightly],
    request_job=daily_list,
    name="list_after_nightly",
    description="Starts the list of today as soon as the nightly run has closed yesterday.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
)
def list_after_nightly(
    context: dg.RunStatusSensorContext, clock: dg.ResourceParam[Clock]
) -> dg.RunRequest | dg.SkipReason:
    """Request today's list; a night closed late or again, for an earlier day, makes no list."""
    partition = context.dagster_run.tags.get(_PARTITION_TAG)
    if partition is None:
        return dg.SkipReason("the nightly run covered a range of days: a backfill makes no list")
    call_date = parse_day(partition, name="partition") + timedelta(days=1)
    today = day_of(clock())
    if call_date != today:
        return dg.SkipReason(f"the night before {call_date} was closed, but today is {today}: no list is made late")
    return dg.RunRequest(run_key=context.dagster_run.run_id, partition_key=call_date.isoformat())


all_sensors = [list_after_nightly]
