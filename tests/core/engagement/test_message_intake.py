"""Messages as they become events: what is exploded, what is set aside, and that each day stands by itself."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend
from intake_rows import SMS_LOGS, Taken, ist, keys, table, taken

from bandicoot_core.calendar import day_of
from bandicoot_core.engagement.message_intake import judge_messages, message_events, take_in_messages

DAY = date(2026, 11, 20)
DAYS = [DAY + timedelta(days=n) for n in range(3)]
REPEATED = "events that another row with this message_id gives (expected one row for each message)"


def take_in(
    engine: Backend, rows: Sequence[dict[str, Any]], days: Sequence[date] = (DAY,), known: Sequence[str] = ("A", "B")
) -> Taken:
    messages = engine.create_table(
        "messages", judge_messages(table(SMS_LOGS, rows), keys(*known), days), temp=True, overwrite=True
    )
    events = engine.create_table("events", message_events(messages), temp=True, overwrite=True)
    return taken(engine, take_in_messages(messages, events))


def message(message_id: str | None = "M-1", caregiver_id: str | None = "A", **values: Any) -> dict[str, Any]:
    return {"message_id": message_id, "caregiver_id": caregiver_id, "status": "delivered"} | values


def events(found: Taken, day: date = DAY) -> list[tuple[int, str, str, str]]:
    """Accepted events of a day as (caregiver_key, message_id, event_type, UTC instant), in order."""
    return sorted(
        (row["caregiver_key"], row["message_id"], row["event_type"], row["occurred_at"].isoformat())
        for row in found.accepted.get(day, [])
    )


def faults(found: Taken, day: date = DAY) -> list[tuple[str, str, str | None]]:
    return [(row["source_row"], row["column_name"], row["found"]) for row in found.set_aside.get(day, [])]


def test_a_message_gives_an_event_for_each_thing_that_happened(engine: Backend) -> None:
    row = message(
        sent_at="2026-11-20 09:00",
        delivered_at="2026-11-20 09:01",
        opened_at="2026-11-20 10:00",
        clicked_at="2026-11-20 10:05",
    )
    found = take_in(engine, [row])
    assert events(found) == [
        (1, "M-1", "clicked", "2026-11-20T04:35:00+00:00"),
        (1, "M-1", "delivered", "2026-11-20T03:31:00+00:00"),
        (1, "M-1", "opened", "2026-11-20T04:30:00+00:00"),
        (1, "M-1", "sent", "2026-11-20T03:30:00+00:00"),
    ]
    assert found.counts == {DAY: (1, 0, 0)}


def test_what_never_happened_gives_nothing(engine: Backend) -> None:
    assert [kind for _, _, kind, _ in events(take_in(engine, [message(sent_at="2026-11-20 09:00")]))] == ["sent"]


def test_a_failure_carries_the_sending_time(engine: Backend) -> None:
    found = take_in(engine, [message(sent_at="2026-11-20 09:00", status="failed")])
    assert events(found) == [
        (1, "M-1", "failed", "2026-11-20T03:30:00+00:00"),
        (1, "M-1", "sent", "2026-11-20T03:30:00+00:00"),
    ]
    assert found.counts == {DAY: (1, 0, 0)}


def test_a_message_without_status_has_not_failed(engine: Backend) -> None:
    assert len(events(take_in(engine, [message(sent_at="2026-11-20 09:00", status=None)]))) == 1


def test_a_message_opened_on_a_later_day_gives_events_on_both(engine: Backend) -> None:
    found = take_in(engine, [message(sent_at="2026-11-20 23:59:59", opened_at="2026-11-22 00:00")], DAYS)
    assert [kind for _, _, kind, _ in events(found, DAYS[0])] == ["sent"]
    assert events(found, DAYS[1]) == []
    assert [kind for _, _, kind, _ in events(found, DAYS[2])] == ["opened"]
    assert found.counts == {DAYS[0]: (1, 0, 0), DAYS[2]: (1, 0, 0)}


def test_what_happened_outside_the_days_is_left_out(engine: Backend) -> None:
    row = message(sent_at="2026-11-19 23:59:59.999999", delivered_at="2026-11-20 00:00", opened_at="2026-11-21 00:00")
    assert [kind for _, _, kind, _ in events(take_in(engine, [row]))] == ["delivered"]


@pytest.mark.parametrize("message_id", [None, "", " "])
def test_a_row_without_message_id_is_set_aside(engine: Backend, message_id: str | None) -> None:
    found = take_in(
        engine, [message(message_id, sent_at="2026-11-20 09:00"), message("M-2", sent_at="2026-11-20 09:00")]
    )
    assert [row[1] for row in events(found)] == ["M-2"]
    assert faults(found) == [("no message_id, sent_at=2026-11-20T03:30:00.000000Z", "message_id", message_id)]
    assert found.counts == {DAY: (2, 1, 0)}


@pytest.mark.parametrize("caregiver_id", [None, "", "SECRET-9"])
def test_a_row_without_known_caregiver_is_set_aside_and_her_id_not_shown(
    engine: Backend, caregiver_id: str | None
) -> None:
    found = take_in(engine, [message(caregiver_id=caregiver_id, sent_at="2026-11-20 09:00")])
    assert events(found) == []
    assert faults(found) == [("message_id=M-1", "caregiver_id", None)]
    assert "SECRET" not in str(found.set_aside)


@pytest.mark.parametrize("column", ["delivered_at", "opened_at", "clicked_at"])
def test_what_happened_before_the_sending_sets_the_row_aside_with_both_instants(engine: Backend, column: str) -> None:
    row = message(sent_at="2026-11-20 09:00") | {column: "2026-11-20 08:59:59.999999"}
    found = take_in(engine, [row])
    assert events(found) == []
    assert found.set_aside[DAY] == [
        {
            "caregiver_key": 1,
            "source_row": "message_id=M-1",
            "column_name": column,
            "found": "2026-11-20T03:29:59.999999Z, sent_at 2026-11-20T03:30:00.000000Z",
            "reason": f"{column} before sent_at (expected sent_at or later)",
            "action": "row set aside",
        }
    ]
    assert found.counts == {DAY: (1, 1, 0)}


def test_what_happened_at_the_moment_of_sending_is_fine(engine: Backend) -> None:
    found = take_in(engine, [message(sent_at="2026-11-20 09:00", opened_at="2026-11-20 09:00")])
    assert len(events(found)) == 2


def test_an_opened_message_without_sending_time_still_counts_as_opened(engine: Backend) -> None:
    found = take_in(engine, [message(opened_at="2026-11-20 09:00")])
    assert [kind for _, _, kind, _ in events(found)] == ["opened"]


def test_a_faulty_row_is_set_aside_once_on_each_day_it_touches(engine: Backend) -> None:
    row = message(
        caregiver_id="C",
        sent_at="2026-11-20 09:00",
        delivered_at="2026-11-20 09:01",
        opened_at="2026-11-21 09:00",
        clicked_at="2026-11-21 09:01",
        status="failed",
    )
    found = take_in(engine, [row], DAYS)
    assert {day: len(rows) for day, rows in found.set_aside.items()} == {DAYS[0]: 1, DAYS[1]: 1}
    assert found.counts == {DAYS[0]: (1, 1, 0), DAYS[1]: (1, 1, 0)}


def test_of_exact_duplicates_one_stays(engine: Backend) -> None:
    row = message(sent_at="2026-11-20 09:00", opened_at="2026-11-20 10:00")
    found = take_in(engine, [row, row, row])
    assert [kind for _, _, kind, _ in events(found)] == ["opened", "sent"]
    assert faults(found) == [("message_id=M-1", "message_id", "opened, sent")] * 2
    assert {row["reason"] for row in found.set_aside[DAY]} == {REPEATED}
    assert found.counts == {DAY: (3, 2, 0)}


def test_of_a_repeated_event_the_earliest_stays_then_the_smaller_key(engine: Backend) -> None:
    rows = [
        message("M-1", "B", sent_at="2026-11-20 08:00"),
        message("M-1", "A", sent_at="2026-11-20 09:00"),
        message("M-2", "B", sent_at="2026-11-20 09:00"),
        message("M-2", "A", sent_at="2026-11-20 09:00"),
    ]
    found = take_in(engine, rows)
    assert events(found) == [
        (1, "M-2", "sent", "2026-11-20T03:30:00+00:00"),
        (2, "M-1", "sent", "2026-11-20T02:30:00+00:00"),
    ]
    assert found.counts == {DAY: (4, 2, 0)}


def test_a_log_that_repeats_a_message_loses_no_event_and_the_fullest_row_stays(engine: Backend) -> None:
    rows = [
        message(sent_at="2026-11-20 09:00"),
        message(sent_at="2026-11-20 09:00", delivered_at="2026-11-20 09:01"),
        message(sent_at="2026-11-20 09:00", delivered_at="2026-11-20 09:01", opened_at="2026-11-20 10:00"),
    ]
    found = take_in(engine, rows)
    assert [kind for _, _, kind, _ in events(found)] == ["delivered", "opened", "sent"]
    assert [record["found"] for record in found.set_aside[DAY]] == ["delivered, sent", "sent"]


def test_a_faulty_row_does_not_displace_a_good_one_with_its_message_id(engine: Backend) -> None:
    rows = [message(caregiver_id="C", sent_at="2026-11-20 08:00"), message(sent_at="2026-11-20 09:00")]
    found = take_in(engine, rows)
    assert events(found) == [(1, "M-1", "sent", "2026-11-20T03:30:00+00:00")]
    assert faults(found) == [("message_id=M-1", "caregiver_id", None)]


def test_a_day_without_messages_has_no_rows_at_all(engine: Backend) -> None:
    assert take_in(engine, []) == Taken({}, {}, {})


HOURS = st.one_of(st.none(), st.integers(min_value=-6, max_value=80))
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "message_id": st.sampled_from(["M-1", "M-2", "M-3", "", None]),
            "caregiver_id": st.sampled_from(["A", "B", "C", None]),
            "sent_at": HOURS,
            "delivered_at": HOURS,
            "opened_at": HOURS,
            "clicked_at": HOURS,
            "status": st.sampled_from(["failed", "delivered", None]),
        }
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=MESSAGES)
def test_every_row_is_accounted_for_and_a_day_is_the_same_alone_and_among_others(
    engine: Backend, drawn: list[dict[str, Any]]
) -> None:
    midnight = ist("2026-11-20 00:00")
    rows = [
        {
            name: midnight + timedelta(hours=value) if name.endswith("_at") and value is not None else value
            for name, value in row.items()
        }
        for row in drawn
    ]
    together = take_in(engine, rows, DAYS)
    for day in DAYS:
        alone = take_in(engine, rows, [day])
        assert events(alone, day) == events(together, day)
        assert alone.set_aside.get(day) == together.set_aside.get(day)
        assert alone.counts.get(day) == together.counts.get(day)
        touching = [row for row in rows if day in {day_of(row[name]) for name in INSTANT_NAMES if row[name]}]
        n_read, n_set_aside, n_blanked = together.counts.get(day, (0, 0, 0))
        assert (n_read, n_blanked) == (len(touching), 0)
        assert n_set_aside == len(together.set_aside.get(day, []))
        accepted = events(together, day)
        assert {row[1:3] for row in accepted} == expected_events(touching, day)
        assert len({row[1:3] for row in accepted}) == len(accepted)


INSTANT_NAMES = ("sent_at", "delivered_at", "opened_at", "clicked_at")


def expected_events(rows: list[dict[str, Any]], day: date) -> set[tuple[str, str]]:
    """(message_id, event_type) of the good rows, one by one."""
    found = set()
    for row in rows:
        is_early = row["sent_at"] is not None and any(
            row[name] is not None and row[name] < row["sent_at"] for name in INSTANT_NAMES
        )
        if not row["message_id"] or row["caregiver_id"] not in ("A", "B") or is_early:
            continue
        for name in INSTANT_NAMES:
            if row[name] is not None and day_of(row[name]) == day:
                found.add((row["message_id"], name.removesuffix("_at")))
                if name == "sent_at" and row["status"] == "failed":
                    found.add((row["message_id"], "failed"))
    return found
