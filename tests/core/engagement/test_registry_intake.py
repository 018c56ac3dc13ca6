"""The registry as daily snapshots: who is in one, which of her rows counts, and which values are blanked."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend
from intake_rows import REGISTRY, Taken, ist, keys, table, taken

from bandicoot_core.calendar import end_of_day
from bandicoot_core.contracts import CAREGIVERS
from bandicoot_core.engagement.registry_intake import judge_caregivers, take_in_caregivers

DAY = date(2026, 11, 20)
DAYS = [DAY + timedelta(days=n) for n in range(3)]


def take_in(
    engine: Backend, rows: Sequence[dict[str, Any]], days: Sequence[date] = (DAY,), districts: Sequence[str] = ()
) -> Taken:
    judged = engine.create_table(
        "registry", judge_caregivers(table(REGISTRY, rows), keys("A", "B", "C")), temp=True, overwrite=True
    )
    return taken(engine, take_in_caregivers(judged, days, districts=districts))


def caregiver(caregiver_id: str | None = "A", **values: Any) -> dict[str, Any]:
    return {
        "caregiver_id": caregiver_id,
        "district": "Patna",
        "enrolled_at": "2026-01-05 10:00",
        "age": 24,
        "parity": 1,
        "phone_reliable": True,
        "enrollment_source": "hospital",
        "status": "active",
    } | values


def only(found: Taken) -> dict[str, Any]:
    (row,) = found.accepted[DAY]
    return row


def test_a_good_row_is_taken_over_with_key_and_arm(engine: Backend) -> None:
    found = take_in(engine, [caregiver("B")])
    row = only(found)
    assert {name: row[name] for name in CAREGIVERS.column_names} == {
        "caregiver_key": 2,
        "district": "Patna",
        "enrolled_at": ist("2026-01-05 10:00"),
        "age": 24,
        "parity": 1,
        "phone_reliable": True,
        "enrollment_source": "hospital",
        "status": "active",
        "ab_arm": "treatment",
    }
    assert found.set_aside == {}
    assert found.counts == {DAY: (1, 0, 0)}


def test_unknown_features_stay_unknown(engine: Backend) -> None:
    blank = {"district": " ", "age": None, "parity": None, "phone_reliable": None, "enrollment_source": ""}
    found = take_in(engine, [caregiver(**blank)], districts=["Patna"])
    assert {name: only(found)[name] for name in blank} == dict.fromkeys(blank)
    assert found.counts == {DAY: (1, 0, 0)}


def test_white_space_around_texts_goes(engine: Backend) -> None:
    row = only(take_in(engine, [caregiver(district=" Patna ", enrollment_source="self\t")], districts=["Patna"]))
    assert (row["district"], row["enrollment_source"]) == ("Patna", "self")


def test_a_snapshot_holds_who_enrolled_before_the_end_of_the_day(engine: Backend) -> None:
    rows = [
        caregiver("A", enrolled_at="2026-11-20 23:59:59.999999"),
        caregiver("B", enrolled_at="2026-11-21 00:00"),
    ]
    found = take_in(engine, rows, DAYS)
    assert {day: sorted(row["caregiver_key"] for row in rows) for day, rows in found.accepted.items()} == {
        DAYS[0]: [1],
        DAYS[1]: [1, 2],
        DAYS[2]: [1, 2],
    }
    assert found.counts == {DAYS[0]: (1, 0, 0), DAYS[1]: (2, 0, 0), DAYS[2]: (2, 0, 0)}


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("age", -3, "10 to 60 years"),
        ("age", 300, "10 to 60 years"),
        ("age", 2**40, "10 to 60 years"),
        ("parity", -1, "0 to 20 children"),
        ("parity", 21, "0 to 20 children"),
    ],
)
def test_an_impossible_number_is_blanked_and_the_row_stays(
    engine: Backend, column: str, value: int, expected: str
) -> None:
    found = take_in(engine, [caregiver(**{column: value})])
    assert only(found)[column] is None
    assert found.set_aside[DAY] == [
        {
            "caregiver_key": 1,
            "source_row": "caregiver_key=1",
            "column_name": column,
            "found": str(value),
            "reason": f"{column} out of bounds (expected {expected})",
            "action": "value blanked",
        }
    ]
    assert found.counts == {DAY: (1, 0, 1)}


@pytest.mark.parametrize(("column", "value"), [("age", 10), ("age", 60), ("parity", 0), ("parity", 20)])
def test_a_number_at_its_bound_stays(engine: Backend, column: str, value: int) -> None:
    assert only(take_in(engine, [caregiver(**{column: value})]))[column] == value


def test_a_district_outside_the_programme_is_blanked_with_the_known_ones(engine: Backend) -> None:
    found = take_in(
        engine, [caregiver(district="Patnaa"), caregiver("B", district="Gaya")], districts=["Patna", "Gaya"]
    )
    assert sorted((row["caregiver_key"], row["district"]) for row in found.accepted[DAY]) == [(1, None), (2, "Gaya")]
    (record,) = found.set_aside[DAY]
    assert (record["found"], record["action"]) == ("Patnaa", "value blanked")
    assert record["reason"] == "a district outside the programme (expected one of Patna, Gaya)"


def test_without_known_districts_any_is_taken(engine: Backend) -> None:
    assert only(take_in(engine, [caregiver(district="Patnaa")]))["district"] == "Patnaa"


def test_several_values_of_a_row_may_be_blanked(engine: Backend) -> None:
    found = take_in(engine, [caregiver(age=300, parity=-1, district="X")], districts=["Patna"])
    assert [record["column_name"] for record in found.set_aside[DAY]] == ["age", "district", "parity"]
    assert found.counts == {DAY: (1, 0, 3)}


@pytest.mark.parametrize(
    ("values", "column", "found_value", "source_row"),
    [
        ({"caregiver_id": None}, "caregiver_id", None, "no caregiver_id, enrolled_at=2026-01-05T04:30:00.000000Z, "),
        ({"caregiver_id": " "}, "caregiver_id", None, "no caregiver_id, enrolled_at=2026-01-05T04:30:00.000000Z, "),
        ({"enrolled_at": None}, "enrolled_at", None, "caregiver_key=1"),
        ({"status": None}, "status", None, "caregiver_key=1"),
        ({"status": " "}, "status", " ", "caregiver_key=1"),
    ],
)
def test_a_row_without_identity_enrolment_or_status_is_set_aside(
    engine: Backend, values: dict[str, Any], column: str, found_value: str | None, source_row: str
) -> None:
    found = take_in(engine, [caregiver(**values), caregiver("B")])
    assert only(found)["caregiver_key"] == 2
    (record,) = found.set_aside[DAY]
    assert record["source_row"].startswith(source_row)
    assert (record["column_name"], record["found"], record["action"]) == (column, found_value, "row set aside")
    assert found.counts == {DAY: (2, 1, 0)}


def test_values_of_a_row_set_aside_are_not_blanked(engine: Backend) -> None:
    assert take_in(engine, [caregiver(status=None, age=300)]).counts == {DAY: (1, 1, 0)}


def test_of_several_rows_the_newest_enrolment_stays(engine: Backend) -> None:
    rows = [caregiver(enrolled_at="2026-02-01 00:00", age=30), caregiver(enrolled_at="2026-01-01 00:00", age=40)]
    found = take_in(engine, rows)
    assert only(found)["age"] == 30
    assert found.set_aside[DAY] == [
        {
            "caregiver_key": 1,
            "source_row": "caregiver_key=1",
            "column_name": "caregiver_id",
            "found": "2025-12-31T18:30:00.000000Z",
            "reason": "a newer row of the same caregiver_id (expected one row each; the newest enrolled_at stays)",
            "action": "row set aside",
        }
    ]
    assert found.counts == {DAY: (2, 1, 0)}


def test_of_rows_with_the_same_enrolment_the_greatest_stays(engine: Backend) -> None:
    found = take_in(engine, [caregiver(status="active"), caregiver(status="paused"), caregiver(status="active")])
    assert only(found)["status"] == "paused"
    assert found.counts == {DAY: (3, 2, 0)}


def test_a_newer_row_counts_from_the_day_of_its_enrolment(engine: Backend) -> None:
    rows = [caregiver(age=30), caregiver(age=31, enrolled_at="2026-11-21 00:00")]
    found = take_in(engine, rows, DAYS[:2])
    assert {day: [row["age"] for row in rows] for day, rows in found.accepted.items()} == {DAYS[0]: [30], DAYS[1]: [31]}
    assert found.counts == {DAYS[0]: (1, 0, 0), DAYS[1]: (2, 1, 0)}


def test_a_faulty_newer_row_does_not_displace_a_good_one(engine: Backend) -> None:
    found = take_in(engine, [caregiver(age=30), caregiver(enrolled_at="2026-02-01 00:00", status=None)])
    assert only(found)["age"] == 30
    assert found.counts == {DAY: (2, 1, 0)}


def test_an_empty_registry_gives_nothing(engine: Backend) -> None:
    assert take_in(engine, []) == Taken({}, {}, {})


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "caregiver_id": st.sampled_from(["A", "B", "", None]),
            "district": st.sampled_from(["Patna", "Gaya", "Atlantis", None]),
            "enrolled_at": st.one_of(st.none(), st.integers(min_value=-30, max_value=80)),
            "age": st.one_of(st.none(), st.integers(min_value=5, max_value=65)),
            "parity": st.sampled_from([0, 30, None]),
            "phone_reliable": st.sampled_from([True, False, None]),
            "enrollment_source": st.just("self"),
            "status": st.sampled_from(["active", "paused", None]),
        }
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=ROWS)
def test_every_row_is_accounted_for_and_a_day_is_the_same_alone_and_among_others(
    engine: Backend, drawn: list[dict[str, Any]]
) -> None:
    midnight = datetime(2026, 11, 19, 18, 30, tzinfo=UTC)
    rows = [
        row | {"enrolled_at": None if row["enrolled_at"] is None else midnight + timedelta(hours=row["enrolled_at"])}
        for row in drawn
    ]
    together = take_in(engine, rows, DAYS, ["Patna", "Gaya"])
    for day in DAYS:
        alone = take_in(engine, rows, [day], ["Patna", "Gaya"])
        assert by_key(alone, day) == by_key(together, day)
        assert alone.set_aside.get(day) == together.set_aside.get(day)
        assert alone.counts.get(day) == together.counts.get(day)
        present = [row for row in rows if row["enrolled_at"] is None or row["enrolled_at"] < end_of_day(day)]
        good = [row for row in present if row["caregiver_id"] and row["enrolled_at"] and row["status"]]
        newest = {
            id_: max(row["enrolled_at"] for row in good if row["caregiver_id"] == id_)
            for id_ in {row["caregiver_id"] for row in good}
        }
        n_read, n_set_aside, n_blanked = together.counts.get(day, (0, 0, 0))
        records = together.set_aside.get(day, [])
        assert {"AB"[key - 1]: row["enrolled_at"] for key, row in by_key(together, day).items()} == newest
        assert (n_read, n_set_aside) == (len(present), len(present) - len(newest))
        assert n_set_aside == sum(record["action"] == "row set aside" for record in records)
        assert n_blanked == sum(record["action"] == "value blanked" for record in records)
        for row in by_key(together, day).values():
            assert row["district"] in ("Patna", "Gaya", None)
            assert row["age"] is None or 10 <= row["age"] <= 60
            assert row["parity"] in (0, None)


def by_key(found: Taken, day: date) -> dict[int, dict[str, Any]]:
    rows = found.accepted.get(day, [])
    assert len({row["caregiver_key"] for row in rows}) == len(rows)
    return {row["caregiver_key"]: row for row in rows}
