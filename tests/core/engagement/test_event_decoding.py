"""What is an event and what is not, and that nothing of the rest is kept but what is wrong with it."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandicoot_core.engagement.event_decoding import (
    EVENTS_SCHEMA,
    DeadLetter,
    decode_events,
    looks_like_telephone,
)

RECEIVED = datetime(2026, 11, 20, 6, 30, tzinfo=UTC)
OPENED: dict[str, Any] = {
    "event_type": "sms_opened",
    "caregiver_id": "CG-1",
    "timestamp": "2026-11-20T11:59:30+05:30",
    "metadata": {"message_id": "M-1"},
}


@dataclass(frozen=True)
class Message:
    payload: bytes | None
    position: str = "p"
    problem: str | None = None


def decoded(*payloads: object) -> tuple[list[dict[str, Any]], list[DeadLetter]]:
    messages = [Message(json.dumps(payload).encode(), str(n)) for n, payload in enumerate(payloads)]
    table, letters = decode_events(messages, received_at=RECEIVED)
    assert table.schema == EVENTS_SCHEMA
    return table.to_pylist(), letters


def refused(**changes: object) -> DeadLetter:
    events, [letter] = decoded({**OPENED, **changes})
    assert events == []
    return letter


def test_an_event_is_read_field_by_field_and_other_fields_are_passed_over() -> None:
    events, letters = decoded(
        {**OPENED, "name": "Asha", "metadata": {"message_id": "M-1", "phone": "+91 98765 43210"}},
        {**OPENED, "event_type": "sms_delivered", "timestamp": "2026-11-20T06:00:00Z"},
        {"event_type": "vaccination_completed", "caregiver_id": "CG-2", "timestamp": "2026-11-01T00:00:00.25-01:00"},
    )
    assert letters == []
    assert [tuple(event.values()) for event in events] == [
        ("0", "CG-1", "opened", datetime(2026, 11, 20, 6, 29, 30, tzinfo=UTC), "M-1"),
        ("1", "CG-1", "delivered", datetime(2026, 11, 20, 6, 0, tzinfo=UTC), "M-1"),
        ("2", "CG-2", "vaccinated", datetime(2026, 11, 1, 1, 0, 0, 250_000, tzinfo=UTC), None),
    ]


@pytest.mark.parametrize(
    ("changes", "column", "found"),
    [
        ({"event_type": "sms_clicked"}, "event_type", "sms_clicked"),
        ({"event_type": None}, "event_type", None),
        ({"event_type": ["sms_opened"]}, "event_type", '["sms_opened"]'),
        ({"caregiver_id": 12345}, "caregiver_id", None),
        ({"caregiver_id": "  "}, "caregiver_id", None),
        ({"caregiver_id": "CG\0"}, "caregiver_id", None),
        ({"caregiver_id": "C" * 201}, "caregiver_id", None),
        ({"timestamp": "yesterday"}, "timestamp", "yesterday"),
        ({"timestamp": "2026-11-20T11:59:30"}, "timestamp", "2026-11-20T11:59:30"),
        ({"timestamp": 1763620170}, "timestamp", "…"),
        ({"timestamp": "9999-12-31T23:59:59-23:59"}, "timestamp", "9999-12-31T23:59:59-23:59"),
        ({"timestamp": "2026-11-20T06:41:00Z"}, "timestamp", "2026-11-20T06:41:00Z"),
        ({"timestamp": "2025-09-01T00:00:00Z"}, "timestamp", "2025-09-01T00:00:00Z"),
        ({"metadata": {}}, "metadata.message_id", None),
        ({"metadata": "M-1"}, "metadata.message_id", None),
        ({"metadata": {"message_id": 17}}, "metadata.message_id", "17"),
        ({"metadata": {"message_id": ""}}, "metadata.message_id", ""),
    ],
)
def test_a_field_that_is_wrong_is_named_with_what_was_found(
    changes: dict[str, object], column: str, found: str | None
) -> None:
    letter = refused(**changes)
    assert (letter.kind, letter.column_name, letter.found) == ("refused", column, found)
    assert letter.caregiver_id is None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "expected JSON at character 0"),
        (b'{"event_type": ', "expected JSON at character 15"),
        (b"\xff\xfe{", "expected JSON in UTF-8"),
        (b"[1]", "expected a JSON object, found list"),
        (b"[" * 100_000, "expected JSON"),
    ],
)
def test_what_is_no_json_object_is_unreadable(payload: bytes, reason: str) -> None:
    table, [letter] = decode_events([Message(payload)], received_at=RECEIVED)
    assert table.num_rows == 0
    assert letter.kind == "unreadable"
    assert letter.reason.startswith(reason)


def test_what_its_source_could_not_cut_out_is_unreadable_for_the_reason_given() -> None:
    _, [letter] = decode_events([Message(None, "line 3", "found 3 fields, expected 4")], received_at=RECEIVED)
    assert (letter.position, letter.kind, letter.reason) == ("line 3", "unreadable", "found 3 fields, expected 4")


def test_clocks_may_differ_a_little_and_the_oldest_event_counts() -> None:
    for moment in (RECEIVED + timedelta(minutes=10), RECEIVED - timedelta(weeks=62)):
        events, letters = decoded({**OPENED, "timestamp": moment.isoformat()})
        assert [event["occurred_at"] for event in events] == [moment]
        assert letters == []


def test_telephone_numbers_are_not_kept() -> None:
    assert refused(event_type="call +91 98765-43210 now").found == "call +… now"
    assert looks_like_telephone("+91 98765 43210")
    assert looks_like_telephone("9876543210")
    assert not looks_like_telephone("CG-9876543210")
    assert not looks_like_telephone("12345")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([*OPENED, "other"]), json_values | st.sampled_from(list(OPENED.values())))
    | json_values,
    st.booleans(),
)
def test_whatever_arrives_is_an_event_or_a_letter(payload: object, is_whole: bool) -> None:
    text = json.dumps(payload).encode()
    messages = [Message(text if is_whole else text[: len(text) // 2])]
    table, letters = decode_events(messages, received_at=RECEIVED)
    assert table.num_rows + len(letters) == 1
    for letter in letters:
        assert letter.found is None or len(letter.found) <= 40


@given(st.binary(max_size=40))
def test_bytes_are_an_event_or_a_letter(payload: bytes) -> None:
    table, letters = decode_events([Message(payload)], received_at=RECEIVED)
    assert table.num_rows + len(letters) == 1
