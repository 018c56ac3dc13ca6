"""A small publication in PostgreSQL and in Redis, both real, and what a reader of either says of it.

For the tests of readers; what they must say belongs to those.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from typing import Any

import psycopg
import pyarrow as pa
from published_rows import DAY, give_keys, list_rows, publish, state_rows

from bandicoot_core.contracts import WHITTLE_INDICES
from bandicoot_core.errors import UnreachableError
from bandicoot_core.settings import Settings
from bandicoot_core.stores.cache.cache import Cache, open_cache
from bandicoot_core.stores.cache.current_reader import CurrentReader
from bandicoot_core.stores.cache.fill import fill_cache
from bandicoot_core.stores.cache.keys import CaregiverFacts
from tests.registered_models import register
from tests.servers.redis import RedisServer

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
