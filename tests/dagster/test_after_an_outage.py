"""After an outage the nights that were missed come in, by Dagster's scheduler and the sensor, and only today's list."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.test_utils import create_test_daemon_workspace_context, freeze_time
from dagster._core.utils import make_new_run_id
from dagster._core.workspace.load_target import ModuleTarget
from dagster._scheduler.scheduler import launch_scheduled_runs

from bandicoot_dagster.again_sensor import nightly_again
from bandicoot_dagster.sensors import list_after_nightly

NOON = datetime(2025, 11, 1, 6, 30, tzinfo=UTC)
"""The daemon's last look before the outage: noon in India on 1 November, a Saturday. The night that follows closes
that day."""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """Creates runs and starts none."""
    overrides = {"run_coordinator": {"module": "dagster._core.test_utils", "class": "MockedRunCoordinator"}}
    with dg.instance_for_test(overrides=overrides) as instance:
        yield instance


def started(instance: dg.DagsterInstance, *moments: datetime) -> list[dg.DagsterRun]:
    """The runs that the scheduler has created, oldest first, when it looks at these moments, in order."""
    target = ModuleTarget("bandicoot_dagster.definitions", None, None, "bandicoot")
    seen: dict[str, object] = {}
    with create_test_daemon_workspace_context(target, instance) as workspace:
        for moment in moments:
            with freeze_time(moment):
                errors = launch_scheduled_runs(
                    workspace,
                    logging.getLogger("test"),
                    moment,
                    seen,  # type: ignore[arg-type]
                )
                assert [error for error in errors if error is not None] == []
    records = sorted(instance.get_run_records(), key=lambda record: record.storage_id)
    return [record.dagster_run for record in records]


def partitions(runs: list[dg.DagsterRun], job: str) -> list[str]:
    return [run.tags["dagster/partition"] for run in runs if run.job_name == job]


def listed(instance: dg.DagsterInstance, runs: list[dg.DagsterRun], now: datetime) -> list[str | None]:
    """The days for which a list is requested when all these nights have succeeded."""
    found = []
    for run in runs:
        event = dg.DagsterEvent("PIPELINE_SUCCESS", "nightly")
        context = dg.build_run_status_sensor_context("list_after_nightly", event, instance, run)
        request = list_after_nightly(context, clock=lambda: now)
        if isinstance(request, dg.RunRequest):
            found.append(request.partition_key)
    return found


def night(day: str) -> dg.DagsterRun:
    tags = {"dagster/partition": day}
    return dg.DagsterRun("nightly", run_id=make_new_run_id(), status=dg.DagsterRunStatus.SUCCESS, tags=tags)


@pytest.mark.parametrize("n_days", [1, 10, 14])
def test_up_to_a_fortnight_of_nights_comes_in_each_once_and_today_gets_one_list(
    instance: dg.DagsterInstance, n_days: int
) -> None:
    back = NOON + timedelta(days=n_days)
    days = [f"{NOON + timedelta(days=number):%Y-%m-%d}" for number in range(n_days)]
    instance.add_run(night("2025-10-31"))
    runs = started(instance, NOON, back, back + timedelta(minutes=1))
    assert partitions(runs, "nightly") == ["2025-10-31", days[-1]]
    assert partitions(runs, "weekly_training") == [{1: "2025-10-26", 10: "2025-11-02", 14: "2025-11-02"}[n_days]]
    result = nightly_again(dg.build_sensor_context(instance), clock=lambda: back)
    missed = [request.partition_key for request in result.run_requests or []]
    assert missed == days[:-1]
    nights = [night(day) for day in days]
    assert listed(instance, nights, back) == listed(instance, nights[::-1], back) == [f"{back:%Y-%m-%d}"]
