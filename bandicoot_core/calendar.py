"""Days and weeks of the programme: Asia/Kolkata calendar days, weeks that start on Sunday, instants in UTC.

Every conversion between an instant and a day goes through this module. It knows nothing about partitions of a
particular asset and never asks what time it is: the moment is always passed in.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from bandicoot_core.errors import InvalidSettingError

PROGRAMME_TIME_ZONE = ZoneInfo("Asia/Kolkata")
PROGRAMME_UTC_OFFSET_MINUTES = 330
"""Asia/Kolkata is UTC+5:30 all year (no daylight saving since 1945), which lets engines shift by a constant."""

_SUNDAY = 6


def day_of(instant: datetime) -> date:
    """The Asia/Kolkata day that contains a time-zone aware instant; ValueError for a naive one."""
    if instant.tzinfo is None:
        raise ValueError(f"the instant {instant.isoformat()} has no time zone; pass it in UTC")
    return instant.astimezone(PROGRAMME_TIME_ZONE).date()


def start_of_day(day: date) -> datetime:
    """The UTC instant at which an Asia/Kolkata day starts (00:00 IST)."""
    return datetime.combine(day, time.min, tzinfo=PROGRAMME_TIME_ZONE).astimezone(UTC)


def end_of_day(day: date) -> datetime:
    """The UTC instant at which an Asia/Kolkata day ends, exclusive: the start of the next one."""
    return start_of_day(day + timedelta(days=1))


def week_of(day: date) -> date:
    """The Sunday that starts the week of a day; it names the week."""
    return day - timedelta(days=(day.weekday() - _SUNDAY) % 7)


def last_day_of_week(week: date) -> date:
    """The Saturday that ends the week named by a Sunday; ValueError when the date is no Sunday."""
    return require_sunday(week) + timedelta(days=6)


def last_closed_week(day: date) -> date:
    """The newest week that has ended before a day starts, named by its Sunday."""
    return week_of(day) - timedelta(days=7)


def weeks_ending_with(week: date, n_weeks: int) -> list[date]:
    """The n_weeks Sundays up to and including `week`, oldest first: the training window."""
    require_sunday(week)
    return [week - timedelta(days=7 * (n_weeks - 1 - k)) for k in range(n_weeks)]


def days_between(first_day: date, last_day: date) -> list[date]:
    """All days from first_day to last_day, both included; empty when last_day is earlier."""
    return list(_each_day(first_day, last_day))


def require_sunday(week: date) -> date:
    """The date itself when it is a Sunday, else ValueError that names the Sunday it should have been."""
    if week.weekday() != _SUNDAY:
        raise ValueError(f"a week is named by its Sunday; {week} is not one (did you mean {week_of(week)}?)")
    return week


def parse_day(text: str, *, name: str = "date") -> date:
    """A day from ISO text (YYYY-MM-DD); InvalidSettingError names the setting and what was expected."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidSettingError(
            f"{name}: {text!r} is not a day; write it as YYYY-MM-DD, for example 2026-11-20"
        ) from error


def refuse_future_day(day: date, *, now: datetime, name: str = "as-of date") -> date:
    """The day itself unless it lies after the Asia/Kolkata day of `now`; InvalidSettingError then."""
    today = day_of(now)
    if day > today:
        raise InvalidSettingError(
            f"{name}: {day} lies in the future (today is {today} in Asia/Kolkata); "
            f"a list can be made for {today} or an earlier day"
        )
    return day


def _each_day(first_day: date, last_day: date) -> Iterator[date]:
    day = first_day
    while day <= last_day:
        yield day
        day += timedelta(days=1)
