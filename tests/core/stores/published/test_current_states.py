"""bandicoot.caregiver_states holds the states of the newest list, and only what changed is touched."""

from datetime import timedelta
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_rows import AWKWARD_IDS, DAY, give_keys, list_rows, publish, state_rows

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.reset import clear_published

YESTERDAY = DAY - timedelta(days=1)
IDS = ["A", "B", "C", "D"]

COLUMNS = "caregiver_id, district, state, last_open_date, cluster_id, as_of_date"

STATES = st.dictionaries(
    st.integers(1, len(IDS)), st.tuples(st.sampled_from("UR"), st.none() | st.integers(0, 3)), max_size=len(IDS)
)


def bring(connection: psycopg.Connection, states: Any, *, days_later: int = 0) -> None:
    day = DAY + timedelta(days=days_later)
    publish(connection, list_rows([], day), day, states=states)


def stored(connection: psycopg.Connection) -> list[tuple[Any, ...]]:
    return connection.execute(f"SELECT {COLUMNS} FROM bandicoot.caregiver_states ORDER BY caregiver_id").fetchall()


def versions(connection: psycopg.Connection) -> dict[str, str]:
    """Caregiver -> the transaction that last wrote her row."""
    return dict(connection.execute("SELECT caregiver_id, xmin::text FROM bandicoot.caregiver_states").fetchall())


def test_the_first_states_are_stored_by_caregiver_id(published: psycopg.Connection) -> None:
    give_keys(published, IDS)
    bring(published, state_rows({2: "R", 1: "U"}, cluster_ids={1: 4}))
    assert stored(published) == [
        ("A", "Pune", "U", None, 4, YESTERDAY),
        ("B", None, "R", DAY - timedelta(days=2), None, YESTERDAY),
    ]


def test_new_changed_and_gone_caregivers_are_brought_up_to_date_and_others_not_touched(
    published: psycopg.Connection,
) -> None:
    give_keys(published, IDS)
    bring(published, state_rows({1: "U", 2: "U", 3: "U"}))
    before = versions(published)
    bring(published, state_rows({1: "U", 2: "R", 4: "U"}), days_later=5)
    assert [(row[0], row[2], row[-1]) for row in stored(published)] == [
        ("A", "U", YESTERDAY),
        ("B", "R", YESTERDAY + timedelta(days=5)),
        ("D", "U", YESTERDAY + timedelta(days=5)),
    ]
    after = versions(published)
    assert after["A"] == before["A"]
    assert after["B"] != before["B"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(STATES, min_size=1, max_size=4))
def test_after_any_history_the_table_is_the_last_states(
    published: psycopg.Connection, history: list[dict[int, tuple[str, int | None]]]
) -> None:
    clear_published(published)
    give_keys(published, IDS)
    for days_later, states in enumerate(history):
        clusters = {key: cluster for key, (_, cluster) in states.items() if cluster is not None}
        bring(
            published, state_rows({k: s for k, (s, _) in states.items()}, cluster_ids=clusters), days_later=days_later
        )
    expected = [(IDS[key - 1], state, cluster) for key, (state, cluster) in sorted(history[-1].items())]
    assert [(row[0], row[2], row[4]) for row in stored(published)] == expected


def test_states_may_come_as_a_stream_with_more_columns_in_another_order(published: psycopg.Connection) -> None:
    give_keys(published, IDS)
    rows = state_rows({1: "U", 2: "R", 3: "U"}).append_column("days_since_last_open", pa.array([1, 2, 3]))
    rows = rows.select(rows.column_names[::-1])
    bring(published, pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches(max_chunksize=2)))
    assert [row[0] for row in stored(published)] == ["A", "B", "C"]


def test_a_list_of_an_earlier_day_does_not_turn_the_states_back(published: psycopg.Connection) -> None:
    give_keys(published, IDS)
    bring(published, state_rows({1: "R"}))
    bring(published, state_rows({1: "U", 2: "U"}), days_later=-3)
    assert [(row[0], row[2]) for row in stored(published)] == [("A", "R")]
    bring(published, state_rows({1: "U"}))
    assert [(row[0], row[2]) for row in stored(published)] == [("A", "U")]


def test_the_publication_says_as_of_when_the_states_stand(published: psycopg.Connection) -> None:
    give_keys(published, IDS)
    bring(published, state_rows({1: "R"}))
    publish(published, list_rows([]))
    bring(published, state_rows({1: "R"}), days_later=-3)
    assert published.execute(
        "SELECT call_date, states_as_of_date FROM bandicoot.list_publications ORDER BY call_date"
    ).fetchall() == [(DAY - timedelta(days=3), None), (DAY, YESTERDAY)]


def test_awkward_and_endless_ids_have_states_like_others(published: psycopg.Connection) -> None:
    give_keys(published, AWKWARD_IDS)
    keys = range(1, len(AWKWARD_IDS) + 1)
    bring(published, state_rows(dict.fromkeys(keys, "U")))
    bring(published, state_rows(dict.fromkeys(keys, "R")), days_later=1)
    found = published.execute("SELECT caregiver_id, state FROM bandicoot.caregiver_states").fetchall()
    assert sorted(found) == sorted((each, "R") for each in AWKWARD_IDS)


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (state_rows({1: "R", 7: "R", 9: "U"}), r"2 caregivers have no id .*\(first: caregiver_key=7\)"),
        (pa.concat_tables([state_rows({1: "U"}), state_rows({1: "R"})]), "incoming_states_caregiver_key_idx"),
        (state_rows({1: "X"}), "caregiver_states refuses the rows"),
        (state_rows({1: "U"}).drop_columns(["status"]), r"caregiver_states: columns \['status'\] are missing"),
    ],
)
def test_impossible_states_are_refused_together_with_the_list(
    published: psycopg.Connection, states: pa.Table, message: str
) -> None:
    give_keys(published, IDS)
    bring(published, state_rows({2: "U"}))
    with pytest.raises(InvalidInputError, match=message):
        publish(published, list_rows(["A"]), states=states, run_id="run-2")
    assert [row[0] for row in stored(published)] == ["B"]
    assert published.execute("SELECT run_id FROM bandicoot.list_publications").fetchall() == [("run-1",)]


def test_nightly_updates_leave_no_new_index_entries_and_no_dead_weight(published: psycopg.Connection) -> None:
    ids = [f"CG-{number:05d}" for number in range(2000)]
    give_keys(published, ids)
    published.execute("ALTER TABLE bandicoot.caregiver_states SET (autovacuum_enabled = false)")
    size = "SELECT pg_relation_size('bandicoot.caregiver_states'), pg_indexes_size('bandicoot.caregiver_states')"
    bring(published, state_rows(dict.fromkeys(range(1, 2001), "U")))
    heap, indexes = published.execute(size).fetchone() or (0, 0)
    for turn in range(1, 6):
        changed = {key: "R" if key % 10 == turn else "U" for key in range(1, 2001)}
        bring(published, state_rows(changed), days_later=turn)
    heap_after, indexes_after = published.execute(size).fetchone() or (0, 0)
    assert indexes_after == indexes
    assert heap_after <= 1.1 * heap
