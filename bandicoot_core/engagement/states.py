"""Every caregiver at the end of a day: her state, and the facts that decide whether she may be called.

Here: the state of one day from the registry, events and calls. Not here: the weeks a model is trained on (history),
and who is eligible (policy), which follows from these facts and the options of a list.
"""

from datetime import date, timedelta

import ibis

from bandicoot_core.calendar import PROGRAMME_UTC_OFFSET_MINUTES, end_of_day, start_of_day
from bandicoot_core.contracts import CAREGIVER_STATES, ENGAGED_EVENT_TYPES, RESPONSIVE, UNRESPONSIVE

STATE_DAYS = 7
"""Days an open or click keeps a caregiver responsive, its own day included."""

_MINUTES_PER_WEEK = 7 * 24 * 60


def caregiver_states(
    caregivers: ibis.Table,
    events: ibis.Table,
    calls: ibis.Table,
    *,
    day: date,
    lookback_days: int,
    warm_up_weeks: int,
) -> ibis.Table:
    """The state of every caregiver at the end of an Asia/Kolkata day [CAREGIVER_STATES].

    `caregivers`, `events` and `calls` follow CAREGIVERS, SMS_EVENTS and CALLS. She is responsive when an SMS was
    opened or clicked on one of the 7 days that end with `day`. Her last open and last call are looked for on the
    `lookback_days` days that end with `day`; the days since are counted to the day after it, on which the list is
    called. Her warm-up ends `warm_up_weeks` weeks after the day she enrolled. Rows of caregivers who are not in the
    registry, and instants outside the lookback, are left out. The engine's session time zone must be UTC.

    Raises ValueError when the lookback is shorter than the 7 days the state needs, or the warm-up is negative.
    """
    if lookback_days < STATE_DAYS:
        raise ValueError(f"lookback_days is {lookback_days}; the state alone needs {STATE_DAYS} days")
    if warm_up_weeks < 0:
        raise ValueError(f"warm_up_weeks is {warm_up_weeks}; expected 0 or more")
    start, end = start_of_day(day - timedelta(days=lookback_days - 1)), end_of_day(day)
    # Filters come first and on bare columns, so that the engine skips row groups of other types and times.
    engaged = events.filter(
        events.event_type.isin(ENGAGED_EVENT_TYPES), events.occurred_at >= start, events.occurred_at < end
    )
    attempted = calls.filter(calls.attempted_at >= start, calls.attempted_at < end)
    last_opened = engaged.group_by("caregiver_key").aggregate(opened_at=engaged.occurred_at.max())
    last_called = attempted.group_by("caregiver_key").aggregate(called_at=attempted.attempted_at.max())
    joined = caregivers.left_join(last_opened, "caregiver_key").left_join(last_called, "caregiver_key")
    is_responsive = joined.opened_at >= start_of_day(day - timedelta(days=STATE_DAYS - 1))
    last_open_date = _day_of(joined.opened_at)
    next_day = ibis.literal(day + timedelta(days=1))
    return joined.select(
        "caregiver_key",
        "district",
        # Without an open in the lookback the comparison is null, and a null condition is not met.
        state=ibis.ifelse(is_responsive, RESPONSIVE, UNRESPONSIVE),
        last_open_date=last_open_date,
        days_since_last_open=next_day.delta(last_open_date, unit="day").cast("int16"),
        last_call_date=_day_of(joined.called_at),
        warm_up_end_date=_day_of(joined.enrolled_at, later_minutes=warm_up_weeks * _MINUTES_PER_WEEK),
        status=joined.status,
        ab_arm=joined.ab_arm,
    ).select(CAREGIVER_STATES.column_names)


def with_received(sms_events: ibis.Table, received_events: ibis.Table) -> ibis.Table:
    """What the source's logs say and what was told as it happened, one below the other.

    `sms_events` follows SMS_EVENTS, `received_events` RECEIVED_EVENTS; the columns are those that states and histories
    are made from. An open that both know is there twice: whoever counts opens must not start from this.
    """
    columns = ("caregiver_key", "event_type", "occurred_at")
    logged, received = sms_events.select(*columns), received_events.select(*columns)
    # A table in memory knows that it holds no nulls, one in a file does not; a union wants both alike.
    return logged.union(received.cast(dict(logged.schema().items())))


def opened_since(states: ibis.Table, received_events: ibis.Table, *, day: date) -> ibis.Table:
    """The states of a day [CAREGIVER_STATES], where who has opened since is responsive, with her last open.

    `received_events` follows RECEIVED_EVENTS; its opens after the end of the Asia/Kolkata day count. Days since the
    last open stay as they were at the end of the day.
    """
    opens = received_events.filter(
        received_events.event_type.isin(ENGAGED_EVENT_TYPES), received_events.occurred_at >= end_of_day(day)
    )
    last = opens.group_by("caregiver_key").aggregate(opened_at=opens.occurred_at.max())
    joined = states.left_join(last, "caregiver_key").drop("caregiver_key_right")
    return joined.mutate(
        state=ibis.ifelse(joined.opened_at.notnull(), RESPONSIVE, joined.state),
        last_open_date=ibis.coalesce(_day_of(joined.opened_at), joined.last_open_date),
    ).select(states.columns)


def open_days(events: ibis.Table) -> ibis.Table:
    """The days on which caregivers opened a message, among events as RECEIVED_EVENTS has them, each once."""
    opens = events.filter(events.event_type.isin(ENGAGED_EVENT_TYPES))
    return opens.select("caregiver_key", open_date=_day_of(opens.occurred_at)).distinct()


def _day_of(instant: ibis.Value, *, later_minutes: int = 0) -> ibis.Value:
    """The Asia/Kolkata day of an instant, or of one so many minutes later.

    The minutes are added before the day is taken: DuckDB turns a date to which weeks are added into a timestamp.
    """
    return (instant + ibis.interval(minutes=PROGRAMME_UTC_OFFSET_MINUTES + later_minutes)).date()
