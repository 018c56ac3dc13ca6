"""The edges of days, weeks and years: every event in its partition, its state and its week."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from small_installation import SmallInstallation

from bandicoot_core.calendar import days_between, last_day_of_week, week_of, weeks_ending_with
from bandicoot_core.contracts import CALLS, ENGAGEMENT_HISTORY, SMS_EVENTS
from bandicoot_core.pipeline.engagement import materialize_caregiver_states, materialize_engagement_history
from bandicoot_core.pipeline.rereading import read_calls, read_sms_events
from bandicoot_core.settings import load_model_options
from bandicoot_core.stores.published.keys import read_keys
from tests.source_programme import SourceProgramme

EDGES = [
    pytest.param(date(2028, 2, 29), 8, id="a leap day"),
    pytest.param(date(2027, 12, 31), 2, id="the last day of a year"),
    pytest.param(date(2027, 12, 25), 2, id="the last day of a week"),
]
LAST, FIRST = "23:59:59.999999", "00:00:00"


@pytest.fixture
def installation(published_url: str, tmp_path: Path) -> SmallInstallation:
    made = SmallInstallation(SourceProgramme(published_url), tmp_path, {"lookback_days": 7})
    made.enrol(["last", "first"], enrolled_at="2025-01-01 00:00")
    return made


@pytest.mark.parametrize(("day", "n_days"), EDGES)
def test_the_last_microsecond_of_a_day_and_the_first_of_the_next_are_told_apart(
    installation: SmallInstallation, day: date, n_days: int
) -> None:
    next_day, programme, lake = day + timedelta(days=1), installation.programme, installation.stores.lake
    for name, at in (("last", f"{day} {LAST}"), ("first", f"{next_day} {FIRST}")):
        programme.message(f"M-{name}", name, sent_at=at, opened_at=at)
        programme.call(f"C-{name}", name, at, "busy")
    days = days_between(day, day + timedelta(days=n_days - 1))
    installation.read(*days)
    for asset, contract in (("sms_events", SMS_EVENTS), ("calls", CALLS)):
        n_rows = {each: lake.read(contract, asset, each.isoformat()).num_rows for each in days}
        n_each = 2 if asset == "sms_events" else 1
        assert n_rows == dict.fromkeys(days, 0) | {day: n_each, next_day: n_each}, asset

    states = {}
    for each in sorted({day, next_day, *days[-2:]}):
        materialize_caregiver_states(installation.stores, each)
        states[each] = installation.states(each)
    assert (states[day]["last"]["last_open_date"], states[day]["first"]["last_open_date"]) == (day, None)
    assert states[day]["last"]["days_since_last_open"] == 1
    assert states[next_day]["first"]["last_call_date"] == next_day
    # She is responsive on the day of her open and the six days after it.
    responsive = {name: [each for each in states if states[each][name]["state"] == "R"] for name in ("last", "first")}
    assert responsive == {
        "last": [each for each in states if each <= day + timedelta(days=6)],
        "first": [each for each in states if next_day <= each <= day + timedelta(days=7)],
    }


def test_the_weeks_of_a_history_begin_on_sunday_at_midnight_in_india(installation: SmallInstallation) -> None:
    """Opens in the last microsecond of the Saturday and in the first of the Sunday after the week of a leap day."""
    week = week_of(date(2028, 2, 29))
    saturday = last_day_of_week(week)
    newest = week + timedelta(days=7)
    weeks = weeks_ending_with(newest, 4)
    installation.programme.message("M-1", "last", sent_at=f"{saturday} {LAST}", opened_at=f"{saturday} {LAST}")
    sunday = saturday + timedelta(days=1)
    installation.programme.message("M-2", "first", sent_at=f"{sunday} {FIRST}", opened_at=f"{sunday} {FIRST}")
    installation.programme.call("C-1", "last", f"{saturday} {LAST}")
    installation.programme.call("C-2", "first", f"{sunday} {FIRST}")
    stores, last_day = installation.stores, last_day_of_week(newest)
    installation.read_registry(last_day)
    read_sms_events(stores, days_between(weeks[0], last_day))
    read_calls(stores, days_between(saturday, last_day))
    materialize_engagement_history(stores, newest, load_model_options(training_weeks=4))
    history = stores.lake.read(ENGAGEMENT_HISTORY, "engagement_history", newest.isoformat()).to_pylist()
    with stores.published() as connection:
        ids = {
            row["caregiver_key"]: row["caregiver_id"] for row in read_keys(connection, experiment="demo").to_pylist()
        }
    words = {ids[row["caregiver_key"]]: (row["opened_weeks"], row["called_weeks"]) for row in history}
    assert words == {"last": (0b0100, 0b0100), "first": (0b1000, 0b1000)}


def test_a_leap_day_can_be_closed_as_any_other(installation: SmallInstallation) -> None:
    installation.programme.dose("last", "BCG", date(2028, 2, 29))
    installation.read(date(2028, 2, 28), date(2028, 2, 29))
    lake = installation.stores.lake
    assert lake.require("vaccinations", "2028-02-29").n_rows() == 1
    assert lake.require("vaccinations", "2028-02-28").n_rows() == 0
    assert installation.close(date(2028, 3, 1)) == []
    assert lake.partitions("sms_events") == ["2028-02-28", "2028-02-29", "2028-03-01"]
