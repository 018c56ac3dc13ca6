"""The sensor `nightly_again`: starts runs again that failed because a server was away, late or busy.

What is worth another try, and when, is decided in `again`; here runs are read and requested.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from bandicoot_core.calendar import day_of, days_between, last_closed_week, start_of_day
from bandicoot_core.errors import MissingPartitionError, TransientError
from bandicoot_dagster.again import Outcome, Try, Verdict, judge, judge_nights
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.jobs import daily_list, nightly, weekly_training
from bandicoot_dagster.partitions import span_of_run
from bandicoot_dagster.run_failures import errors_of_run, foreseen

N_NIGHTS = 15
"""Nights looked back on: a fortnight that may have been missed, and the one before it."""


@dg.sensor(
    jobs=[nightly, daily_list, weekly_training],
    name="nightly_again",
    description=(
        "Starts a night, the list of today or the training of the last week again when it failed because a server was "
        "away, late or busy: after 5, 10, 20 and 40 minutes, then every hour. Starts nights that an outage has skipped."
    ),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
)
def nightly_again(context: dg.SensorEvaluationContext, clock: dg.ResourceParam[Clock]) -> dg.SensorResult:
    """Request what is due; each failed run is followed by one try at most, since its id is the run key."""
    requests, reasons = [], []
    for job, partition, verdict, records in _judged(context.instance, clock()):
        if verdict.is_due:
            requests.append(_request(job, partition, verdict.after, records))
        elif records:
            reasons.append(f"{job} {partition}: {verdict.why}")
    if requests:
        return dg.SensorResult(run_requests=requests)
    return dg.SensorResult(skip_reason="; ".join(reasons) or "nothing has been tried yet")


def is_tried_again(instance: dg.DagsterInstance, run: dg.DagsterRun, now: datetime) -> bool:
    """Whether a failed run is one that the sensor itself follows with another, as far as is known at `now`.

    A night that lacks an earlier one counts, since it follows that one; so does a try of what has succeeded meanwhile.
    """
    span = span_of_run(run)
    if run.status is not dg.DagsterRunStatus.FAILURE or span is None:
        return False
    today = day_of(now)
    first = {
        nightly.name: _first_night(today),
        daily_list.name: today,
        weekly_training.name: last_closed_week(today),
    }.get(run.job_name)
    if first is None or span[1] < first.isoformat():
        return False
    mends = {Outcome.TRANSIENT, Outcome.MISSING} if run.job_name == nightly.name else {Outcome.TRANSIENT}
    return _outcome(instance, run) in mends


def _first_night(today: date) -> date:
    return today - timedelta(days=N_NIGHTS)


def _judged(instance: dg.DagsterInstance, now: datetime) -> Iterator[tuple[str, date, Verdict, Sequence[dg.RunRecord]]]:
    """Job, partition, verdict and runs of everything that may be started again, nights oldest first."""
    today = day_of(now)
    nights = days_between(_first_night(today), today - timedelta(days=1))
    records = _records(instance, nightly.name, since=nights[0])
    by_day = {day: [record for record in records if _covers(record.dagster_run, day)] for day in nights}
    verdicts = judge_nights({day: _tries(instance, by_day[day]) for day in nights}, now)
    for day in nights:
        yield nightly.name, day, verdicts[day], by_day[day]
    for job, partition in ((daily_list.name, today), (weekly_training.name, last_closed_week(today))):
        found = [
            record for record in _records(instance, job, since=partition) if _covers(record.dagster_run, partition)
        ]
        yield job, partition, judge(_tries(instance, found), now), found


def _records(instance: dg.DagsterInstance, job: str, *, since: date) -> list[dg.RunRecord]:
    """The job's runs that were created since a day began, oldest first."""
    runs = dg.RunsFilter(job_name=job, created_after=start_of_day(since))
    return sorted(instance.get_run_records(runs), key=lambda record: record.storage_id)


def _covers(run: dg.DagsterRun, day: date) -> bool:
    """Whether the run is for the partition, alone or in a range of days."""
    span = span_of_run(run)
    return span is not None and span[0] <= day.isoformat() <= span[1]


def _tries(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> list[Try]:
    """The tries of a partition, oldest first; of a closed one only those that closed it, for nothing else matters."""
    closing = [record for record in records if record.dagster_run.is_success]
    return [
        Try(
            run_id=record.dagster_run.run_id,
            outcome=_outcome(instance, record.dagster_run),
            began_at=_moment(record.start_time),
            ended_at=_moment(record.end_time),
        )
        for record in closing or records
    ]


def _moment(timestamp: float | None) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp is not None else None


def _outcome(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Outcome:
    """What a run means for the next one: every step has to have failed for a reason that waiting mends."""
    if not run.is_finished:
        return Outcome.UNDER_WAY
    if run.is_success:
        return Outcome.SUCCEEDED
    if run.status is not dg.DagsterRunStatus.FAILURE:
        return Outcome.FINAL
    found = errors_of_run(instance, run.run_id)
    of_steps = [error for step_key, error in found if step_key is not None]
    why = [foreseen(error, run.job_name) for error in of_steps or [error for _, error in found]]
    if why and all(isinstance(error, TransientError) for error in why):
        return Outcome.TRANSIENT
    if why and all(isinstance(error, TransientError | MissingPartitionError) for error in why):
        return Outcome.MISSING
    return Outcome.FINAL


def _request(job: str, partition: date, failed: Try | None, records: Sequence[dg.RunRecord]) -> dg.RunRequest:
    """The failed run once more, with the options it had; or the first run of a night that was missed."""
    if failed is None:
        return dg.RunRequest(run_key=f"{job} {partition} missed", job_name=job, partition_key=partition.isoformat())
    [run] = [record.dagster_run for record in records if record.dagster_run.run_id == failed.run_id]
    options = {part: chosen for part, chosen in run.run_config.items() if part in ("ops", "resources")}
    return dg.RunRequest(
        run_key=f"{job} {partition} after {failed.run_id}",
        job_name=job,
        partition_key=partition.isoformat(),
        run_config=options,
    )
