"""The sensor of alarms on Dagster's own runs: a job that fails and is mended, a retry, a stranger's job."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from bandicoot_core.alarms.failures import REFUSED_BY_CHECK
from bandicoot_core.errors import MissingPartitionError, StorageFullError, UnreachableError
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.alarm_sensor import alarms, ended_runs, is_quarter
from bandicoot_dagster.sensors import all_sensors
from tests.servers.alarm_receivers import Hook

NOW = datetime(2026, 11, 18, 20, 0, tzinfo=UTC)
DAYS = dg.DailyPartitionsDefinition("2026-11-01", timezone="Asia/Kolkata", end_offset=1)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def run(
    instance: dg.DagsterInstance,
    error: Exception | None = None,
    *,
    job: str = "nightly",
    partition: str = "2026-11-18",
    **tags: str,
) -> dg.ExecuteInProcessResult:
    @dg.op
    def step() -> None:
        if error is not None:
            raise RuntimeError("around it") from error

    @dg.job(name=job, partitions_def=DAYS)
    def made() -> None:
        step()

    return made.execute_in_process(instance=instance, partition_key=partition, tags=tags, raise_on_error=False)


def test_it_is_registered_and_runs_by_itself_every_minute() -> None:
    assert alarms in all_sensors
    assert alarms.default_status == dg.DefaultSensorStatus.RUNNING
    assert alarms.minimum_interval_seconds == 60


def test_ended_runs_are_given_in_order_with_the_foreseen_error(instance: dg.DagsterInstance) -> None:
    assert ended_runs(instance, None, NOW) == ([], None)
    failed = run(instance, StorageFullError("no space left; make room"))
    mended = run(instance)
    ends, cursor = ended_runs(instance, None, NOW)
    assert [(end.run_id, end.is_success) for end in ends] == [(failed.run_id, False), (mended.run_id, True)]
    assert (ends[0].job, ends[0].first_partition, ends[0].last_partition) == ("nightly", "2026-11-18", "2026-11-18")
    assert (ends[0].error_class, ends[0].cause, ends[0].step) == (
        "StorageFullError",
        "no space left; make room",
        "step",
    )
    assert [end.run_id for end in ended_runs(instance, cursor, NOW)[0]] == [failed.run_id, mended.run_id]
    assert ended_runs(instance, repr(time.time() + 120), NOW)[0] == []


def test_retries_to_come_and_jobs_of_others_are_left_out_and_unforeseen_messages_are_not_told(
    instance: dg.DagsterInstance,
) -> None:
    run(instance, ValueError("x"), job="somebody_elses")
    run(instance, ValueError("x"), **{"dagster/will_retry": "true"})
    run(instance, ValueError("Asha 98765"))
    [end], _ = ended_runs(instance, None, NOW)
    assert end.error_class == "ValueError"
    assert end.cause == "ValueError, which nobody foresaw; see the run for its message"


@pytest.mark.parametrize(
    ("job", "partition", "error", "is_told"),
    [
        ("nightly", "2026-11-18", UnreachableError("away"), False),
        ("nightly", "2026-11-18", MissingPartitionError("the day before is open"), False),
        ("nightly", "2026-11-04", UnreachableError("away"), False),
        ("nightly", "2026-11-03", UnreachableError("away"), True),
        ("nightly", "2026-11-18", ValueError("x"), True),
        ("daily_list", "2026-11-19", UnreachableError("away"), False),
        ("daily_list", "2026-11-18", UnreachableError("away"), True),
        ("daily_list", "2026-11-19", MissingPartitionError("the day before is open"), True),
        ("weekly_training", "2026-11-08", UnreachableError("away"), False),
        ("weekly_training", "2026-11-01", UnreachableError("away"), True),
        ("cost_of_month", "2026-11-18", UnreachableError("away"), True),
    ],
)
def test_a_failure_is_told_unless_another_try_follows_by_itself(
    instance: dg.DagsterInstance, job: str, partition: str, error: Exception, is_told: bool
) -> None:
    run(instance, error, job=job, partition=partition)
    ends, _ = ended_runs(instance, None, NOW)
    assert [end.job for end in ends] == ([job] if is_told else [])


def test_a_blocking_check_that_fails_is_known_by_its_error(instance: dg.DagsterInstance) -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("sound", asset="thing", blocking=True)], partitions_def=DAYS)
    def thing() -> Iterator[object]:
        yield dg.AssetCheckResult(passed=False, check_name="sound")
        yield dg.MaterializeResult()

    definitions = dg.Definitions(assets=[thing], jobs=[dg.define_asset_job("weekly_training", [thing])])
    job = definitions.resolve_job_def("weekly_training")
    job.execute_in_process(instance=instance, partition_key="2026-11-15", raise_on_error=False)
    [end], _ = ended_runs(instance, None, NOW)
    assert (end.error_class, end.step) == (REFUSED_BY_CHECK, "thing")


def test_a_run_that_was_reported_failed_says_what_was_reported(instance: dg.DagsterInstance) -> None:
    left = instance.create_run_for_job(dg.GraphDefinition(name="nightly").to_job())
    instance.report_run_failed(left, "The process that executed this run was killed.")
    [end], _ = ended_runs(instance, None, NOW)
    assert (end.is_success, end.last_partition) == (False, "")
    assert "was killed" in end.cause


def test_a_tick_tells_a_failure_once_and_its_recovery_once(
    instance: dg.DagsterInstance, published_url: str, tmp_path: Path, hook: Hook
) -> None:
    stores = Installation(Settings(home=tmp_path, database_url=published_url, alarm_webhook_url=hook.url))
    cursor = None

    def tick() -> str:
        nonlocal cursor
        context = dg.build_sensor_context(
            instance=instance, cursor=cursor, resources={"stores": stores, "clock": lambda: NOW}
        )
        said = alarms(context)
        assert isinstance(said, dg.SkipReason)
        cursor = context.cursor
        return said.skip_message or ""

    assert tick() == "0 incidents opened, 0 closed, 0 messages sent"
    run(instance, StorageFullError("no space left"))
    assert tick() == "1 incidents opened, 0 closed, 1 messages sent"
    assert tick() == "0 incidents opened, 0 closed, 0 messages sent"
    run(instance)
    assert tick() == "0 incidents opened, 1 closed, 1 messages sent"
    assert tick() == "0 incidents opened, 0 closed, 0 messages sent"
    assert [each["text"].splitlines()[0] for each in hook.posted] == [
        "*Bandicoot error: run failed (nightly 2026-11-18)*",
        "*Bandicoot recovered: run failed (nightly 2026-11-18)*",
    ]
    stores.close()


def test_a_tick_a_minute_hits_every_quarter_of_an_hour() -> None:
    for seconds in (60, 75, 90):
        ticks = [datetime(2026, 11, 19, tzinfo=UTC) + timedelta(seconds=37 + seconds * n) for n in range(24 * 40)]
        quarters = {(tick.day, tick.hour, tick.minute // 15) for tick in ticks}
        assert {(tick.day, tick.hour, tick.minute // 15) for tick in ticks if is_quarter(tick)} >= quarters - {
            (ticks[-1].day, ticks[-1].hour, ticks[-1].minute // 15)
        }
