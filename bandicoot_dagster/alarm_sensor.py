"""The sensor of alarms: hands the runs that have ended to the core, which looks at everything else and tells people.

Here is only how Dagster says that a run has ended, and why it failed. What is a problem belongs to
bandicoot_core.alarms; what is gathered and told, to pipeline.alarms.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
from dagster._core.storage.dagster_run import RunRecord

from bandicoot_core.alarms.failures import REFUSED_BY_CHECK, RunEnd
from bandicoot_core.pipeline.alarms import look_for_alarms
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.again_sensor import is_tried_again
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.event_files import ingest_event_files
from bandicoot_dagster.housekeeping import housekeeping
from bandicoot_dagster.jobs import all_jobs
from bandicoot_dagster.partitions import span_of_run
from bandicoot_dagster.run_failures import errors_of_run, foreseen, innermost, reported_failure

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
_JOBS = frozenset([*(job.name for job in all_jobs), housekeeping.name, ingest_event_files.name])
_OVERLAP_SECONDS = 60.0
"""Runs that ended this long before the last one seen are told of again: an end may be stored a little late."""
_FIRST_LOOK_SECONDS = 86_400.0
"""How far the first look goes back from the newest end."""


@dg.sensor(
    name="alarms",
    description="Tells people once of each incident, and when it is over: failed runs, late lists and models, a "
    "rejected model, drift, rows set aside, an unused budget, a spent limit. `bandicoot status` shows what is open.",
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
)
def alarms(
    context: dg.SensorEvaluationContext, stores: dg.ResourceParam[Installation], clock: dg.ResourceParam[Clock]
) -> dg.SkipReason:
    """Look once; a channel that fails makes the tick fail, and the next tick looks at the same runs again."""
    now = clock()
    ends, cursor = ended_runs(context.instance, context.cursor, now)
    look = look_for_alarms(stores, ends, now=now, is_lake_due=bool(ends) or is_quarter(now))
    if cursor is not None:
        context.update_cursor(cursor)
    return dg.SkipReason(f"{look.n_opened} incidents opened, {look.n_closed} closed, {look.n_told} messages sent")


def is_quarter(now: datetime) -> bool:
    """Whether the quarter of an hour has begun less than two minutes ago, so that a tick a minute hits every one.

    What the lake says changes when a run ends. Runs that belong to no job, as of assets picked in the UI, and deadlines
    that pass are seen by the next quarter: a look a minute in a bucket would be 5,000 listings a day.
    """
    return now.minute % 15 < 2


def ended_runs(instance: dg.DagsterInstance, cursor: str | None, now: datetime) -> tuple[list[RunEnd], str | None]:
    """The runs of the project's jobs that ended since the cursor, in the order of their ends, and the next cursor.

    A cursor is the newest end seen, in seconds of Unix time by the clock of Dagster's storage. A failure that will be
    tried again by itself, by Dagster or by the sensor `nightly_again`, is left out: when it is not mended in time, the
    list or the model is late. So is a run that a person stopped.
    """
    since = float(cursor) - _OVERLAP_SECONDS if cursor else _first_moment(instance)
    if since is None:
        return [], cursor
    # A run is changed when it ends, or later: what ended since was changed since.
    changed = dg.RunsFilter(statuses=_ENDED, updated_after=datetime.fromtimestamp(since, UTC))
    records = [each for each in instance.get_run_records(changed) if each.end_time is not None]
    ended = sorted((each.end_time or 0.0, each.storage_id, each) for each in records if (each.end_time or 0.0) > since)
    ends = [end for _, _, record in ended for end in _as_ends(instance, record, now)]
    newest = max([float(cursor or since), *(moment for moment, _, _ in ended)])
    return ends, repr(newest)


def _first_moment(instance: dg.DagsterInstance) -> float | None:
    newest = instance.get_run_records(dg.RunsFilter(statuses=_ENDED), limit=1, order_by="update_timestamp")
    return newest[0].update_timestamp.timestamp() - _FIRST_LOOK_SECONDS if newest else None


def _as_ends(instance: dg.DagsterInstance, record: RunRecord, now: datetime) -> Iterator[RunEnd]:
    run = record.dagster_run
    is_success = run.status == dg.DagsterRunStatus.SUCCESS
    if run.job_name not in _JOBS:
        return
    if not is_success and (run.tags.get("dagster/will_retry") == "true" or is_tried_again(instance, run, now)):
        return
    first, last = span_of_run(run) or ("", "")
    error_class, cause, step = ("", "", "") if is_success else _why_it_failed(instance, run)
    yield RunEnd(run.job_name, first, last, run.run_id, is_success, error_class, cause, step)


def _why_it_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, str, str]:
    """Class, message and step of the error that stopped a run: its first foreseen one, else the first of all.

    Of an error that nobody foresaw only the class is told, since its message may quote anything.
    """
    found = errors_of_run(instance, run.run_id)
    for step_key, error in found:
        known = foreseen(error, run.job_name)
        if known is not None:
            return type(known).__name__, str(known), step_key or ""
    for step_key, error in found:
        if error.cls_name == REFUSED_BY_CHECK:
            return error.cls_name, error.message.strip(), step_key or ""
    for step_key, error in found:
        name = innermost(error).cls_name or "an error"
        return name, f"{name}, which nobody foresaw; see the run for its message", step_key or ""
    return "", reported_failure(instance, run.run_id), ""
