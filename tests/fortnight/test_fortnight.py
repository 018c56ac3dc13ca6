"""Nights pass under the real daemon with an outage, a late source, a bad model and a burst: the lists and alarms."""

from collections import Counter
from datetime import date, timedelta

import pytest

from bandicoot_core.calendar import PROGRAMME_TIME_ZONE
from tests.fortnight.conftest import IS_WHOLE, Lived
from tests.fortnight.record import is_in_time
from tests.fortnight.site import BUDGET

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

FIRST_MODEL = "2026-01-25"
"""The week of the champion with which all begins."""

COOL_DOWN = timedelta(days=14)

# Day, whether its list was out by two o'clock, and the week of the model that made it.
LISTS = (
    [
        ("2026-02-05", True, FIRST_MODEL),
        ("2026-02-06", True, FIRST_MODEL),
        ("2026-02-07", True, FIRST_MODEL),
        ("2026-02-08", True, FIRST_MODEL),
        ("2026-02-09", True, FIRST_MODEL),
        ("2026-02-10", True, FIRST_MODEL),
        ("2026-02-11", True, FIRST_MODEL),
        ("2026-02-12", False, FIRST_MODEL),
        ("2026-02-13", True, FIRST_MODEL),
        ("2026-02-14", True, FIRST_MODEL),
        ("2026-02-15", True, FIRST_MODEL),
        ("2026-02-16", True, "2026-02-08"),
        ("2026-02-17", True, "2026-02-08"),
        ("2026-02-18", True, "2026-02-08"),
    ]
    if IS_WHOLE
    else [
        ("2026-02-06", True, FIRST_MODEL),
        ("2026-02-07", True, FIRST_MODEL),
        ("2026-02-08", True, FIRST_MODEL),
        ("2026-02-09", False, FIRST_MODEL),
    ]
)

# What people were told, in order, and at about which time.
TOLD = (
    [
        ("2026-02-08 02", "error: a model was rejected (model_version 2026-02-01)"),
        ("2026-02-12 08", "error: the call list is late (published_call_list 2026-02-12)"),
        ("2026-02-12 08", "recovered: the call list is late (published_call_list 2026-02-12)"),
        ("2026-02-15 02", "recovered: a model was rejected (model_version 2026-02-01)"),
    ]
    if IS_WHOLE
    else [
        ("2026-02-08 02", "error: a model was rejected (model_version 2026-02-01)"),
        ("2026-02-09 08", "error: the call list is late (published_call_list 2026-02-09)"),
        ("2026-02-09 08", "recovered: the call list is late (published_call_list 2026-02-09)"),
    ]
)


def test_each_day_has_its_list_in_time_but_after_the_outage_by_the_model_that_was_good(lived: Lived) -> None:
    found = [
        (day.day.isoformat(), is_in_time(day), model[:10])
        for day in lived.days
        if day.published is not None
        for model in day.published.models
    ]
    assert found == LISTS


def test_people_are_told_what_they_have_to_know_and_nothing_else(lived: Lived) -> None:
    found = [(f"{each.at.astimezone(PROGRAMME_TIME_ZONE):%Y-%m-%d %H}", each.subject) for each in lived.site.told]
    assert found == TOLD
    incidents = lived.site.sql("SELECT count(*), count(recovered_at) FROM bandicoot.incidents")
    n_begun = sum("recovered" not in subject for _, subject in TOLD)
    assert incidents == [(n_begun, len(TOLD) - n_begun)]


def test_every_list_uses_its_budget_and_nobody_is_listed_again_within_the_cool_down(lived: Lived) -> None:
    lists = lived.site.lists()
    assert {len(each.caregiver_ids) for each in lists} == {BUDGET}
    for later in lists:
        recent = [each for each in lists if timedelta(0) < later.call_date - each.call_date < COOL_DOWN]
        assert not set(later.caregiver_ids) & {caregiver for each in recent for caregiver in each.caregiver_ids}


def test_every_day_is_closed_once_and_only_what_was_late_or_bad_has_failed(lived: Lived) -> None:
    closed = Counter(run.partition for run in lived.runs if run.job == "nightly" and run.status == "SUCCESS")
    assert closed == {_before(day): 1 for day in lived.plan.list_days}
    failed = {(run.job, run.partition) for run in lived.runs if run.status != "SUCCESS"}
    assert failed == {("nightly", _before(lived.plan.late_source)), ("weekly_training", "2026-02-01")}
    jobs = Counter(run.job for run in lived.runs if run.status == "SUCCESS")
    n_nights, n_sundays = len(lived.days), sum(day.day.weekday() == 6 for day in lived.days)
    assert jobs == {
        "nightly": n_nights,
        "daily_list": n_nights,
        "cost_of_month": n_nights,
        "evaluation": n_sundays,
        "housekeeping": n_sundays,
        **({"weekly_training": n_sundays - 1} if n_sundays > 1 else {}),
    }


def test_a_burst_of_events_is_in_the_lake_once_and_in_the_next_list(lived: Lived) -> None:
    [at] = [place for place, day in enumerate(lived.days) if day.burst is not None]
    burst, after = lived.days[at].burst, lived.days[at + 1]
    assert burst is not None
    assert burst.n_events > 3000
    assert (burst.n_in_lake, burst.n_responsive) == (burst.n_events, len(burst.caregiver_ids))
    assert lived.site.broker.n_left == 0
    assert lived.site.sql("SELECT count(*) FROM bandicoot.dead_letters") == [(0,)]
    states = lived.site.sql("SELECT caregiver_id, state FROM bandicoot.call_list WHERE call_date = %s", after.day)
    assert {state for caregiver_id, state in states if caregiver_id in burst.caregiver_ids} <= {"R"}
    kept = lived.site.sql("SELECT state, count(*) FROM bandicoot.caregiver_states GROUP BY state")
    assert set(dict(kept)) == {"R", "U"}


def test_no_tick_of_a_schedule_or_sensor_has_failed(lived: Lived) -> None:
    ticks = dict(lived.site.sql("SELECT status, count(*) FROM dagster.job_ticks GROUP BY status"))
    assert set(ticks) == {"SUCCESS", "SKIPPED"}


def _before(day: date) -> str:
    return date.fromordinal(day.toordinal() - 1).isoformat()
