"""Vaccinations and calls as they are taken in, and what a record of a row set aside says."""

from datetime import date

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend
from intake_rows import INSTANT, REGISTRY, SMS_LOGS, ist, keys, table, taken

from bandicoot_core.contracts import CALL_OUTCOMES
from bandicoot_core.engagement.intake import (
    day_among,
    judge_calls,
    judge_vaccinations,
    take_in_calls,
    take_in_vaccinations,
    without_forgotten,
)
from bandicoot_core.engagement.message_intake import judge_messages
from bandicoot_core.engagement.registry_intake import judge_caregivers

DAY = date(2026, 11, 20)
NEXT_DAY = date(2026, 11, 21)
DOSES = pa.schema(
    {
        "caregiver_id": pa.string(),
        "vaccine_name": pa.string(),
        "scheduled_date": pa.date32(),
        "actual_date": pa.date32(),
    }
)
OUTCOMES = pa.schema(
    {
        "call_id": pa.string(),
        "caregiver_id": pa.string(),
        "call_date": pa.date32(),
        "attempted_at": INSTANT,
        "outcome": pa.string(),
    }
)
UNKNOWN = "a caregiver_id that the registry does not hold (expected one of the table caregivers)"


def test_doses_of_known_caregivers_are_taken_over_on_their_day(engine: Backend) -> None:
    rows = table(
        DOSES,
        [
            {"caregiver_id": "B", "vaccine_name": "BCG", "scheduled_date": date(2026, 11, 1), "actual_date": DAY},
            {"caregiver_id": "A", "vaccine_name": "OPV-1", "actual_date": NEXT_DAY},
        ],
    )
    found = taken(engine, take_in_vaccinations(judge_vaccinations(rows, keys("A", "B"))))
    assert found.accepted == {
        DAY: [
            {
                "caregiver_key": 2,
                "vaccine_name": "BCG",
                "scheduled_date": date(2026, 11, 1),
                "actual_date": DAY,
            }
        ],
        NEXT_DAY: [
            {"caregiver_key": 1, "vaccine_name": "OPV-1", "scheduled_date": None, "actual_date": NEXT_DAY},
        ],
    }
    assert found.set_aside == {}
    assert found.counts == {DAY: (1, 0, 0), NEXT_DAY: (1, 0, 0)}


def test_equal_doses_of_twins_both_stay(engine: Backend) -> None:
    dose = {"caregiver_id": "A", "vaccine_name": "BCG", "actual_date": DAY}
    found = taken(engine, take_in_vaccinations(judge_vaccinations(table(DOSES, [dose, dose]), keys("A"))))
    assert len(found.accepted[DAY]) == 2


@pytest.mark.parametrize("name", [None, "", "  "])
def test_a_dose_without_vaccine_is_set_aside(engine: Backend, name: str | None) -> None:
    rows = table(DOSES, [{"caregiver_id": "A", "vaccine_name": name, "actual_date": DAY}])
    found = taken(engine, take_in_vaccinations(judge_vaccinations(rows, keys("A"))))
    assert found.accepted == {}
    assert found.set_aside[DAY] == [
        {
            "caregiver_key": 1,
            "source_row": f"vaccine_name={name or ''}, scheduled_date=, actual_date=2026-11-20",
            "column_name": "vaccine_name",
            "found": name,
            "reason": "no vaccine_name (expected the vaccine and dose)",
            "action": "row set aside",
        }
    ]
    assert found.counts == {DAY: (1, 1, 0)}


@pytest.mark.parametrize(
    ("caregiver_id", "reason"),
    [(None, "no caregiver_id (expected one)"), (" ", "no caregiver_id (expected one)"), ("SECRET-9", UNKNOWN)],
)
def test_a_dose_without_known_caregiver_is_set_aside_and_her_id_not_shown(
    engine: Backend, caregiver_id: str | None, reason: str
) -> None:
    rows = table(DOSES, [{"caregiver_id": caregiver_id, "vaccine_name": "BCG", "actual_date": DAY}])
    found = taken(engine, take_in_vaccinations(judge_vaccinations(rows, keys("A"))))
    assert found.accepted == {}
    assert [(row["column_name"], row["found"], row["reason"]) for row in found.set_aside[DAY]] == [
        ("caregiver_id", None, reason)
    ]
    assert "SECRET-9" not in str(found.set_aside)


def test_a_row_with_several_faults_is_set_aside_once(engine: Backend) -> None:
    rows = table(DOSES, [{"actual_date": DAY}])
    found = taken(engine, take_in_vaccinations(judge_vaccinations(rows, keys("A"))))
    assert [row["column_name"] for row in found.set_aside[DAY]] == ["caregiver_id"]
    assert found.counts == {DAY: (1, 1, 0)}


@pytest.mark.parametrize("outcome", CALL_OUTCOMES)
def test_every_allowed_outcome_is_taken_over(engine: Backend, outcome: str) -> None:
    call = {"call_id": "C-1", "caregiver_id": "A", "call_date": DAY, "attempted_at": "2026-11-20 11:00"}
    rows = table(OUTCOMES, [call | {"outcome": outcome}])
    found = taken(engine, take_in_calls(judge_calls(rows, keys("A"), [DAY])))
    assert found.accepted[DAY] == [
        {
            "call_id": "C-1",
            "caregiver_key": 1,
            "call_date": DAY,
            "attempted_at": ist("2026-11-20 11:00"),
            "outcome": outcome,
        }
    ]


@pytest.mark.parametrize("outcome", ["Reached", "voicemail", "", None])
def test_another_outcome_is_set_aside_with_the_allowed_ones(engine: Backend, outcome: str | None) -> None:
    call = {"call_id": "C-1", "caregiver_id": "A", "call_date": DAY, "attempted_at": "2026-11-20 11:00"}
    found = taken(engine, take_in_calls(judge_calls(table(OUTCOMES, [call | {"outcome": outcome}]), keys("A"), [DAY])))
    assert found.accepted == {}
    assert found.set_aside[DAY] == [
        {
            "caregiver_key": 1,
            "source_row": "call_id=C-1",
            "column_name": "outcome",
            "found": outcome,
            "reason": (
                "an outcome that is not allowed (expected one of reached, no_answer, busy, wrong_number, refused)"
            ),
            "action": "row set aside",
        }
    ]


def test_a_call_belongs_to_the_day_of_the_attempt_whatever_the_day_of_its_list(engine: Backend) -> None:
    call = {"call_id": "C-1", "caregiver_id": "A", "call_date": DAY, "outcome": "busy"}
    rows = table(OUTCOMES, [call | {"attempted_at": "2026-11-21 00:00"}])
    found = taken(engine, take_in_calls(judge_calls(rows, keys("A"), [DAY, NEXT_DAY])))
    assert list(found.accepted) == [NEXT_DAY]


def test_an_unknown_caregivers_call_is_set_aside(engine: Backend) -> None:
    call = {"call_id": "C-1", "caregiver_id": "B", "call_date": DAY, "attempted_at": "2026-11-20 11:00"}
    rows = table(OUTCOMES, [call | {"outcome": "busy"}])
    found = taken(engine, take_in_calls(judge_calls(rows, keys("A"), [DAY])))
    assert [(row["source_row"], row["reason"]) for row in found.set_aside[DAY]] == [("call_id=C-1", UNKNOWN)]


def test_days_begin_at_midnight_in_india_and_end_before_the_next(engine: Backend) -> None:
    texts = [
        "2026-11-19 23:59:59.999999",
        "2026-11-20 00:00",
        "2026-11-20 23:59:59.999999",
        "2026-11-21 00:00",
        "2026-11-22 00:00",
        None,
    ]
    rows = table(pa.schema({"at": INSTANT}), [{"at": text} for text in texts])
    found = engine.to_pyarrow(rows.select(day=day_among(rows.at, [DAY, NEXT_DAY])))["day"].to_pylist()
    assert found == [None, DAY, DAY, NEXT_DAY, None, None]


@pytest.mark.parametrize("days", [[], [NEXT_DAY, DAY], [DAY, DAY], [DAY, date(2026, 11, 22)]])
def test_days_that_are_not_consecutive_are_refused(days: list[date]) -> None:
    rows = table(pa.schema({"at": INSTANT}), [])
    with pytest.raises(ValueError, match="consecutive days in order; found"):
        day_among(rows.at, days)


def test_rows_of_forgotten_caregivers_are_neither_kept_nor_set_aside_nor_counted(engine: Backend) -> None:
    """FORGOTTEN and STRANGER have no key; only the first was forgotten."""
    doses = [
        {"caregiver_id": who, "vaccine_name": "bcg", "actual_date": DAY} for who in ("A", "FORGOTTEN", "STRANGER", None)
    ]
    judged = judge_vaccinations(table(DOSES, doses), keys("A"))
    forgotten = ibis.memtable(pa.table({"caregiver_id": ["FORGOTTEN", "A"]}))
    found = taken(engine, take_in_vaccinations(without_forgotten(judged, forgotten)))
    assert [row["caregiver_key"] for row in found.accepted[DAY]] == [1]
    assert len(found.set_aside[DAY]) == 2
    assert found.counts == {DAY: (3, 2, 0)}


def test_nothing_that_is_taken_in_knows_an_id() -> None:
    judged = [
        judge_vaccinations(table(DOSES, []), keys("A")),
        judge_calls(table(OUTCOMES, []), keys("A"), [DAY]),
        judge_messages(table(SMS_LOGS, []), keys("A"), [DAY]),
        judge_caregivers(table(REGISTRY, []), keys("A")),
    ]
    nobody = ibis.memtable(pa.table({"caregiver_id": pa.array([], pa.string())}))
    remembered = [without_forgotten(rows, nobody) for rows in judged]
    assert [name for rows in remembered for name in rows.columns if name.endswith("_id")] == [
        "call_id",
        "message_id",
        "row_id",
    ]
