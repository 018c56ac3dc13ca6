"""The clock stands at the very end or the very beginning of a day in India: of any day, a leap day, a year's first."""

from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from functools import partial

import dagster as dg
import pytest

from bandicoot_core.calendar import start_of_day
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.call_lists import read_call_list
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from bandicoot_dagster.launch import execute_step
from bandicoot_dagster.plan import Step
from bandicoot_dagster.sensors import list_after_nightly
from tests.faults.child_run import ChildRun, Outcome
from tests.faults.conftest import drawn_for_this_pass
from tests.faults.list_reader import ListReader
from tests.faults.record import BY_ITSELF, note
from tests.faults.site_under_fault import Site

MILLISECOND = timedelta(milliseconds=1)
DAYS = {
    "a leap day": date(2024, 2, 29),
    "the day after a leap day": date(2024, 3, 1),
    "a year's first day": date(2026, 1, 1),
    "a year's last day": date(2025, 12, 31),
}
CONFIG = {"ops": {"call_list": {"config": {"budget": 12, "min_engagement": 0, "max_engagement": 1}}}}


def run_day(settings: Settings, day: date, moment: datetime) -> None:
    """Close the day before and make the list of a day, at a moment."""
    installation = Installation(settings)
    definitions = build_definitions(settings, lambda: moment)
    night = (day - timedelta(days=1)).isoformat()
    with open_instance(installation) as instance:
        execute_step(definitions, instance, Step("nightly", night, night, why="test"))
        of_the_day = Step("daily_list", day.isoformat(), day.isoformat(), why="test")
        execute_step(definitions, instance, of_the_day, run_config=CONFIG)


def requested(night: date, moment: datetime) -> dg.RunRequest | dg.SkipReason:
    """What the sensor says to a night that has just been closed."""
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {"dagster/partition": night.isoformat()}
        run = dg.DagsterRun(job_name="nightly", run_id="6b1f", status=dg.DagsterRunStatus.SUCCESS, tags=tags)
        event = dg.DagsterEvent("PIPELINE_SUCCESS", "nightly")
        context = dg.build_run_status_sensor_context("list_after_nightly", event, instance, run)
        return list_after_nightly(context, clock=lambda: moment)


@pytest.fixture
def day(site: Site, request: pytest.FixtureRequest) -> Iterator[date]:
    """A day without a list, and without one again afterwards."""
    day: date = DAYS[request.param]
    yield day
    with site.installation.published() as connection:
        connection.execute("DELETE FROM bandicoot.call_list WHERE call_date = %s", (day,))
        connection.execute("DELETE FROM bandicoot.list_publications WHERE call_date = %s", (day,))
    night = (day - timedelta(days=1)).isoformat()
    for asset in ("caregivers", "sms_events", "vaccinations", "calls", "caregiver_states"):
        site.installation.lake.remove(asset, night)
    site.installation.lake.remove("call_list", day.isoformat())


def made(site: Site, day: date, work: Callable[[], object]) -> object:
    """The list that a run makes, or what its checks say where nobody was enrolled yet."""
    outcome = ChildRun(work).finish()
    if not outcome.is_success:
        assert outcome.error_class == "CheckFailedError", outcome
        return outcome.message
    with site.installation.published() as connection:
        return read_call_list(connection, day).drop_columns(["run_id", "published_at"]).to_pylist()


@pytest.mark.parametrize("day", drawn_for_this_pass(list(DAYS), 1), indirect=True)
def test_a_list_can_be_made_from_midnight_in_india_and_not_a_millisecond_before(
    site: Site, reader: ListReader, day: date
) -> None:
    fault = "clock at 23:59:59.999 and 00:00:00 IST"
    midnight = start_of_day(day)
    work = [partial(run_day, site.settings, day, moment) for moment in (midnight - MILLISECOND, midnight)]
    noon = partial(run_day, site.settings, day, midnight + timedelta(hours=12))
    early: Outcome = ChildRun(work[0]).finish()
    print(f"{fault}, {day}: {early.error_class}: {early.message}")
    assert early.error_class == "InvalidSettingError"
    assert f"{day} lies in the future (today is {day - timedelta(days=1)} in Asia/Kolkata)" in early.message
    with site.installation.published() as connection:
        found = connection.execute("SELECT FROM bandicoot.list_publications WHERE call_date = %s", (day,)).fetchall()
    assert not found
    assert isinstance(requested(day - timedelta(days=1), midnight - MILLISECOND), dg.SkipReason)
    request = requested(day - timedelta(days=1), midnight)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == day.isoformat()
    found = [made(site, day, each) for each in (work[1], noon)]
    is_repeated = found[0] == found[1]
    note(site.records, fault, is_repeated=is_repeated, way=BY_ITSELF)
    assert is_repeated
