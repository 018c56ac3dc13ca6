"""What follows from a past day that has changed: states are renewed, lists that went out stay and are named."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from extraction_runs import manifests
from small_installation import OPTIONS, SmallInstallation

from bandicoot_core.calendar import days_between, last_closed_week
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.pipeline.call_list import make_call_list_again
from bandicoot_core.pipeline.daily_staleness import stale_lists, stale_states, why_list_is_stale
from bandicoot_core.pipeline.engagement import materialize_caregiver_states
from bandicoot_core.pipeline.staleness import why_model_is_stale
from tests.source_programme import SourceProgramme

CALL_DATE = date(2026, 11, 19)
YESTERDAY = CALL_DATE - timedelta(days=1)
NAMES = [f"CG-{n}" for n in range(40)]


@pytest.fixture
def states_only(published_url: str, tmp_path: Path) -> SmallInstallation:
    """Five days in the lake up to YESTERDAY, each with its states."""
    made = SmallInstallation(SourceProgramme(published_url), tmp_path)
    made.enrol(["CG-1", "CG-2"])
    days = days_between(YESTERDAY - timedelta(days=4), YESTERDAY)
    made.read(*days)
    for day in days:
        materialize_caregiver_states(made.stores, day)
    return made


def stale(installation: SmallInstallation) -> dict[date, str]:
    return stale_states(installation.stores.lake, YESTERDAY, installation.stores.settings)


def test_late_rows_renew_the_states_of_their_day_and_of_those_after_it(states_only: SmallInstallation) -> None:
    states_only.programme.message("M-late", "CG-1", sent_at="2026-11-16 09:00", opened_at="2026-11-16 10:00")
    assert states_only.close(CALL_DATE) == ["2026-11-16", "2026-11-17", "2026-11-18"]
    state = {day: states_only.states(date(2026, 11, day))["CG-1"]["state"] for day in range(15, 20)}
    assert state == {15: "U", 16: "R", 17: "R", 18: "R", 19: "R"}
    before = manifests(states_only.stores.lake)
    assert states_only.close(CALL_DATE) == []
    assert manifests(states_only.stores.lake) == before


def test_an_outcome_recorded_days_later_counts_as_the_last_call_from_its_day_on(states_only: SmallInstallation) -> None:
    states_only.programme.call("C-1", "CG-2", "2026-11-14 10:00", "no_answer")
    states_only.programme.call("C-2", "CG-2", "2026-11-16 10:00", "busy")
    renewed = states_only.close(CALL_DATE)
    assert renewed == [f"2026-11-{day}" for day in range(14, 19)]
    last_call = [states_only.states(date(2026, 11, day))["CG-2"]["last_call_date"] for day in range(14, 20)]
    assert [called.day for called in last_call] == [14, 14, 16, 16, 16, 16]


def test_what_is_stale_and_why(states_only: SmallInstallation) -> None:
    states_only.settings |= {"warm_up_weeks": 1, "lookback_days": 60}
    assert stale(states_only) == {}, "a changed setting does not make the past wrong"
    states_only.programme.call("C-1", "CG-2", "2026-11-14 10:00")
    states_only.programme.message("M-1", "CG-1", sent_at="2026-11-17 09:00")
    states_only.read_events(YESTERDAY)
    assert list(stale(states_only).values()) == ["calls have changed since"] * 3 + ["sms_events have changed since"] * 2
    states_only.stores.lake.remove("caregivers", "2026-11-16")
    assert [day.day for day in stale(states_only)] == [14, 15, 17, 18], "without her registry a day can't be renewed"
    states_only.settings["lookback_days"] = 7
    days_later = stale_states(states_only.stores.lake, date(2026, 11, 21), states_only.stores.settings)
    assert [day.day for day in days_later] == [15, 17, 18], "nothing reads states from before the lookback"


def test_late_rows_reach_the_next_list_and_the_next_model_and_never_a_list_that_went_out(
    published_url: str, tmp_path: Path
) -> None:
    made = SmallInstallation(SourceProgramme(published_url), tmp_path)
    made.enrol(NAMES)
    made.live_through(NAMES, CALL_DATE)
    lake, week = made.stores.lake, last_closed_week(CALL_DATE)
    went_out = made.make_list(CALL_DATE, budget=5)
    rows = made.list_rows(CALL_DATE)
    made.close(CALL_DATE)
    assert why_list_is_stale(lake, CALL_DATE) is None
    assert why_model_is_stale(lake, week, OPTIONS) is None

    # One call of yesterday, and one of three weeks ago, in the window of the model: both recorded only now.
    not_listed = [name for name in NAMES if name not in went_out]
    made.programme.call("late-1", not_listed[0], f"{YESTERDAY} 18:00", "no_answer")
    made.programme.call("late-2", not_listed[1], "2026-10-30 18:00")
    next_day = CALL_DATE + timedelta(days=1)
    # Closed again on the same evening: yesterday and the day three weeks ago are read again.
    assert made.close(CALL_DATE)[-1] == YESTERDAY.isoformat()
    listed = made.make_list(next_day, budget=1000, cool_down_days=14, pending_days=0)
    assert not_listed[0] not in listed
    assert not_listed[1] in listed
    assert not_listed[1] not in made.make_list(next_day, budget=1000, cool_down_days=30, pending_days=0)

    assert why_list_is_stale(lake, CALL_DATE) == f"caregiver_states of {YESTERDAY} have changed since it was made"
    assert list(stale_lists(lake, next_day, 30)) == [CALL_DATE]
    assert made.published(CALL_DATE) == went_out
    assert made.list_rows(CALL_DATE) == rows
    with pytest.raises(InvalidInputError, match="the published list stands"):
        make_call_list_again(made.stores, CALL_DATE)

    assert why_model_is_stale(lake, week, OPTIONS) == "calls has changed since the model was trained"
    before = lake.require("engagement_history", week.isoformat()).digest
    made.train(week)
    assert why_model_is_stale(lake, week, OPTIONS) is None
    assert lake.require("engagement_history", week.isoformat()).digest != before
