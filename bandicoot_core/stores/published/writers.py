"""One writer for each partition, whatever started it: a schedule, a person, a backfill or a retry.

The lock is an advisory one of PostgreSQL, held by an open transaction on a connection of its own: so it is kept behind
a pooler in transaction mode, and goes by itself with the process that held it. Readers are never kept waiting. What is
written, and how it becomes visible in one step, belongs to the lake and to published.
"""

import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import psycopg

from bandicoot_core.errors import PartitionHeldError, UnreachableError
from bandicoot_core.stores.postgres.connections import Lock, connect
from bandicoot_core.stores.server_errors import foreseen_errors

_POLL_SECONDS = 0.2
_MAX_LOCKS = 32
"""More partitions at once lock their whole asset: a server's room for locks is bounded."""
_MAX_NAME_BYTES = 63

_BEGIN = """
    SELECT set_config('application_name', %s, true),
        (SELECT count(set_config(name, '0', true)) FROM pg_settings
         WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout'))
"""
_TAKE_ASSET = "SELECT pg_try_advisory_xact_lock_shared(%s, %s)"
_TAKE_WHOLE_ASSET = "SELECT pg_try_advisory_xact_lock(%s, %s)"
_TAKE_PARTITIONS = """
    SELECT bool_and(pg_try_advisory_xact_lock(%s, taken.key)) FROM unnest(%s::int[]) AS taken (key)
"""
_HOLDERS = """
    SELECT session.application_name, session.pid, session.xact_start
    FROM pg_locks AS held JOIN pg_stat_activity AS session USING (pid)
    WHERE held.locktype = 'advisory' AND held.granted AND held.pid <> pg_backend_pid()
        AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND ((held.classid::bigint = %s AND held.objid::bigint = ANY (%s))
            OR (held.classid::bigint = %s AND held.objid::bigint = %s AND (%s OR held.mode = 'ExclusiveLock')))
    ORDER BY session.xact_start LIMIT 1
"""


@contextmanager
def sole_writer(
    url: str,
    asset: str,
    partitions: Sequence[str],
    *,
    holder: str,
    wait_seconds: float,
    is_whole_asset: bool = False,
) -> Iterator[None]:
    """Be the only writer of some partitions of an asset inside the block, or of all of them (`is_whole_asset`).

    `holder` says, for others who wait, who this is. Raises PartitionHeldError, which names who is at work, when the
    partitions are not free within `wait_seconds`; UnreachableError when the server does not answer, or when it was
    away meanwhile: then another writer may have come between, and the block has to be run again.
    """
    deadline = time.monotonic() + wait_seconds
    with connect(url) as connection, foreseen_errors(connection, f"locking {asset}"):
        while (found := _take(connection, asset, partitions, holder, is_whole_asset)) is not None:
            if time.monotonic() >= deadline:
                raise PartitionHeldError(
                    f"{asset}/{_span(partitions)} is being written by {found}; this run waited {wait_seconds:g} s and "
                    "has written nothing; wait for the other to end, or end it, then run again (a longer wait: "
                    "BANDICOOT_WRITER_WAIT_SECONDS)"
                )
            time.sleep(_POLL_SECONDS)
        yield
        try:
            connection.execute("ROLLBACK")
        except psycopg.OperationalError as error:
            raise UnreachableError(
                f"{asset}/{_span(partitions)} was written, but the server was away meanwhile and another writer may "
                f"have come between ({' '.join(str(error).split())}); run again when it answers: the same input gives "
                "the same content"
            ) from error


def _take(
    connection: psycopg.Connection, asset: str, partitions: Sequence[str], holder: str, is_whole_asset: bool
) -> str | None:
    """Take every lock and keep the transaction open, or take none and say who is in the way."""
    connection.execute("BEGIN")
    name = f"{holder} writes {asset}/{_span(partitions)}".encode()[:_MAX_NAME_BYTES].decode(errors="ignore")
    connection.execute(_BEGIN, (name,))
    keys = sorted({_key(f"{asset}/{partition}") for partition in partitions})
    is_many = is_whole_asset or len(keys) > _MAX_LOCKS
    take = _TAKE_WHOLE_ASSET if is_many else _TAKE_ASSET
    row = connection.execute(take, (int(Lock.ASSET_WRITERS), _key(asset))).fetchone()
    is_taken = row is not None and bool(row[0])
    if is_taken and not is_many and keys:
        row = connection.execute(_TAKE_PARTITIONS, (int(Lock.PARTITION_WRITER), keys)).fetchone()
        is_taken = row is not None and bool(row[0])
    if is_taken:
        return None
    found = connection.execute(
        _HOLDERS,
        (
            int(Lock.PARTITION_WRITER),
            [key % 2**32 for key in keys],
            int(Lock.ASSET_WRITERS),
            _key(asset) % 2**32,
            is_many,
        ),
    ).fetchone()
    connection.execute("ROLLBACK")
    return _described(found)


def _described(found: tuple[str | None, int, datetime | None] | None) -> str:
    if found is None:
        return "another process, which has just ended"
    name, pid, since = found
    when = f", since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if since is not None else ""
    return f"{name or 'another process'} (server process {pid}{when})"


def _span(partitions: Sequence[str]) -> str:
    ordered = sorted(partitions)
    return ordered[0] if len(ordered) == 1 else f"{ordered[0]}..{ordered[-1]}"


def _key(name: str) -> int:
    """A name as PostgreSQL's int; two names of one key wait for each other, which does no harm."""
    return zlib.crc32(name.encode()) - 2**31
