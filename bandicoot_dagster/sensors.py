"""Sensors: the list of a day follows the night that closed the day before, evaluation follows weekly training, and
runs that were killed are ended. What failed and is worth another try is started again by again_sensor; alarms are in
alarm_sensor; what follows by conditions of assets is in automation."""

from datetime import timedelta

import dagster as dg

from bandicoot_core.calendar import day_of, parse_day
from bandicoot_dagster.abandoned_runs import end_abandoned_runs
from bandicoot_dagster.again_sensor import is_tried_again, nightly_again
from bandicoot_dagster.alarm_sensor import alarms
from bandicoot_dagster.automation import what_follows
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.jobs import daily_list, evaluation, nightly, weekly_training
from bandicoot_dagster.partitions import PARTITION_TAG


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
    partition = context.dagster_run.tags.get(PARTITION_TAG)
    if partition is None:
        return dg.SkipReason("the nightly run covered a range of days: a backfill makes no list")
    call_date = parse_day(partition, name="partition") + timedelta(days=1)
    today = day_of(clock())
    if call_date != today:
        return dg.SkipReason(f"the night before {call_date} was closed, but today is {today}: no list is made late")
    return dg.RunRequest(run_key=context.dagster_run.run_id, partition_key=call_date.isoformat())


def _evaluation_after(status: dg.DagsterRunStatus, name: str, description: str) -> dg.SensorDefinition:
    @dg.run_status_sensor(
        run_status=status,
        monitored_jobs=[weekly_training],
        request_job=evaluation,
        name=name,
        description=description,
        default_status=dg.DefaultSensorStatus.RUNNING,
        minimum_interval_seconds=60,
    )
    def _sensor(context: dg.RunStatusSensorContext, clock: dg.ResourceParam[Clock]) -> dg.RunRequest | dg.SkipReason:
        partition = context.dagster_run.tags.get(PARTITION_TAG)
        if partition is None:
            return dg.SkipReason("the training run covered a range of weeks: evaluate those that matter by hand")
        if is_tried_again(context.instance, context.dagster_run, clock()):
            return dg.SkipReason("the training is tried again by itself: there is no model to judge yet")
        return dg.RunRequest(
            run_key=context.dagster_run.run_id,
            partition_key=partition,
            run_config=_training_config(context.dagster_run),
        )

    return _sensor


def _training_config(run: dg.DagsterRun) -> dict[str, object]:
    """The options of the training run, so that the recipe that was trained is the one that is judged."""
    resources = run.run_config.get("resources")
    chosen = resources.get("training") if isinstance(resources, dict) else None
    return {"resources": {"training": chosen}} if chosen else {}


evaluation_after_training = _evaluation_after(
    dg.DagsterRunStatus.SUCCESS,
    "evaluation_after_training",
    "Judges the models of a week as soon as its training has ended with a promotion.",
)
evaluation_after_refusal = _evaluation_after(
    dg.DagsterRunStatus.FAILURE,
    "evaluation_after_refusal",
    "Judges the models of a week whose candidate was refused, too: then it matters most.",
)


@dg.sensor(
    name="abandoned_runs",
    description="Ends runs of the command line whose process was killed, so that nothing waits for them.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
)
def abandoned_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Look after runs that nobody watches."""
    ended = end_abandoned_runs(context.instance)
    return dg.SkipReason(f"ended {', '.join(ended)}" if ended else "every run has its process")


all_sensors = [
    list_after_nightly,
    evaluation_after_training,
    evaluation_after_refusal,
    nightly_again,
    abandoned_runs,
    alarms,
    what_follows,
]
