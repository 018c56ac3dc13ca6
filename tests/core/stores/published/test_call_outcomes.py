"""What callers write back, and who is still waiting for a call."""

from datetime import UTC, date, datetime, timedelta

import psycopg
import pyarrow as pa
import pytest
from published_rows import AWKWARD_IDS, DAY, give_keys, list_rows, outcome, publish

from bandicoot_core.contracts import CALL_OUTCOMES_TABLE
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.published.call_lists import pending_keys, record_outcomes

MIDNIGHT = datetime(2026, 11, 19, 18, 30, tzinfo=UTC)
"""00:00 IST of DAY."""

INSTANT = timedelta(microseconds=1)


def day(number: int) -> date:
    return date(2026, 11, number)


def pending(connection: psycopg.Connection, call_date: date = DAY, pending_days: int = 3) -> list[int]:
    return pending_keys(connection, call_date=call_date, pending_days=pending_days)["caregiver_key"].to_pylist()


def stored(connection: psycopg.Connection) -> list[tuple[str, str]]:
    return connection.execute("SELECT call_id, outcome FROM bandicoot.call_outcomes ORDER BY call_id").fetchall()


def test_listed_caregivers_without_an_outcome_are_pending_for_the_configured_days(
    published: psycopg.Connection,
) -> None:
    give_keys(published, ["A", "B", "C", "D", "E"])
    for listed, number in (("A", 16), ("B", 17), ("C", 18), ("D", 19), ("E", 20)):
        publish(published, list_rows([listed], day(number)), day(number))
    assert pending(published) == [2, 3, 4]
    assert pending(published, pending_days=1) == [4]
    assert pending(published, pending_days=0) == []
    assert pending(published, pending_days=30) == [1, 2, 3, 4]
    assert pending(published, call_date=day(17)) == [1]


def test_a_caregiver_who_waits_on_two_lists_is_pending_once(published: psycopg.Connection) -> None:
    give_keys(published, ["A"])
    for number in (18, 19):
        publish(published, list_rows(["A"], day(number)), day(number))
    assert pending(published) == [1]
    record_outcomes(published, outcome("A", day(19), MIDNIGHT - INSTANT))
    assert pending(published) == [1]
    record_outcomes(published, outcome("A", day(18), MIDNIGHT - timedelta(days=1)))
    assert pending(published) == []


def test_only_calls_attempted_before_the_day_began_in_kolkata_end_the_waiting(published: psycopg.Connection) -> None:
    give_keys(published, ["A", "B", "C"])
    publish(published, list_rows(["A", "B", "C"], day(19)), day(19))
    record_outcomes(published, outcome("A", day(19), MIDNIGHT - INSTANT))
    record_outcomes(published, outcome("B", day(19), MIDNIGHT))
    record_outcomes(published, outcome("C", day(18), MIDNIGHT - INSTANT))
    assert pending(published) == [2, 3]


def test_a_rerun_of_a_past_day_sees_what_its_first_run_saw(published: psycopg.Connection) -> None:
    give_keys(published, ["A", "B"])
    publish(published, list_rows(["A", "B"], day(19)), day(19))
    first = pending(published)
    record_outcomes(published, outcome("A", day(19), MIDNIGHT + timedelta(hours=12)))
    publish(published, list_rows(["B"], day(21)), day(21))
    assert pending(published) == first == [1, 2]
    assert pending(published, call_date=day(21)) == [2]


def test_pending_is_one_column_of_keys_even_when_nobody_waits(published: psycopg.Connection) -> None:
    found = pending_keys(published, call_date=DAY, pending_days=3)
    assert found.num_rows == 0
    assert found.schema == pa.schema([pa.field("caregiver_key", pa.int64(), nullable=False)])


def test_awkward_ids_wait_and_stop_waiting_like_others(published: psycopg.Connection) -> None:
    give_keys(published, AWKWARD_IDS)
    publish(published, list_rows(AWKWARD_IDS, day(19)), day(19))
    assert pending(published) == list(range(1, len(AWKWARD_IDS) + 1))
    rows = pa.concat_tables(outcome(each, day(19), MIDNIGHT - INSTANT) for each in AWKWARD_IDS)
    assert record_outcomes(published, rows) == len(AWKWARD_IDS)
    assert pending(published) == []


def test_an_outcome_is_recorded_once_and_the_first_content_stays(published: psycopg.Connection) -> None:
    first = outcome("A", DAY, MIDNIGHT, call_id="c-1", outcome="busy")
    assert record_outcomes(published, pa.concat_tables([first, first])) == 1
    assert record_outcomes(published, first) == 0
    changed = outcome("A", DAY, MIDNIGHT, call_id="c-1", outcome="reached")
    other = outcome("A", DAY, MIDNIGHT, call_id="c-2", outcome="no_answer")
    assert record_outcomes(published, pa.concat_tables([changed, other])) == 1
    assert stored(published) == [("c-1", "busy"), ("c-2", "no_answer")]
    assert record_outcomes(published, CALL_OUTCOMES_TABLE.empty()) == 0


def test_one_call_id_with_two_contents_at_once_is_refused(published: psycopg.Connection) -> None:
    rows = [outcome("A", DAY, MIDNIGHT, call_id="c-1", outcome=result) for result in ("busy", "reached")]
    with pytest.raises(InvalidInputError, match=r"1 ids come with two different contents \(first: call_id=c-1\)"):
        record_outcomes(published, pa.concat_tables(rows))
    assert stored(published) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"outcome": "maybe"},
            r"call_outcomes.outcome: 1 rows .*reached, no_answer.* \(first: call_id=c-1, found 'maybe'",
        ),
        ({"caregiver_id": ""}, "recording call outcomes: bandicoot.call_outcomes refuses the rows.*caregiver_id"),
        ({"call_id": "", "caregiver_id": "B"}, "recording call outcomes: .*call_id"),
        ({"call_id": "c" * 1001}, "recording call outcomes: .*call_id"),
        ({"attempted_at": None}, "call_outcomes.attempted_at: 1 of 2 values are missing"),
    ],
)
def test_an_impossible_outcome_is_refused_with_those_that_came_with_it(
    published: psycopg.Connection, changes: dict[str, object], message: str
) -> None:
    good = outcome("A", DAY, MIDNIGHT, call_id="c-0")
    row = outcome("A", DAY, MIDNIGHT, call_id="c-1").to_pylist()[0] | changes
    bad = pa.Table.from_pylist([row], schema=CALL_OUTCOMES_TABLE.arrow_schema())
    with pytest.raises(InvalidInputError, match=message):
        record_outcomes(published, pa.concat_tables([good, bad]))
    assert stored(published) == []


def test_the_database_itself_refuses_an_unknown_outcome(published: psycopg.Connection) -> None:
    with pytest.raises(psycopg.errors.CheckViolation):
        published.execute("INSERT INTO bandicoot.call_outcomes VALUES ('c', 'A', now(), now(), 'maybe', 'x')")
