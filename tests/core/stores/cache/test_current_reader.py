"""Redis and PostgreSQL, both real, give the same answers, whatever is wrong with Redis."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from cached_publication import answers, bring, fill, filled, opened, reader_of, truth, unreachable
from published_rows import AWKWARD_IDS, DAY, give_keys, state_rows

from bandicoot_core.errors import MissingPartitionError, UnreachableError
from bandicoot_core.stores.cache.current_reader import BOTH, CACHE, DATABASE, CurrentReader
from bandicoot_core.stores.cache.keys import CURRENT_KEY, CaregiverFacts, StatesAsOf, state_key
from bandicoot_core.stores.published.tables import PUBLISHED_STATES
from tests.registered_models import register
from tests.servers.redis import RedisServer


def test_a_states_facts_are_the_columns_of_the_published_table() -> None:
    others = {"caregiver_id", "as_of_date", "own_index_u", "own_index_r"}
    assert [*CaregiverFacts.model_fields] == [name for name in PUBLISHED_STATES.column_names if name not in others]


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
