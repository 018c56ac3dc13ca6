"""Weeks before and since treatment, and doses on time, on a few caregivers checked by eye."""

from datetime import UTC, date, datetime, timedelta

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import start_of_day
from bandicoot_core.contracts import CAREGIVERS, ENGAGEMENT_HISTORY, VACCINATIONS
from bandicoot_core.evaluation.experiment_outcomes import (
    Period,
    dose_schedule,
    dose_sums,
    engagement_by_week,
    engagement_sums,
)

SUNDAY = date(2026, 8, 2)
WEEKS = [SUNDAY + timedelta(weeks=k) for k in range(10)]
LAST_DAY = WEEKS[-1] + timedelta(days=6)
LONG_AGO = date(2026, 1, 5)


def caregivers(enrolled: dict[int, date]) -> ibis.Table:
    """The registry: key -> day of enrolment, at 10:00 IST."""
    rows = [
        {
            "caregiver_key": key,
            "district": "Patna",
            "enrolled_at": start_of_day(day) + timedelta(hours=10),
            "age": 25,
            "parity": 1,
            "phone_reliable": True,
            "enrollment_source": "hospital",
            "status": "active",
            "ab_arm": "treatment",
        }
        for key, day in enrolled.items()
    ]
    return ibis.memtable(pa.Table.from_pylist(rows, schema=CAREGIVERS.arrow_schema()))


def history(words: dict[int, tuple[str, str]]) -> ibis.Table:
    """key -> opened and observed weeks, written oldest first as 0 and 1."""
    rows = [
        {
            "caregiver_key": key,
            "opened_weeks": int(opened[::-1], 2),
            "called_weeks": 0,
            "observed_weeks": int(observed[::-1], 2),
        }
        for key, (opened, observed) in words.items()
    ]
    return ibis.memtable(pa.Table.from_pylist(rows, schema=ENGAGEMENT_HISTORY.arrow_schema()))


def period(began: date, in_force: date | None = None) -> Period:
    return Period(WEEKS, start_of_day(began), start_of_day(in_force or began), warm_up_weeks=6)


def by_key(table: ibis.Table) -> dict[int, tuple[int, ...]]:
    rows = table.to_pyarrow().to_pylist()
    return {row.pop("caregiver_key"): tuple(row.values()) for row in rows}


def test_weeks_split_where_the_experiment_began_or_the_warm_up_ended_whichever_is_later(engine: Backend) -> None:
    registry = caregivers(
        {
            1: LONG_AGO,
            # Week 1 is the first she saw whole; her warm-up ends on the Wednesday of week 6.
            2: SUNDAY + timedelta(days=3),
            # Six weeks after this Sunday week 6 begins, but she enrolled at 10:00.
            3: SUNDAY,
            4: SUNDAY + timedelta(weeks=8),
        }
    )
    words = history(
        {
            1: ("1110000011", "1111111111"),
            2: ("0100000110", "0111111111"),
            3: ("0100000110", "0111111111"),
            4: ("0000000001", "0000000001"),
        }
    )
    sums = engine.execute(
        engagement_sums(words, registry, period(SUNDAY + timedelta(weeks=3))).order_by("caregiver_key")
    )
    assert list(sums.columns) == ["caregiver_key", "n_weeks_before", "n_responsive_before", "n_weeks", "n_responsive"]
    assert sums.to_numpy().tolist() == [
        [1, 3, 3, 7, 2],
        [2, 5, 1, 3, 2],
        [3, 4, 1, 3, 2],
        [4, 1, 1, 0, 0],
    ]


def test_a_share_that_came_into_force_later_leaves_the_weeks_between_out(engine: Backend) -> None:
    registry, words = caregivers({1: LONG_AGO}), history({1: ("1111111111", "1111111111")})
    raised = period(SUNDAY + timedelta(weeks=2), SUNDAY + timedelta(weeks=6, days=1))
    assert by_key(engagement_sums(words, registry, raised)) == {1: (2, 2, 3, 3)}
    assert (raised.n_weeks_before, raised.first_week) == (2, 7)
    assert period(SUNDAY - timedelta(weeks=5)).n_weeks_before == 0
    assert period(LAST_DAY).first_week == 10


def test_each_weeks_sums_end_with_the_week_and_the_last_are_those_of_the_period(engine: Backend) -> None:
    registry = caregivers({1: LONG_AGO, 2: SUNDAY + timedelta(days=3)})
    words = history({1: ("0000000101", "1111111111"), 2: ("0000000011", "0111111111")})
    began = period(SUNDAY + timedelta(weeks=7))
    assert by_key(engagement_by_week(words, registry, began)) == {
        1: (7, 0, 1, 1, 2, 1, 3, 2),
        2: (6, 0, 1, 0, 2, 1, 3, 2),
    }


def doses(rows: list[tuple[int, str, date | None, date]]) -> ibis.Table:
    names = VACCINATIONS.column_names
    return ibis.memtable(
        pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=VACCINATIONS.arrow_schema())
    )


def test_a_schedule_is_told_from_the_doses_that_were_given(engine: Backend) -> None:
    day = date(2026, 8, 3)
    registry = caregivers({1: day, 2: day, 3: day})
    given = doses(
        [
            (1, "Penta-1", day + timedelta(days=42), day + timedelta(days=44)),
            (2, "Penta-1", day + timedelta(days=42), day + timedelta(days=42)),
            (3, "Penta-1", day + timedelta(days=49), day + timedelta(days=49)),
            (1, "BCG", day, day),
            (2, "BCG", None, day),
        ]
    )
    assert dose_schedule(given, registry) == {"BCG": 0, "Penta-1": 42}
    assert dose_schedule(doses([]), registry) == {}


def test_doses_count_when_they_fell_due_since_treatment_and_long_enough_ago_to_know(engine: Backend) -> None:
    began = SUNDAY + timedelta(weeks=2)
    schedule = {"Penta-2": 70, "Penta-3": 98}
    due = {
        1: began - timedelta(days=1),  # too early
        2: began,
        3: LAST_DAY - timedelta(days=6),
        4: LAST_DAY - timedelta(days=5),  # whether it came in time is not known yet
        5: began + timedelta(days=9),
        6: began + timedelta(days=9),
        7: began + timedelta(days=9),
    }
    registry = caregivers({key: day - timedelta(days=70) for key, day in due.items()})
    after = {1: 0, 2: 6, 3: 0, 4: 0, 5: 7, 6: -3}
    given = doses([(key, "Penta-2", due[key], due[key] + timedelta(days=days)) for key, days in after.items()])
    sums = by_key(dose_sums(given, registry, period(began), schedule=schedule, first_day=WEEKS[0], last_day=LAST_DAY))
    # The second dose is due four weeks later: for the first caregiver within the window, for the last ones too.
    assert sums == {1: (1, 0), 2: (2, 1), 3: (1, 1), 4: (0, 0), 5: (2, 0), 6: (2, 1), 7: (2, 0)}


def test_doses_due_in_the_warm_up_or_before_the_lake_begins_do_not_count(engine: Backend) -> None:
    enrolled = WEEKS[1]
    registry = caregivers({1: enrolled})
    given = doses([(1, "Penta-1", enrolled + timedelta(days=41), enrolled + timedelta(days=41))])
    options = {"schedule": {"Penta-1": 41, "Penta-2": 42}, "last_day": LAST_DAY}
    assert by_key(dose_sums(given, registry, period(WEEKS[0]), first_day=WEEKS[0], **options)) == {1: (1, 0)}
    late = enrolled + timedelta(days=43)
    assert by_key(dose_sums(given, registry, period(WEEKS[0]), first_day=late, **options)) == {1: (0, 0)}
    assert by_key(dose_sums(given, registry, period(WEEKS[0]), schedule={}, first_day=WEEKS[0], last_day=LAST_DAY)) == {
        1: (0, 0)
    }


def test_the_weeks_are_consecutive_sundays(engine: Backend) -> None:
    odd = Period(
        [SUNDAY, SUNDAY + timedelta(days=8)], datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 8, 1, tzinfo=UTC), 6
    )
    with pytest.raises(ValueError, match="named by its Sunday"):
        engagement_sums(history({}), caregivers({}), odd)
