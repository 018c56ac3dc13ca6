"""Redis and PostgreSQL, both real, give the same answers whatever happened to Redis in between."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import date, timedelta
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_rows import AWKWARD_IDS, DAY, give_keys, list_rows, publish, state_rows

from bandicoot_core.contracts import WHITTLE_INDICES
from bandicoot_core.errors import MissingPartitionError, UnreachableError
from bandicoot_core.settings import Settings
from bandicoot_core.stores.cache import Cache, forget, open_cache
from bandicoot_core.stores.cache_fill import fill_cache
from bandicoot_core.stores.cache_keys import CURRENT_KEY, CaregiverFacts, StatesAsOf, state_key
from bandicoot_core.stores.connections import connect
from bandicoot_core.stores.current_reader import BOTH, CACHE, DATABASE, CurrentReader
from bandicoot_core.stores.published_tables import PUBLISHED_STATES
from bandicoot_core.stores.reset import clear_published
from tests.registered_models import MODELS, register
from tests.servers.redis import RedisServer, cut_after

IDS = ["A", "B", "C", "D"]


def opened(redis_server: RedisServer, **changes: object) -> Cache:
    cache = open_cache(Settings(**({"redis_url": redis_server.url, "redis_check_seconds": 0} | changes)))
    assert cache is not None
    return cache


@contextmanager
def unreachable() -> Iterator[psycopg.Connection]:
    raise UnreachableError("no connection")
    yield


def reader_of(
    cache: Cache | None, connection: psycopg.Connection, monotonic: Callable[[], float] = time.monotonic
) -> CurrentReader:
    return CurrentReader(cache, lambda: nullcontext(connection), monotonic=monotonic)


def bring(connection: psycopg.Connection, states: pa.Table | None, *, day: date = DAY, **options: Any) -> None:
    """Publish an empty list, with states unless they are None."""
    publish(connection, list_rows([], day), day, budget=0, states=states, **options)


def truth(connection: psycopg.Connection) -> tuple[list[tuple[Any, ...]], dict[str, tuple[Any, ...]]]:
    """The indices behind the newest list, and every caregiver's facts, by plain SQL."""
    names = ", ".join(WHITTLE_INDICES.column_names)
    indices = connection.execute(
        f"SELECT model_version, {names} FROM bandicoot.whittle_indices WHERE model_version = "
        "(SELECT model_version FROM bandicoot.list_publications ORDER BY call_date DESC LIMIT 1) "
        "ORDER BY cluster_id, state"
    ).fetchall()
    facts = ", ".join(CaregiverFacts.model_fields)
    states = {
        row[0]: row[1:]
        for row in connection.execute(
            f'SELECT caregiver_id, {facts} FROM bandicoot.caregiver_states ORDER BY caregiver_id COLLATE "C"'
        )
    }
    return indices, states


def answers(
    reader: CurrentReader, caregiver_ids: list[str]
) -> tuple[list[tuple[Any, ...]], dict[str, tuple[Any, ...]]]:
    """What a reader says, in the form of `truth`."""
    indices, states = reader.read_indices(), reader.read_states(caregiver_ids)
    rows = [(indices.model_version, *row.values()) for row in indices.indices.to_pylist()]
    return rows, {name: tuple(dict(facts).values()) for name, facts in states.states.items()}


def fill(redis_server: RedisServer, connection: psycopg.Connection, **changes: object) -> None:
    fill_cache(opened(redis_server, **changes), connection)


def filled(redis_server: RedisServer, connection: psycopg.Connection) -> Cache:
    """A cache that holds two states of model m-1."""
    register(connection, "m-1")
    register(connection, "m-2")
    give_keys(connection, IDS)
    bring(connection, state_rows({1: "R", 2: "U"}, cluster_ids={1: 1}), model_version="m-1")
    fill(redis_server, connection)
    return opened(redis_server)


def test_a_states_facts_are_the_columns_of_the_published_table() -> None:
    assert [*CaregiverFacts.model_fields] == PUBLISHED_STATES.column_names[1:-1]


def test_the_same_answers_come_from_redis_and_from_postgresql(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    cache = filled(redis_server, published)
    cached, stored = reader_of(cache, published), reader_of(None, published)
    assert cached.read_indices().came_from == CACHE
    assert stored.read_indices().came_from == DATABASE
    assert repr(cached.read_indices().indices.to_pylist()) == repr(stored.read_indices().indices.to_pylist())
    assert cached.read_indices().indices.schema.equals(stored.read_indices().indices.schema)
    assert (cached.read_indices().call_date, cached.read_indices().model_version) == (DAY, "m-1")
    assert cached.read_states(["A", "B"]) == stored.read_states(["A", "B"])
    assert cached.read_states(["A", "B"]).came_from == CACHE
    assert cached.read_states(["A", "B"]).as_of == StatesAsOf(as_of_date=DAY - timedelta(days=1), model_version="m-1")
    assert cached.read_state("A") == stored.read_state("A") != cached.read_state("B")
    assert cached.read_states([]).as_of == stored.read_states([]).as_of


def test_the_values_are_the_json_that_consumers_are_told(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    filled(redis_server, published)
    with redis_server.client() as client:
        pointer = json.loads(client.get(CURRENT_KEY))
        state = json.loads(client.get("state:A"))
        index = json.loads(client.get("whittle:m-1:1:R"))
        lasting = {name: client.ttl(name) for name in (CURRENT_KEY, "whittle:m-1:1:R", "state:A")}
    assert pointer == {
        "publication": state["publication"],
        "call_date": "2026-11-20",
        "published_at": "2026-11-19T19:35:00Z",
        "model_version": "m-1",
        "cluster_ids": [0, 1],
        "states": {"as_of_date": "2026-11-19", "model_version": "m-1"},
    }
    assert state == {
        "publication": pointer["publication"],
        "as_of_date": "2026-11-19",
        "model_version": "m-1",
        "district": "Pune",
        "state": "R",
        "last_open_date": "2026-11-19",
        "last_call_date": None,
        "warm_up_end_date": "2026-01-01",
        "status": "active",
        "ab_arm": "treatment",
        "cluster_id": 1,
    }
    assert index == {
        "model_version": "m-1",
        "cluster_id": 1,
        "state": "R",
        "whittle_index": pytest.approx(1 / 3 + 3 / 7),
        "index_low": 1e-300,
        "index_high": None,
        "is_indexable": True,
        "p_passive": pytest.approx(1 / 3),
        "p_active": 0.1 + 0.2,
    }
    week, day = 7 * 86_400, 86_400
    for name, seconds in zip(lasting, (week, week, day), strict=True):
        assert seconds - 60 < lasting[name] <= seconds, name


def test_ids_of_any_kind_are_found_in_redis(redis_server: RedisServer, published: psycopg.Connection) -> None:
    register(published, "m-1")
    ids = [*AWKWARD_IDS, "a:b:c", "current", "*", "\r\n$3\r\nSET\r\n"]
    give_keys(published, ids)
    bring(published, state_rows({key: "RU"[key % 2] for key in range(1, len(ids) + 1)}))
    fill(redis_server, published)
    reader = reader_of(opened(redis_server), published)
    found = reader.read_states(ids)
    assert found.came_from == CACHE
    assert set(found.states) == set(ids)
    assert found == reader_of(None, published).read_states(ids)
    assert {state_key(caregiver_id) for caregiver_id in ids} < redis_server.names()
    unknown = ["", "nobody", "with\0nul", "half a pair \ud800", "CG-1 "]
    assert reader.read_states([*unknown, "CG-1"]).states.keys() == {"CG-1"}


def test_a_caregiver_missing_from_redis_is_read_from_postgresql_and_the_others_are_not(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    reader = reader_of(filled(redis_server, published), published)
    with redis_server.client() as client:
        client.delete("state:A")
    assert reader.read_states(["A", "B"]).came_from == BOTH
    assert answers(reader, ["A", "B"])[1] == truth(published)[1]


@pytest.mark.parametrize(
    "garbage",
    [b"", b"{", b"null", b"[" * 100_000, b"\xff\xfe", b'{"state": "U"}', b"\x80\x04\x95pickle", b"1" * 10_000],
)
def test_garbage_in_redis_is_a_miss_and_is_reported(
    redis_server: RedisServer, published: psycopg.Connection, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate((CURRENT_KEY, b"whittle:m-1:1:R", b"state:A")):
        redis_server.flush()
        if not number:
            filled(redis_server, published)
        else:
            fill(redis_server, published)
        cache = opened(redis_server)
        with redis_server.client() as client:
            client.set(name, garbage)
        caplog.clear()
        assert repr(answers(reader_of(cache, published), ["A", "B"])) == repr(truth(published))
        assert cache.tallies["unreadable"] >= 1
        assert "cannot be read" in caplog.text
        assert not cache.is_paused


def test_a_key_of_another_type_is_a_miss(redis_server: RedisServer, published: psycopg.Connection) -> None:
    reader = reader_of(filled(redis_server, published), published)
    for name in (b"state:A", b"whittle:m-1:1:R", CURRENT_KEY):
        with redis_server.client() as client:
            client.delete(name)
            client.rpush(name, b"1")
        assert repr(answers(reader, ["A", "B"])) == repr(truth(published))


def test_a_value_that_another_publication_left_is_not_believed(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    cache = filled(redis_server, published)
    bring(published, state_rows({1: "R"}), model_version="m-1", run_id="run-2")  # B is gone
    fill(redis_server, published)
    assert b"state:B" in redis_server.names()
    reader = reader_of(cache, published)
    assert reader.read_states(["A"]).came_from == CACHE
    assert reader.read_states(["A", "B"]).states.keys() == {"A"}


def test_a_run_that_publishes_again_makes_another_publication(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    reader = reader_of(filled(redis_server, published), published)
    assert reader.read_states(["A", "B"]).came_from == CACHE
    bring(published, state_rows({1: "U", 2: "U"}), model_version="m-1")  # by the same run, at the same instant
    assert {facts.state for facts in reader.read_states(["A", "B"]).states.values()} == {"U"}


def test_states_that_a_later_list_did_not_bring_keep_their_day_and_their_model(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    cache = filled(redis_server, published)
    bring(published, None, day=DAY + timedelta(days=1), model_version="m-2")
    fill(redis_server, published)
    reader = reader_of(cache, published)
    assert (reader.read_indices().model_version, reader.read_indices().came_from) == ("m-2", CACHE)
    found = reader.read_states(["A"])
    assert (found.came_from, found.as_of) == (
        CACHE,
        StatesAsOf(as_of_date=DAY - timedelta(days=1), model_version="m-1"),
    )
    assert found == reader_of(None, published).read_states(["A"])


def test_without_states_in_redis_only_indices_come_from_it(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    filled(redis_server, published)
    redis_server.flush()
    fill(redis_server, published, redis_has_states=False)
    reader = reader_of(opened(redis_server), published)
    assert reader.read_indices().came_from == CACHE
    assert reader.read_states(["A"]).came_from == DATABASE
    assert not any(name.startswith(b"state:") for name in redis_server.names())


def test_before_the_first_list_a_reader_is_told_what_to_make(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    for cache in (opened(redis_server), None):
        with pytest.raises(MissingPartitionError, match="materialize published_call_list"):
            reader_of(cache, published).read_indices()
        with pytest.raises(MissingPartitionError, match="materialize published_call_list"):
            reader_of(cache, published).read_states(["A"])


def test_postgresql_is_asked_for_the_newest_list_only_now_and_then(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    filled(redis_server, published)
    moment, n_opened = [0.0], [0]

    @contextmanager
    def counted() -> Iterator[psycopg.Connection]:
        n_opened[0] += 1
        yield published

    reader = CurrentReader(opened(redis_server, redis_check_seconds=60), counted, monotonic=lambda: moment[0])
    for _ in range(50):
        assert reader.read_indices().came_from == CACHE
    assert n_opened[0] == 1
    bring(published, state_rows({1: "U", 2: "U"}), model_version="m-2", run_id="run-2")
    moment[0] = 59.0
    assert reader.read_indices().model_version == "m-1"  # what it was told a minute ago
    moment[0] = 60.5
    assert (reader.read_indices().model_version, reader.read_indices().came_from) == ("m-2", DATABASE)
    fill(redis_server, published)
    assert (reader.read_indices().model_version, reader.read_indices().came_from) == ("m-2", CACHE)


def test_who_is_missing_in_redis_is_not_added_from_a_newer_publication(
    redis_server: RedisServer, published: psycopg.Connection
) -> None:
    filled(redis_server, published)
    reader = reader_of(opened(redis_server, redis_check_seconds=60), published)
    assert reader.read_states(["A"]).came_from == CACHE
    bring(published, state_rows({1: "U", 2: "U", 3: "U"}), model_version="m-2", run_id="run-2")
    found = reader.read_states(["A", "C"])
    assert (found.came_from, found.as_of) == (
        DATABASE,
        StatesAsOf(as_of_date=DAY - timedelta(days=1), model_version="m-2"),
    )
    assert {facts.state for facts in found.states.values()} == {"U"}


def test_redis_answers_while_postgresql_is_away(redis_server: RedisServer, published: psycopg.Connection) -> None:
    cache = filled(redis_server, published)
    reader = CurrentReader(cache, unreachable)
    assert reader.read_indices().came_from == CACHE
    assert reader.read_states(["A", "B"]).states.keys() == {"A", "B"}
    with pytest.raises(UnreachableError):
        reader.read_states(["A", "nobody"])
    redis_server.flush()
    with pytest.raises(UnreachableError):
        reader.read_indices()


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_reader_of_a_broken_redis_answers_from_postgresql_and_waits_once(
    redis_server: RedisServer, published: psycopg.Connection, fault: str
) -> None:
    reader = reader_of(filled(redis_server, published), published)
    getattr(redis_server, fault)()
    try:
        started = time.monotonic()
        for _ in range(100):
            assert repr(answers(reader, ["A", "B"])) == repr(truth(published))
        assert time.monotonic() - started < 5
    finally:
        redis_server.restart()


WHATEVER = st.lists(
    st.one_of(
        st.tuples(
            st.just("publish"),
            st.integers(0, 3),
            st.sampled_from(MODELS),
            st.none() | st.dictionaries(st.integers(1, len(IDS)), st.sampled_from("UR"), max_size=len(IDS)),
        ),
        st.tuples(st.just("fill")),
        st.tuples(st.just("fill without states")),
        st.tuples(st.just("fill in part"), st.integers(0, 5000)),
        st.tuples(st.just("flush")),
        st.tuples(st.just("restart")),
        st.tuples(st.just("expire"), st.integers(0, 12)),
        st.tuples(st.just("break"), st.integers(0, 12), st.sampled_from([b"", b"{}", b"null", b'{"state":"U"}'])),
        st.tuples(st.just("forget"), st.sampled_from(IDS)),
    ),
    max_size=12,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=WHATEVER)
def test_after_any_history_redis_says_what_postgresql_says(
    redis_server: RedisServer, published: psycopg.Connection, history: list[tuple[Any, ...]]
) -> None:
    redis_server.flush()
    clear_published(published)
    for version in MODELS:
        register(published, version, n_clusters=1 + MODELS.index(version))
    give_keys(published, IDS)
    bring(published, state_rows({1: "U"}), model_version="m-1")
    cache = opened(redis_server)
    for number, (what, *details) in enumerate(history):
        _happen(redis_server, published, what, details, run_id=f"run-{number}")
        found = answers(reader_of(cache, published), [*IDS, "nobody"])
        assert repr(found) == repr(truth(published)), what


def _happen(
    redis_server: RedisServer, published: psycopg.Connection, what: str, details: list[Any], *, run_id: str
) -> None:
    if what == "publish":
        days_later, version, states = details
        rows = None if states is None else state_rows(states, cluster_ids=dict.fromkeys(states, MODELS.index(version)))
        bring(published, rows, day=DAY + timedelta(days=days_later), model_version=version, run_id=run_id)
    elif what == "fill":
        fill(redis_server, published)
    elif what == "fill without states":
        fill(redis_server, published, redis_has_states=False)
    elif what == "fill in part":
        with cut_after(redis_server, details[0]) as url, suppress(UnreachableError):
            fill_cache(opened(redis_server, redis_url=url), published)
    elif what == "flush":
        redis_server.flush()
    elif what == "restart":
        redis_server.restart()
    elif what == "forget":
        published.execute("DELETE FROM bandicoot.caregiver_states WHERE caregiver_id = %s", details)
        forget(opened(redis_server), details[0])
    else:
        names = sorted(redis_server.names())
        with redis_server.client() as client:
            for name in names[details[0] : details[0] + 1]:
                client.delete(name) if what == "expire" else client.set(name, details[1])


def test_no_answer_mixes_two_models_while_they_change(
    redis_server: RedisServer, published: psycopg.Connection, published_url: str
) -> None:
    """Readers beside a writer that publishes and fills: each answer is of one model, with the states it came with."""
    register(published, "m-1")
    register(published, "m-2")
    give_keys(published, IDS)
    bring(published, state_rows(dict.fromkeys(range(1, 5), "R"), cluster_ids=dict.fromkeys(range(1, 5), 0)))
    ended, wrong, came_from = threading.Event(), [], set()

    def read() -> None:
        cache = opened(redis_server)
        with connect(published_url) as connection:
            reader = reader_of(cache, connection)
            while not ended.is_set():
                indices, states = reader.read_indices(), reader.read_states(IDS)
                came_from.update((indices.came_from, states.came_from))
                expected = (1 + MODELS.index(indices.model_version)) / 3
                if set(indices.indices["p_passive"].to_pylist()) != {expected}:
                    wrong.append(indices)
                assert states.as_of is not None
                number = MODELS.index(states.as_of.model_version)
                if {(f.cluster_id, f.state) for f in states.states.values()} != {(number, "RU"[number])}:
                    wrong.append(states)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for thread in readers:
        thread.start()
    deadline, number = time.monotonic() + 1.5, 0
    while time.monotonic() < deadline:
        number += 1
        model = number % 2
        rows = state_rows(dict.fromkeys(range(1, 5), "RU"[model]), cluster_ids=dict.fromkeys(range(1, 5), model))
        bring(published, rows, model_version=MODELS[model], run_id=f"run-{number}")
        if number % 7:
            fill(redis_server, published)
            time.sleep(0.01)
        else:
            redis_server.flush()
    ended.set()
    for thread in readers:
        thread.join()
    assert wrong == []
    assert {CACHE, DATABASE} <= came_from
