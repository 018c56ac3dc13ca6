from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandicoot_core.calendar import (
    day_of,
    days_between,
    end_of_day,
    last_closed_week,
    last_day_of_week,
    parse_day,
    refuse_future_day,
    start_of_day,
    week_of,
    weeks_ending_with,
)
from bandicoot_core.errors import InvalidSettingError

days = st.dates(min_value=date(2000, 1, 1), max_value=date(2100, 12, 31))


@pytest.mark.parametrize(
    ("instant", "day"),
    [
        ("2026-11-20T18:29:59.999999+00:00", "2026-11-20"),
        ("2026-11-20T18:30:00+00:00", "2026-11-21"),
        ("2024-02-28T18:30:00+00:00", "2024-02-29"),
        ("2026-12-31T18:30:00+00:00", "2027-01-01"),
    ],
)
def test_a_day_starts_at_midnight_in_india(instant: str, day: str) -> None:
    assert day_of(datetime.fromisoformat(instant)) == date.fromisoformat(day)


def test_a_naive_instant_has_no_day() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        day_of(datetime(2026, 11, 20))  # noqa: DTZ001 - the naive instant is the point


@given(days)
def test_a_day_holds_its_first_instant_and_not_its_end(day: date) -> None:
    assert day_of(start_of_day(day)) == day
    assert day_of(end_of_day(day) - timedelta(microseconds=1)) == day
    assert end_of_day(day) - start_of_day(day) == timedelta(days=1)


@given(days)
def test_a_week_starts_on_the_sunday_on_or_before_its_days(day: date) -> None:
    week = week_of(day)
    assert week.strftime("%A") == "Sunday"
    assert timedelta(0) <= day - week < timedelta(days=7)
    assert last_day_of_week(week).strftime("%A") == "Saturday"


@given(days)
def test_the_last_closed_week_has_ended_before_the_day(day: date) -> None:
    week = last_closed_week(day)
    assert last_day_of_week(week) < day
    assert last_day_of_week(week) + timedelta(days=7) >= day


def test_the_training_window_is_consecutive_sundays_oldest_first() -> None:
    weeks = weeks_ending_with(date(2026, 11, 15), 3)
    assert weeks == [date(2026, 11, 1), date(2026, 11, 8), date(2026, 11, 15)]


def test_a_week_named_by_another_day_is_refused_with_the_sunday_meant() -> None:
    with pytest.raises(ValueError, match="2026-11-15"):
        last_day_of_week(date(2026, 11, 18))


def test_days_between_includes_both_ends() -> None:
    assert days_between(date(2024, 2, 28), date(2024, 3, 1)) == [
        date(2024, 2, 28),
        date(2024, 2, 29),
        date(2024, 3, 1),
    ]
    assert days_between(date(2024, 3, 1), date(2024, 2, 28)) == []


def test_a_future_day_is_refused_by_the_indian_calendar() -> None:
    now = datetime(2026, 11, 20, 18, 30, tzinfo=UTC)
    assert refuse_future_day(date(2026, 11, 21), now=now) == date(2026, 11, 21)
    with pytest.raises(InvalidSettingError, match=r"2026-11-22 lies in the future \(today is 2026-11-21"):
        refuse_future_day(date(2026, 11, 22), now=now)


def test_text_that_is_no_day_is_refused_with_the_form_expected() -> None:
    with pytest.raises(InvalidSettingError, match="--as-of: 'tomorrow' is not a day; write it as YYYY-MM-DD"):
        parse_day("tomorrow", name="--as-of")
