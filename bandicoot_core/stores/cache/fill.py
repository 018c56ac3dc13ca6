"""Filling Redis with the list, indices and states that PostgreSQL calls current: streamed, versioned, bounded in time.

Keys are written beside those of the publication before, and the pointer last: a reader sees the old publication or the
new one. All is read from one snapshot of PostgreSQL, so a fill that another publication overtakes is still consistent.
When it is made and what a failure means belong to the pipeline.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import redis
from redis.exceptions import ResponseError

from bandicoot_core.errors import BusyError, MissingPartitionError, UnreachableError
from bandicoot_core.stores.cache.cache import Cache
from bandicoot_core.stores.cache.current_answers import Standing, standing, stream_state_values
from bandicoot_core.stores.cache.keys import (
    CURRENT_KEY,
    LIST_KEY,
    LIST_NAME_KEY,
    STATE_PREFIX,
    CachedPublication,
    index_values,
)
from bandicoot_core.stores.cache.list_snapshot import ListSnapshot, read_snapshot
from bandicoot_core.stores.postgres.connections import Lock, limit, lock, reading, whole_transaction
from bandicoot_core.stores.published.models import read_indices

_ROWS_AT_ONCE = 2000


@dataclass(frozen=True)
class Filled:
    """What a fill has put into Redis."""

    standing: Standing
    n_indices: int
    n_states: int
    n_evicted: int | None
    """Keys that Redis dropped meanwhile for want of memory; None when it does not say."""


@contextmanager
def no_fill_under_way(connection: psycopg.Connection, *, wait_seconds: float) -> Iterator[None]:
    """Hold Lock.CACHE: fills come one after the other, and what was removed is not written again.

    The connection does nothing else meanwhile. Raises BusyError when another holds it for longer.
    """
    with whole_transaction(connection, "waiting for the cache to be filled"):
        limit(connection, statement_timeout=0, lock_timeout=max(wait_seconds, 0.001))
        try:
            lock(connection, Lock.CACHE)
        except psycopg.errors.LockNotAvailable as error:
            raise BusyError(
                f"the cache is being filled by another run for more than {wait_seconds:g} s; run again when it is done"
            ) from error
        yield


def fill_cache(
    cache: Cache, connection: psycopg.Connection, *, monotonic: Callable[[], float] = time.monotonic
) -> Filled:
    """Bring what PostgreSQL calls current into Redis. Call it inside no_fill_under_way of another connection.

    Raises MissingPartitionError when no list is published yet; UnreachableError when Redis does not answer, or when it
    takes longer than the configured time; RefusedWriteError when it answers with an error. Readers then have the
    indices of the new publication or nothing of it, and read PostgreSQL for the rest.
    """
    deadline = monotonic() + cache.options.fill_seconds
    with (
        reading(connection, "reading what the cache is to hold", is_bulk=True, is_snapshot=True),
        cache.writing("filling the cache") as client,
    ):
        current = standing(connection)
        if current is None:
            raise MissingPartitionError("no call list is published yet; materialize published_call_list first")
        rows = read_indices(connection, current.model_version)
        indices = index_values(current.model_version, rows)
        pointer = CachedPublication(
            publication=current.publication,
            call_date=current.call_date,
            published_at=current.published_at,
            model_version=current.model_version,
            cluster_ids=tuple(sorted(set(rows["cluster_id"].to_pylist()))),
            states=None,
        )
        n_evicted_before = _n_evicted(client)
        current_list = read_snapshot(connection, current)
        _switch(client, cache, pointer, indices, current_list)
        n_states = 0
        if cache.options.has_states and current.states is not None:
            with _sender(client) as send:
                for batch in stream_state_values(connection, current, current.states):
                    for first in range(0, batch.num_rows, _ROWS_AT_ONCE):
                        if monotonic() > deadline:
                            raise UnreachableError(_too_slow(cache, n_states))
                        n_states += send(batch.slice(first, _ROWS_AT_ONCE), cache.options.state_seconds)
            # Once more with the indices: a full Redis drops first what was used longest ago.
            _switch(client, cache, pointer.model_copy(update={"states": current.states}), indices, current_list)
        n_evicted = _n_evicted(client)
    if n_evicted is None or n_evicted_before is None:
        return Filled(current, len(indices), n_states, None)
    return Filled(current, len(indices), n_states, n_evicted - n_evicted_before)


def _switch(
    client: redis.Redis,
    cache: Cache,
    pointer: CachedPublication,
    indices: dict[bytes, bytes],
    current_list: ListSnapshot,
) -> None:
    """Indices, list and pointer in one transaction of Redis."""
    with client.pipeline(transaction=True) as pipeline:
        for key, value in indices.items():
            pipeline.set(key, value, ex=cache.options.index_seconds)
        pipeline.set(LIST_KEY, current_list.model_dump_json().encode(), ex=cache.options.index_seconds)
        pipeline.unlink(LIST_NAME_KEY)
        pipeline.set(CURRENT_KEY, pointer.model_dump_json().encode(), ex=cache.options.index_seconds)
        pipeline.execute()


@contextmanager
def _sender(client: redis.Redis) -> Iterator[Callable[[pa.RecordBatch, int], int]]:
    """A function that sends states on a connection of their own and waits until all are answered."""
    connection: Any = client.connection_pool.make_connection()
    connection.connect()

    def send(states: pa.RecordBatch, seconds: int) -> int:
        connection.send_packed_command([_set_commands(states, seconds)])
        for _ in range(states.num_rows):
            connection.read_response()
        return states.num_rows

    try:
        yield send
    finally:
        connection.disconnect()


def _set_commands(states: pa.RecordBatch, seconds: int) -> memoryview:
    """`SET state:{caregiver_id} {value} EX {seconds}` for each row, in the bytes of Redis's protocol.

    Joined by Arrow: making each command in Python takes five times as long.
    """
    keys = pc.binary_join_element_wise(STATE_PREFIX.decode(), states["caregiver_id"], "")
    values = states["value"]
    commands = pc.binary_join_element_wise(
        "*5\r\n$3\r\nSET\r\n$",
        pc.binary_length(keys).cast(pa.string()),
        "\r\n",
        keys,
        "\r\n$",
        pc.binary_length(values).cast(pa.string()),
        "\r\n",
        values,
        f"\r\n$2\r\nEX\r\n${len(str(seconds))}\r\n{seconds}\r\n",
        "",
    )
    _, _, content = commands.buffers()
    return memoryview(content)


def _n_evicted(client: redis.Redis) -> int | None:
    try:
        return int(client.info("stats")["evicted_keys"])
    except ResponseError:  # the user may write, but not ask this
        return None


def _too_slow(cache: Cache, n_states: int) -> str:
    return (
        f"filling the cache took longer than redis_fill_seconds ({cache.options.fill_seconds:g} s) and was ended after "
        f"{n_states:,} states; nothing is lost, PostgreSQL is read for states; raise BANDICOOT_REDIS_FILL_SECONDS, or "
        "set BANDICOOT_REDIS_HAS_STATES=false"
    )
