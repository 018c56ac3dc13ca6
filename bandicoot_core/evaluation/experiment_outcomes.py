"""What an experiment compares, summed per caregiver: weeks before and since treatment, and doses given on time.

Table expressions over histories, registry and doses. What is concluded from the sums belongs to experiment_effects.

A caregiver can be called from the end of her warm-up on, so that treatment begins for her when the share in force came
into force or when her warm-up ended, whichever is later. Weeks count as `before` when they ended before the experiment
began, or before her warm-up did: nobody was called in them, in either arm. A week that is partly one and partly the
other counts as neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import ibis

from bandicoot_core.calendar import PROGRAMME_UTC_OFFSET_MINUTES, day_of, end_of_day, start_of_day
from bandicoot_core.engagement.words import bit_count, bits, require_window, word_since

ON_TIME_DAYS = 7
"""A dose is on time when it is given on the day it is due or in the six days after, or earlier."""

_MINUTES_PER_DAY = 1440
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Period:
    """The weeks of a history, and what of them lies before and since treatment."""

    weeks: Sequence[date]
    """Sundays, oldest first."""
    began_at: datetime
    """When the first share of the experiment came into force."""
    in_force_at: datetime
    """When the share in force did."""
    warm_up_weeks: int

    @property
    def first_week(self) -> int:
        """Position of the first week that started under the share in force; len(weeks) when none has."""
        return sum(start_of_day(week) < self.in_force_at for week in self.weeks)

    @property
    def n_weeks_before(self) -> int:
        """Weeks that ended before the experiment began; they are the first ones."""
        return sum(end_of_day(week + timedelta(days=6)) <= self.began_at for week in self.weeks)


def engagement_sums(history: ibis.Table, caregivers: ibis.Table, period: Period) -> ibis.Table:
    """caregiver_key, n_weeks_before, n_responsive_before, n_weeks, n_responsive of everyone in `history`; int16.

    `history` follows ENGAGEMENT_HISTORY over period.weeks, `caregivers` CAREGIVERS. Only observed weeks count.
    """
    words = _with_words(history, caregivers, period)
    return words.select(
        "caregiver_key",
        **_counts(words, words.before, "_before"),
        **_counts(words, words.since, ""),
    )


def engagement_by_week(history: ibis.Table, caregivers: ibis.Table, period: Period) -> ibis.Table:
    """engagement_sums with n_weeks_k and n_responsive_k for each week k = 0, 1, ... since the first: up to its end."""
    words = _with_words(history, caregivers, period)
    looks: dict[str, ibis.Value] = {}
    for k, position in enumerate(range(period.first_week, len(period.weeks))):
        looks |= _counts(words, words.since & bits(0, position + 1), f"_{k}")
    return words.select("caregiver_key", **_counts(words, words.before, "_before"), **looks)


def dose_schedule(vaccinations: ibis.Table, caregivers: ibis.Table) -> dict[str, int]:
    """How many days after enrolment each vaccine falls due: the median over the doses given.

    The lake holds doses that were given, not those that were due: when a dose fell due is told from the others' dates,
    which treatment does not change.
    """
    known = vaccinations.filter(vaccinations.scheduled_date.notnull())
    joined = known.inner_join(caregivers.select("caregiver_key", "enrolled_at"), "caregiver_key")
    after = _day_number(joined.scheduled_date) - _day_number(_day(joined.enrolled_at))
    medians = joined.group_by("vaccine_name").aggregate(days=after.median()).to_pyarrow().to_pylist()
    return {row["vaccine_name"]: round(row["days"]) for row in sorted(medians, key=lambda row: row["vaccine_name"])}


def dose_sums(
    vaccinations: ibis.Table,
    caregivers: ibis.Table,
    period: Period,
    *,
    schedule: Mapping[str, int],
    first_day: date,
    last_day: date,
) -> ibis.Table:
    """caregiver_key, n_due and n_on_time (int16) of every caregiver, for doses due since treatment began for her.

    vaccinations: VACCINATIONS of the days first_day to last_day. n_due follows from `schedule`, n_on_time from the
    doses; both count due days from first_day on that lie ON_TIME_DAYS or more before the end of last_day, so that it
    is known whether the dose came in time.
    """
    first = max(first_day, day_of(period.in_force_at))
    last = _number_of(last_day - timedelta(days=ON_TIME_DAYS - 1))
    enrolled = _day_number(_day(caregivers.enrolled_at))
    starts = caregivers.select(
        "caregiver_key",
        enrolled_day=enrolled,
        first_due=ibis.greatest(_number_of(first), enrolled + 7 * period.warm_up_weeks),
    )
    due = [(starts.enrolled_day + days).between(starts.first_due, last).cast("int16") for days in schedule.values()]
    doses = vaccinations.select(
        "caregiver_key", due_day=_day_number(vaccinations.scheduled_date), day=_day_number(vaccinations.actual_date)
    )
    timely = doses.inner_join(starts, "caregiver_key")
    timely = timely.filter(timely.due_day.between(timely.first_due, last), timely.day - timely.due_day < ON_TIME_DAYS)
    counted = timely.group_by("caregiver_key").aggregate(n_on_time=timely.count())
    joined = starts.mutate(n_due=sum(due[1:], due[0]) if due else ibis.literal(0)).left_join(counted, "caregiver_key")
    return joined.select(
        "caregiver_key", n_due=joined.n_due.cast("int16"), n_on_time=joined.n_on_time.fill_null(0).cast("int16")
    )


def _with_words(history: ibis.Table, caregivers: ibis.Table, period: Period) -> ibis.Table:
    """The history with the words of the weeks before and since treatment."""
    weeks = require_window(period.weeks)
    whole = bits(0, len(weeks))
    joined = history.inner_join(caregivers.select("caregiver_key", "enrolled_at"), "caregiver_key")
    warm_up_minutes = 7 * period.warm_up_weeks * _MINUTES_PER_DAY
    callable_at = joined.enrolled_at + ibis.interval(minutes=warm_up_minutes)
    # The warm-up ends at the beginning of a day, up to a day before this instant; and weeks are told by their starts.
    ended_before = joined.enrolled_at + ibis.interval(minutes=warm_up_minutes - 8 * _MINUTES_PER_DAY)
    return joined.select(
        *history.columns,
        before=(word_since(ended_before, weeks) ^ whole) | bits(0, period.n_weeks_before),
        since=word_since(callable_at, weeks) & bits(period.first_week, len(weeks)),
    )


def _counts(words: ibis.Table, chosen: ibis.Value, suffix: str) -> dict[str, ibis.Value]:
    observed = words.observed_weeks & chosen
    return {
        f"n_weeks{suffix}": bit_count(observed).cast("int16"),
        f"n_responsive{suffix}": bit_count(observed & words.opened_weeks).cast("int16"),
    }


def _day(instant: ibis.Value) -> ibis.Value:
    """The Asia/Kolkata day of an instant."""
    return (instant + ibis.interval(minutes=PROGRAMME_UTC_OFFSET_MINUTES)).date()


def _day_number(day: ibis.Value) -> ibis.Value:
    """Days since 1970-01-01: numbers, since DuckDB turns a date to which days are added into an instant."""
    return day.delta(ibis.literal(_EPOCH), unit="day")


def _number_of(day: date) -> int:
    return (day - _EPOCH).days
