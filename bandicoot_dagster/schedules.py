"""Schedules in Asia/Kolkata: the nightly close at 01:00, training on Sunday at 02:00 and housekeeping at
05:00, what the month costs every morning at 06:00.

The time zone comes from the partitions definitions; a 01:00 tick addresses the day that has just ended, the Sunday
tick the week that has.
"""

import warnings

import dagster as dg

from bandicoot_dagster.housekeeping import housekeeping
from bandicoot_dagster.jobs import cost_of_month, nightly, weekly_training
from bandicoot_dagster.partitions import TIME_ZONE

with warnings.catch_warnings():
    # Dagster's own call inside build_schedule_from_partitioned_job is deprecated; the function itself is not.
    warnings.simplefilter("ignore", DeprecationWarning)
    nightly_schedule = dg.build_schedule_from_partitioned_job(
        nightly,
        name="nightly_schedule",
        description="Every night at 01:00 in India: closes the day that has just ended.",
        hour_of_day=1,
        minute_of_hour=0,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    weekly_training_schedule = dg.build_schedule_from_partitioned_job(
        weekly_training,
        name="weekly_training_schedule",
        description="Every Sunday at 02:00 in India: trains the model of the week that has just ended.",
        hour_of_day=2,
        minute_of_hour=0,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    cost_of_month_schedule = dg.build_schedule_from_partitioned_job(
        cost_of_month,
        name="cost_of_month_schedule",
        description="Every morning at 06:00 in India: what the month has cost up to the end of yesterday.",
        hour_of_day=6,
        minute_of_hour=0,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )

housekeeping_schedule = dg.ScheduleDefinition(
    name="housekeeping_schedule",
    job=housekeeping,
    description="Every Sunday at 05:00 in India, after training and evaluation: removes what nobody reads any more.",
    cron_schedule="0 5 * * 0",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

all_schedules = [nightly_schedule, weekly_training_schedule, cost_of_month_schedule, housekeeping_schedule]
