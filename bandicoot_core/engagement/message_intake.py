"""Messages of the source become events: one row for each thing that happened to a message, on the day it happened.

What a fault, a record and an intake are belongs to intake. One row of sms_logs gives events on as many days as things
happened to it; a row that is set aside is so on each of them, and counts once on each.
"""

from collections.abc import Sequence
from datetime import date

import ibis

from bandicoot_core.contracts import EVENT_TYPES, SMS_EVENTS
from bandicoot_core.engagement.intake import (
    CAREGIVER_FAULTS,
    ROW_SET_ASIDE,
    Fault,
    Intake,
    day_among,
    fault_records,
    is_blank,
    judge,
    records,
    text_of,
)

_INSTANTS = ("sent_at", "delivered_at", "opened_at", "clicked_at")
_INSTANT_OF = dict(zip(EVENT_TYPES, (*_INSTANTS, "sent_at"), strict=True))
"""Event type -> the column that says when it happened; a failure carries its sending time."""

_FAILED_STATUS = "failed"


def _before_sending(column: str) -> Fault:
    return Fault(
        column,
        lambda rows: rows[column] < rows.sent_at,
        lambda rows: text_of(rows[column]).concat(", sent_at ", text_of(rows.sent_at)),
        f"{column} before sent_at (expected sent_at or later)",
    )


_FAULTS = (
    Fault(
        "message_id",
        lambda rows: is_blank(rows.message_id),
        lambda rows: rows.message_id,
        "no message_id (expected one)",
    ),
    *CAREGIVER_FAULTS,
    _before_sending("opened_at"),
    _before_sending("clicked_at"),
    _before_sending("delivered_at"),
)


def judge_messages(rows: ibis.Table, keys: ibis.Table, days: Sequence[date]) -> ibis.Table:
    """Rows of the source table sms_logs with row_id, caregiver_key, is_failed, fault, unknown_id and their days.

    `keys` has caregiver_key and caregiver_id; `days` are consecutive Asia/Kolkata days in order. `sent_on`,
    `delivered_on`, `opened_on` and `clicked_on` say on which of them, if any. A message that was opened, clicked or
    delivered before it was sent has a fault; one without sent_at has none, it just gives no `sent` event. `row_id`
    numbers the rows in no fixed order.
    """
    judged = judge(rows, keys, _FAULTS)
    return judged.select(
        "caregiver_key",
        "message_id",
        *_INSTANTS,
        "fault",
        "unknown_id",
        is_failed=(judged.status == _FAILED_STATUS).fill_null(False),
        row_id=ibis.row_number(),
        **{_day_of(name): day_among(judged[name], days) for name in _INSTANTS},
    )


def message_events(messages: ibis.Table) -> ibis.Table:
    """All events of judged messages on the days they were judged for, with partition_date.

    `is_first_of_day` marks one event for each row and day. `position` counts from 0 the events of one type and day
    that faultless rows with the same message_id give; the first is taken. They stand in the order of occurred_at, then
    caregiver_key, then the row's instants as sent, delivered, opened, clicked, then failure.
    """
    events = _happenings(messages)
    position = ibis.row_number().over(
        group_by=[events.partition_date, events.event_type, events.message_id, events.fault.isnull()],
        order_by=[events.occurred_at, events.caregiver_key, *(events[name] for name in _INSTANTS), events.is_failed],
    )
    return events.select(
        "partition_date",
        "caregiver_key",
        "message_id",
        "event_type",
        "occurred_at",
        "row_id",
        "is_first_of_day",
        "fault",
        position=position,
    )


def take_in_messages(messages: ibis.Table, events: ibis.Table) -> Intake:
    """Events [SMS_EVENTS] from judged messages and all their events.

    Set aside are rows without message_id, without a known caregiver, or with something that happened before the
    message was sent; and, of rows that share a message_id, the events that another one gave already.
    """
    is_faultless = events.fault.isnull()
    is_repeated = ibis.and_(is_faultless, events.position > 0)
    accepted = events.filter(is_faultless, events.position == 0).select("partition_date", *SMS_EVENTS.column_names)
    counts = events.group_by("partition_date").aggregate(
        n_read=events.is_first_of_day.sum(),
        n_set_aside=ibis.and_(events.is_first_of_day, events.fault.notnull()).sum()
        + events.row_id.nunique(where=is_repeated),
        n_blanked=ibis.literal(0),
    )
    faulty = _happenings(messages.filter(messages.fault.notnull()))
    faulty = faulty.filter(faulty.is_first_of_day)
    named = ibis.literal("message_id=").concat(faulty.message_id)
    unnamed = ibis.literal("no message_id, sent_at=").concat(text_of(faulty.sent_at).fill_null(""))
    source_row = ibis.ifelse(is_blank(faulty.message_id), unnamed, named)
    set_aside = fault_records(faulty.mutate(source_row=source_row), _FAULTS)
    return Intake(accepted, set_aside.union(_repetitions(events.filter(is_repeated))), counts)


def _repetitions(repeated: ibis.Table) -> ibis.Table:
    """One record for each row of which events are left out; the row's other events are taken over."""
    rows = repeated.group_by("partition_date", "message_id", "row_id", "caregiver_key").aggregate(
        found=repeated.event_type.group_concat(", ", order_by=repeated.event_type)
    )
    return records(
        rows.mutate(source_row=ibis.literal("message_id=").concat(rows.message_id)),
        column_name="message_id",
        found=rows.found,
        reason="events that another row with this message_id gives (expected one row for each message)",
        action=ROW_SET_ASIDE,
    )


def _happenings(messages: ibis.Table) -> ibis.Table:
    """Each judged message once for everything that happened to it on the days, with all its columns."""
    parts = []
    for event_type, column in _INSTANT_OF.items():
        day = messages[_day_of(column)]
        conditions = [day.notnull()]
        is_first = ibis.literal(True)
        for earlier in _INSTANTS[: _INSTANTS.index(column)]:
            is_first = ibis.and_(is_first, (day != messages[_day_of(earlier)]).fill_null(True))
        if event_type == _FAILED_STATUS:  # it was sent then, too
            conditions.append(messages.is_failed)
            is_first = ibis.literal(False)
        parts.append(
            messages.filter(*conditions).mutate(
                partition_date=day,
                event_type=ibis.literal(event_type),
                occurred_at=messages[column],
                is_first_of_day=is_first,
            )
        )
    return ibis.union(*parts)


def _day_of(instant_column: str) -> str:
    return instant_column.removesuffix("_at") + "_on"
