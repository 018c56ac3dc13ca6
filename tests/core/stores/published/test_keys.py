"""Keys are stable, deterministic and complete, and every caregiver has a draw and an arm."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend
from published_rows import AWKWARD_IDS, EXPERIMENT, NIGHT, drawn, give_keys

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.experiments import read_assignments, record_rollout
from bandicoot_core.stores.published.keys import (
    KEYS_SCHEMA,
    caregiver_ids_for,
    ensure_keys,
    keys_of,
    load_keys,
    read_keys,
)
from bandicoot_core.stores.reset import clear_published

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=6)


def draws_by_length(caregiver_ids: Sequence[str], n_drawn: Mapping[str, int]) -> pa.Table:
    """Ids of odd length end in control; one stratum for each length."""
    return drawn([0.9 if len(each) % 2 else 0.1 for each in caregiver_ids], [f"L{len(i)}" for i in caregiver_ids])


def keys(connection: psycopg.Connection) -> dict[str, int]:
    return dict(connection.execute("SELECT caregiver_id, caregiver_key FROM bandicoot.caregiver_keys").fetchall())


def test_new_ids_get_ascending_keys_in_the_order_of_their_bytes(published: psycopg.Connection) -> None:
    assert give_keys(published, ["é", "a", "Z", "z", "B", "a"]) == 5
    assert keys(published) == {"B": 1, "Z": 2, "a": 3, "z": 4, "é": 5}


def test_known_ids_keep_their_keys_and_new_ones_follow(published: psycopg.Connection) -> None:
    give_keys(published, ["M"])
    assert give_keys(published, ["Z", "M", "A"]) == 2
    assert give_keys(published, ["Z", "M", "A"]) == 0
    assert keys(published) == {"M": 1, "A": 2, "Z": 3}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(IDS, max_size=6), max_size=4))
def test_any_ids_in_any_batches_get_one_key_each_by_first_sight_then_bytes(
    published: psycopg.Connection, batches: list[list[str]]
) -> None:
    clear_published(published)
    expected: list[str] = []
    for batch in batches:
        new = sorted(set(batch) - set(expected), key=str.encode)
        assert give_keys(published, batch) == len(new)
        expected += new
    assert sorted(keys(published), key=keys(published).__getitem__) == expected
    assert read_keys(published, experiment=EXPERIMENT)["caregiver_id"].to_pylist() == expected


def test_awkward_ids_get_keys_and_are_found_by_them(published: psycopg.Connection) -> None:
    assert give_keys(published, AWKWARD_IDS) == len(AWKWARD_IDS)
    assert give_keys(published, AWKWARD_IDS) == 0
    in_order = sorted(AWKWARD_IDS, key=str.encode)
    found = caregiver_ids_for(published, pa.array(range(1, len(in_order) + 1)))
    assert found["caregiver_id"].to_pylist() == in_order
    assert read_keys(published, experiment=EXPERIMENT)["caregiver_id"].to_pylist() == in_order
    for caregiver_id in AWKWARD_IDS:
        row = published.execute(
            "SELECT caregiver_key FROM bandicoot.caregiver_keys WHERE caregiver_id = %s", (caregiver_id,)
        ).fetchone()
        assert row == (in_order.index(caregiver_id) + 1,)


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["B", "A"], pa.large_string()),
        pa.chunked_array([["B"], [], ["A"]], pa.string()),
        pa.array(["B", "A"]).dictionary_encode(),
        lambda: (each for each in ("B", "A")),
        {"B", "A"},
    ],
)
def test_ids_come_as_any_array_or_iterable(published: psycopg.Connection, ids: pa.Array) -> None:
    given = ids() if callable(ids) else ids
    assert ensure_keys(published, given, draw_of=draws_by_length, experiment=EXPERIMENT, seen_at=NIGHT) == 2
    assert keys(published) == {"A": 1, "B": 2}


def test_no_ids_are_no_work(published: psycopg.Connection) -> None:
    assert give_keys(published, []) == 0
    assert read_keys(published, experiment=EXPERIMENT) == KEYS_SCHEMA.empty_table()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["A", ""], "caregiver_id: 1 of 2 ids are missing or empty"),
        (["A", None], "caregiver_id: 1 of 2 ids are missing or empty"),
        (["A", "b\0"], r"column caregiver_id: 1 values hold the character U\+0000"),
    ],
)
def test_an_impossible_id_is_refused_with_all_that_came_with_it(
    published: psycopg.Connection, ids: list[str], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        give_keys(published, ids)
    assert keys(published) == {}


def test_the_database_itself_refuses_an_id_twice_however_long_it_is(published: psycopg.Connection) -> None:
    give_keys(published, AWKWARD_IDS)
    for caregiver_id in ("CG-1", AWKWARD_IDS[-1]):
        with pytest.raises(psycopg.errors.ExclusionViolation):
            published.execute(
                "INSERT INTO bandicoot.caregiver_keys (caregiver_id, first_seen_at) VALUES (%s, now())", (caregiver_id,)
            )


def test_a_draw_is_made_once_and_stays(published: psycopg.Connection) -> None:
    record_rollout(published, experiment=EXPERIMENT, rollout_share=0.5, in_force_at=NIGHT)
    ensure_keys(published, ["A", "BB"], draw_of=draws_by_length, experiment=EXPERIMENT, seen_at=NIGHT)
    give_keys(published, ["A", "BB", "CCC"])
    found = read_keys(published, experiment=EXPERIMENT)
    assert found.schema == KEYS_SCHEMA
    assert found.to_pylist() == [
        {"caregiver_key": 1, "caregiver_id": "A", "ab_arm": "control"},
        {"caregiver_key": 2, "caregiver_id": "BB", "ab_arm": "treatment"},
        {"caregiver_key": 3, "caregiver_id": "CCC", "ab_arm": "treatment"},
    ]


def test_arms_follow_from_the_share_in_force(published: psycopg.Connection) -> None:
    ensure_keys(published, ["A", "BB"], draw_of=draws_by_length, experiment=EXPERIMENT, seen_at=NIGHT)
    found = []
    for days, share in enumerate((None, 0.1, 0.5, 1.0)):
        if share is not None:
            record_rollout(
                published, experiment=EXPERIMENT, rollout_share=share, in_force_at=NIGHT + timedelta(days=days)
            )
        found.append(read_keys(published, experiment=EXPERIMENT)["ab_arm"].to_pylist())
    assert found == [[None, None], ["control", "control"], ["control", "treatment"], ["treatment", "treatment"]]


def test_a_stratum_is_drawn_on_from_where_it_stands(published: psycopg.Connection) -> None:
    asked: list[dict[str, int]] = []

    def draw_of(caregiver_ids: Sequence[str], n_drawn: Mapping[str, int]) -> pa.Table:
        asked.append(dict(n_drawn))
        return draws_by_length(caregiver_ids, n_drawn)

    for ids in (["A", "BB"], ["C", "DD", "E"], ["F"]):
        ensure_keys(published, ids, draw_of=draw_of, experiment=EXPERIMENT, seen_at=NIGHT)
    assert asked == [{}, {"L1": 1, "L2": 1}, {"L1": 3, "L2": 2}]
    assert read_assignments(published, experiment=EXPERIMENT).to_pydict() == {
        "caregiver_key": [1, 2, 3, 4, 5, 6],
        "stratum": ["L1", "L2", "L1", "L2", "L1", "L1"],
        "block": [0] * 6,
        "draw": [0.9, 0.1, 0.9, 0.1, 0.9, 0.9],
    }


def test_a_new_experiment_draws_for_everybody_known_and_leaves_the_old_one(published: psycopg.Connection) -> None:
    give_keys(published, ["A", "BB"])
    later = NIGHT + timedelta(days=7)
    for experiment in (EXPERIMENT, "winter"):
        record_rollout(published, experiment=experiment, rollout_share=0.5, in_force_at=later)
    assert ensure_keys(published, ["C"], draw_of=draws_by_length, experiment="winter", seen_at=later) == 1
    assert read_keys(published, experiment="winter")["ab_arm"].to_pylist() == ["control", "treatment", "control"]
    assert read_keys(published, experiment=EXPERIMENT)["ab_arm"].to_pylist() == ["treatment", "treatment", None]
    assert published.execute(
        "SELECT count(*), min(assigned_at) FROM bandicoot.experiment_assignments WHERE experiment = 'winter'"
    ).fetchall() == [(3, later)]


@pytest.mark.parametrize(
    ("draws", "error", "message"),
    [
        ([0.5], ValueError, "draw_of gave 1 draws for 2 caregivers"),
        ([0.5, 1.5], InvalidInputError, r"experiment_assignments.draw: 1 rows hold something else than at most 1"),
    ],
)
def test_draws_that_cannot_be_leave_neither_draws_nor_keys(
    published: psycopg.Connection, draws: list[float], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ensure_keys(
            published, ["A", "B"], draw_of=lambda ids, n_drawn: drawn(draws), experiment=EXPERIMENT, seen_at=NIGHT
        )
    assert keys(published) == {}


def test_a_naive_instant_is_refused(published: psycopg.Connection) -> None:
    with pytest.raises(ValueError, match=r"seen_at: .* has no time zone"):
        ensure_keys(
            published, ["A"], draw_of=draws_by_length, experiment=EXPERIMENT, seen_at=NIGHT.replace(tzinfo=None)
        )


def test_processes_that_see_the_same_ids_at_once_agree_on_the_keys(
    published: psycopg.Connection, published_url: str
) -> None:
    ids = [f"CG-{number:04d}" for number in range(500)]

    def ensure(part: int) -> int:
        with connect(published_url) as connection:
            return give_keys(connection, ids[part * 50 : part * 50 + 250])

    with ThreadPoolExecutor(6) as threads:
        n_new = sum(threads.map(ensure, range(6)))
    assert n_new == 500
    assert len(set(keys(published).values())) == 500
    assert read_assignments(published, experiment=EXPERIMENT).num_rows == 500


def test_keys_are_loaded_into_the_engine_and_replace_what_was_loaded_before(
    published: psycopg.Connection, engine: Backend
) -> None:
    give_keys(published, AWKWARD_IDS)
    load_keys(published, engine, experiment=EXPERIMENT)
    give_keys(published, ["later"])
    loaded = load_keys(published, engine, experiment=EXPERIMENT).order_by("caregiver_key").to_pyarrow()
    assert loaded.to_pylist() == read_keys(published, experiment=EXPERIMENT).to_pylist()
    assert loaded.num_rows == len(AWKWARD_IDS) + 1


def test_ids_are_found_for_keys_in_ascending_order_each_once(published: psycopg.Connection) -> None:
    give_keys(published, ["A", "B", "C"])
    found = caregiver_ids_for(published, pa.chunked_array([[3, 1], [3]], pa.int64()))
    assert found.to_pylist() == [{"caregiver_key": 1, "caregiver_id": "A"}, {"caregiver_key": 3, "caregiver_id": "C"}]
    assert caregiver_ids_for(published, pa.array([], pa.int64())).num_rows == 0


def test_keys_are_found_for_ids_and_ids_without_a_key_are_left_out(published: psycopg.Connection) -> None:
    give_keys(published, ["B", "A", *AWKWARD_IDS])
    known = keys(published)
    found = keys_of(published, pa.array(["nobody", "B", None, AWKWARD_IDS[0], "B"]))
    expected = sorted((known[name], name) for name in ("B", AWKWARD_IDS[0]))
    assert [(row["caregiver_key"], row["caregiver_id"]) for row in found.to_pylist()] == expected
    assert keys_of(published, pa.array([], pa.string())).num_rows == 0


def test_a_key_without_a_caregiver_is_named(published: psycopg.Connection) -> None:
    give_keys(published, ["A"])
    with pytest.raises(InvalidInputError, match=r"2 keys have no caregiver \(first: caregiver_key=7\)"):
        caregiver_ids_for(published, pa.array([9, 1, 7]))
