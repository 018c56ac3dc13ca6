"""What failed because a server was away, late or busy is started again; what waiting does not mend is not."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time
from dagster._core.utils import make_new_run_id
from hypothesis import given
from hypothesis import strategies as st

from bandicoot_core.calendar import day_of, last_closed_week
from bandicoot_core.errors import (
    BandicootError,
    InvalidInputError,
    LaggingSourceError,
    MissingPartitionError,
    UnreachableError,
)
from bandicoot_dagster import steps
from bandicoot_dagster.again import PAUSES, Outcome, Try, judge, judge_nights
from bandicoot_dagster.again_sensor import nightly_again
from bandicoot_dagster.partitions import daily, list_days, weekly
from bandicoot_dagster.sensors import all_sensors

ONE = datetime(2026, 11, 18, 19, 30, tzinfo=UTC)
"""01:00 in India on the 19th."""
DAY = date(2026, 11, 18)


def after(minutes: float) -> datetime:
    return ONE + timedelta(minutes=minutes)


def tries(*outcomes: tuple[Outcome, float]) -> list[Try]:
    """Tries with the minutes after ONE at which each ended."""
    return [
        Try(str(number), outcome, after(minutes), None if outcome is Outcome.UNDER_WAY else after(minutes))
        for number, (outcome, minutes) in enumerate(outcomes)
    ]


AWAY, BAD, GOOD, BUSY, GAP = (
    Outcome.TRANSIENT,
    Outcome.FINAL,
    Outcome.SUCCEEDED,
    Outcome.UNDER_WAY,
    Outcome.MISSING,
)


@pytest.mark.parametrize(
    ("made", "minutes", "is_due"),
    [
        ([], 60, False),
        ([(AWAY, 0)], 4.9, False),
        ([(AWAY, 0)], 5, True),
        ([(AWAY, 0), (AWAY, 6)], 15.9, False),
        ([(AWAY, 0), (AWAY, 6)], 16, True),
        ([(AWAY, 0), (AWAY, 6), (AWAY, 17)], 37, True),
        ([(AWAY, 0), (AWAY, 6), (AWAY, 17), (AWAY, 38)], 77, False),
        ([(AWAY, 0), (AWAY, 6), (AWAY, 17), (AWAY, 38)], 78, True),
        ([(AWAY, m) for m in (0, 6, 17, 38, 79)], 138, False),
        ([(AWAY, m) for m in (0, 6, 17, 38, 79)], 139, True),
        ([(AWAY, m) for m in (0, 6, 17, 38, 79, 140)], 200, True),
        ([(AWAY, 0), (BUSY, 0)], 300, False),
        ([(BUSY, 0), (AWAY, 3)], 300, False),
        ([(AWAY, 0), (GOOD, 8)], 300, False),
        ([(GOOD, 0), (AWAY, 8)], 300, False),
        ([(BAD, 0)], 300, False),
        ([(AWAY, 0), (BAD, 8)], 300, False),
        ([(BAD, 0), (AWAY, 8)], 13, True),
        ([(GAP, 0)], 300, False),
    ],
)
def test_a_partition_is_due_again_after_its_pause(
    made: list[tuple[Outcome, float]], minutes: float, is_due: bool
) -> None:
    assert judge(tries(*made), after(minutes)).is_due is is_due


@pytest.mark.parametrize(
    ("nights", "due"),
    [
        ([[(AWAY, 0)], [(AWAY, 1)], [(AWAY, 2)]], [0]),
        ([[(AWAY, 299)], [(AWAY, 1)]], []),
        ([[(BUSY, 0)], [(AWAY, 1)]], []),
        ([[(BAD, 0)], [(AWAY, 1)]], [1]),
        ([[(BAD, 0)], [(GAP, 1)]], []),
        ([[(AWAY, 0), (GOOD, 10)], [(GAP, 1)], [(GAP, 2)]], [1, 2]),
        ([[(AWAY, 0), (GOOD, 10)], [(AWAY, 299)]], []),
        ([[(AWAY, 0), (GOOD, 299.5)], [(AWAY, 299)]], [1]),
        ([[(BAD, 0), (GOOD, 10)], [(GAP, 1), (GAP, 12)]], []),
        ([[(GOOD, 0)], [(BAD, -1)]], []),
        ([[(GOOD, 0)], [(GAP, -1), (BUSY, 0)]], []),
        ([[], [(AWAY, 0)]], [1]),
        ([[], [], []], []),
        ([[(GOOD, 0)], [], []], [1]),
        ([[(GOOD, 0)], [], [], [(GAP, 1)]], [1, 2]),
        ([[(GOOD, 0)], [(BUSY, 1)], [], [(GAP, 1)]], [2]),
    ],
)
def test_a_night_waits_for_earlier_ones_and_follows_them(
    nights: list[list[tuple[Outcome, float]]], due: list[int]
) -> None:
    by_day = {DAY + timedelta(days=number): tries(*made) for number, made in enumerate(nights)}
    verdicts = judge_nights(by_day, after(300))
    assert [(day - DAY).days for day, verdict in verdicts.items() if verdict.is_due] == due


@given(
    away=st.lists(st.integers(0, 1400), min_size=1, max_size=3).map(max),
    seconds=st.integers(20, 1200),
    n_nights=st.integers(1, 4),
)
def test_whatever_the_outage_each_night_is_closed_once_soon_after_it_and_never_tried_twice_at_a_time(
    away: int, seconds: int, n_nights: int
) -> None:
    """Ticks each minute; a try fails when it starts before `away` minutes have passed, or lacks an earlier night."""
    lasts = timedelta(seconds=seconds)
    days = [DAY + timedelta(days=number) for number in range(n_nights)]
    made: dict[date, list[tuple[datetime, Try]]] = {day: [] for day in days}

    def start(day: date, moment: datetime) -> None:
        ended = moment + lasts
        earlier = [first for first in days if first < day]
        if moment < after(away):
            outcome = AWAY
        elif any(not any(t.outcome is GOOD and t.ended_at <= moment for _, t in made[e]) for e in earlier):
            outcome = GAP
        else:
            outcome = GOOD
        made[day].append((moment, Try(f"{day} {len(made[day])}", outcome, moment, ended)))

    def seen(moment: datetime) -> dict[date, list[Try]]:
        return {
            day: [t if t.ended_at <= moment else Try(t.run_id, BUSY) for _, t in each] for day, each in made.items()
        }

    for day in days:
        start(day, ONE)
    for minute in range(1, away + 240):
        moment = after(minute)
        for day, verdict in judge_nights(seen(moment), moment).items():
            if verdict.is_due:
                start(day, moment)
    for day in days:
        assert [t.outcome for _, t in made[day]].count(GOOD) == 1
        assert made[day][-1][1].outcome is GOOD
        starts = [moment for moment, _ in made[day]]
        assert all(later - earlier >= lasts for earlier, later in pairwise(starts))
    healed = made[days[0]][-1][0]
    assert healed <= after(away) + timedelta(hours=1) + lasts + timedelta(minutes=1)
    while_away = [moment for moment, t in made[days[0]] if t.outcome is AWAY]
    pauses = [*PAUSES, *[timedelta(hours=1)] * len(while_away)]
    for earlier, later, pause in zip(while_away, while_away[1:], pauses, strict=False):
        assert pause <= later - earlier - lasts < pause + timedelta(minutes=1)


NOW = datetime.combine(datetime.now(UTC).date() - timedelta(days=1), time(7, 30), UTC)
"""13:00 in India, far from midnight."""
TODAY = day_of(NOW)
PARTITIONS = {
    "nightly": (daily, TODAY - timedelta(days=1)),
    "daily_list": (list_days, TODAY),
    "weekly_training": (weekly, last_closed_week(TODAY)),
}


class Stores:
    """Lets everybody write."""

    def sole_writer(self, *_args: object, **_named: object) -> "Stores":
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, *_error: object) -> None: ...


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setattr(steps, "SECONDS_BETWEEN", 0)
    with freeze_time(NOW), dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(
    instance: dg.DagsterInstance,
    job: str,
    *errors: BandicootError | None,
    partition: date | None = None,
    tags: dict[str, str] | None = None,
    run_config: dict[str, object] | None = None,
) -> str:
    """Run the job with a step for each error, which it raises; the run's id."""
    partitions, usual = PARTITIONS[job]

    def step(number: int, error: BandicootError | None) -> dg.AssetsDefinition:
        @dg.asset(name=f"step_{number}", partitions_def=partitions, config_schema={"budget": dg.Field(int, 1)})
        @steps.written_alone(is_retried=True)
        def made(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Stores]) -> None:
            if error is not None:
                raise error

        return made

    definitions = dg.Definitions(
        assets=[step(number, error) for number, error in enumerate(errors)],
        jobs=[dg.define_asset_job(job, executor_def=dg.in_process_executor)],
        resources={"stores": Stores()},
    )
    resolved = definitions.resolve_job_def(job)
    where = {"tags": tags} if tags else {"partition_key": (partition or usual).isoformat()}
    return resolved.execute_in_process(instance=instance, raise_on_error=False, run_config=run_config, **where).run_id


def requested(instance: dg.DagsterInstance, minutes: float = 6) -> list[dg.RunRequest]:
    """What the sensor starts some minutes from now."""
    moment = NOW + timedelta(minutes=minutes)
    result = nightly_again(dg.build_sensor_context(instance), clock=lambda: moment)
    assert isinstance(result, dg.SensorResult)
    assert result.run_requests or result.skip_reason
    return list(result.run_requests or [])


@pytest.mark.parametrize("job", PARTITIONS)
def test_a_run_that_lost_its_server_is_started_again_with_its_options_once_for_each_failure(
    instance: dg.DagsterInstance, job: str
) -> None:
    assert requested(instance) == []
    options: dict[str, object] = {"ops": {"step_0": {"config": {"budget": 7}}}}
    failed = run(instance, job, LaggingSourceError("the replica lags"), run_config=options)
    assert requested(instance, minutes=4) == []
    [request] = requested(instance)
    assert request == requested(instance, minutes=7)[0]
    assert (request.job_name, request.partition_key) == (job, PARTITIONS[job][1].isoformat())
    assert request.run_config == options
    assert failed in (request.run_key or "")
    run(instance, job, UnreachableError("away"))
    assert requested(instance, minutes=6) == []
    [second] = requested(instance, minutes=11)
    assert second.run_key != request.run_key
    run(instance, job, None)
    assert requested(instance, minutes=600 if job == "weekly_training" else 61) == []


def test_bad_data_is_never_tried_again_nor_with_a_lost_server_beside_it(instance: dg.DagsterInstance) -> None:
    run(instance, "nightly", InvalidInputError("bad"))
    assert requested(instance, minutes=61) == []
    run(instance, "nightly", UnreachableError("away"), InvalidInputError("bad"))
    assert requested(instance, minutes=61) == []


def test_a_night_that_lacked_an_earlier_one_follows_when_that_is_closed(instance: dg.DagsterInstance) -> None:
    yesterday = PARTITIONS["nightly"][1]
    run(instance, "nightly", MissingPartitionError("the day before is open"))
    assert requested(instance, minutes=61) == []
    with freeze_time(NOW + timedelta(minutes=1)):
        run(instance, "nightly", None, partition=yesterday - timedelta(days=1))
    assert [request.partition_key for request in requested(instance, minutes=2)] == [yesterday.isoformat()]


def test_a_range_of_days_closes_each_of_them(instance: dg.DagsterInstance) -> None:
    yesterday = PARTITIONS["nightly"][1]
    run(instance, "nightly", UnreachableError("away"))
    key, first = yesterday.isoformat(), (yesterday - timedelta(days=3)).isoformat()
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": key}
    assert len(requested(instance)) == 1
    run(instance, "nightly", None, tags=tags)
    assert requested(instance) == []


def test_nothing_is_started_while_a_run_waits_in_the_queue(instance: dg.DagsterInstance) -> None:
    run(instance, "nightly", UnreachableError("away"))
    tags = {"dagster/partition": PARTITIONS["nightly"][1].isoformat()}
    instance.add_run(dg.DagsterRun("nightly", run_id=make_new_run_id(), tags=tags))
    assert requested(instance) == []


@pytest.mark.parametrize(("error", "is_judged"), [(InvalidInputError("bad"), True), (UnreachableError("away"), False)])
def test_a_training_that_is_tried_again_is_not_judged_before(
    instance: dg.DagsterInstance, error: BandicootError, is_judged: bool
) -> None:
    failed = instance.get_run_by_id(run(instance, "weekly_training", error))
    assert failed is not None
    [sensor] = [each for each in all_sensors if each.name == "evaluation_after_refusal"]
    event = dg.DagsterEvent("PIPELINE_FAILURE", "weekly_training")
    context = dg.build_run_status_sensor_context(sensor.name, event, instance, failed)
    assert isinstance(sensor(context, clock=lambda: NOW), dg.RunRequest if is_judged else dg.SkipReason)
