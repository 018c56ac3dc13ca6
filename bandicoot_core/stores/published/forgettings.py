"""Forgetting a caregiver in schema `bandicoot`: suppressed, removed from every table, and recorded, in one transaction.

The record (bandicoot.forgettings) is the suppression list as well: who is on it does not come in again. It names her by
keyed hash and by the key she had. Without her row in caregiver_keys that key is nobody's; it stays because partitions
written while she was being forgotten may hold it, and it tells no more than the hash does to whoever has the ids and
the secret. Lake and cache belong to pipeline.forgetting.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from bandicoot_core.stores.postgres.connections import Lock, lock, reading, whole_transaction
from bandicoot_core.stores.published.call_lists import CALL_LIST_CHANNEL
from bandicoot_core.stores.published.contract_checks import require_instant
from bandicoot_core.stores.published.suppression import suppression_hash
from bandicoot_core.stores.published.tables import DONE, FORGETTINGS, PUBLISHED_TABLES, REQUESTED, SCHEMA

_DOING = "forgetting a caregiver"

_KEY = "SELECT caregiver_key FROM bandicoot.caregiver_keys WHERE caregiver_id = %s"

# Writers of these tables that have begun are waited for; those that come later see that she is suppressed.
_STOP_WRITERS = """
    LOCK TABLE bandicoot.call_list, bandicoot.caregiver_states, bandicoot.call_outcomes IN SHARE ROW EXCLUSIVE MODE
"""

_KEEP_HER_PLACES = """
    INSERT INTO bandicoot.forgotten_draws AS stored (experiment, stratum, n_draws)
    SELECT experiment, stratum, 1 FROM bandicoot.experiment_assignments WHERE caregiver_key = %s
    ON CONFLICT (experiment, stratum) DO UPDATE SET n_draws = stored.n_draws + 1
"""

_SHORTEN_LISTS = """
    UPDATE bandicoot.list_publications AS published SET n_rows = n_rows - 1
    WHERE EXISTS (SELECT FROM bandicoot.call_list AS listed
                  WHERE listed.call_date = published.call_date AND listed.caregiver_id = %s)
    RETURNING published.call_date = (SELECT max(call_date) FROM bandicoot.list_publications), published.call_date
"""

_RECORD = """
    INSERT INTO bandicoot.forgettings AS stored
        (suppression_hash, caregiver_key, state, requested_at, requested_by, reason, removed_rows)
    VALUES (%s, %s, %s, %s, %s, %s, '{}')
    ON CONFLICT (suppression_hash) DO UPDATE SET caregiver_key = coalesce(stored.caregiver_key, excluded.caregiver_key)
"""

_ADD_ROWS = """
    UPDATE bandicoot.forgettings SET removed_rows = removed_rows || jsonb_build_object(
        %(place)s::text, coalesce((removed_rows ->> %(place)s)::bigint, 0) + %(n_rows)s)
    WHERE suppression_hash = %(hash)s
"""

_FINISH = """
    UPDATE bandicoot.forgettings SET state = %s, done_at = coalesce(done_at, %s) WHERE suppression_hash = %s
"""


@dataclass(frozen=True)
class Forgetting:
    """The record of one caregiver who was forgotten, or is being so; see the contract of bandicoot.forgettings."""

    suppression_hash: str
    caregiver_key: int | None
    state: str
    requested_at: datetime
    requested_by: str
    reason: str
    done_at: datetime | None
    removed_rows: Mapping[str, int]


def forget_published(
    connection: psycopg.Connection, caregiver_id: str, *, requested_at: datetime, requested_by: str, reason: str
) -> Forgetting:
    """Suppress a caregiver and remove her from every table of the schema, in one transaction; return the record.

    The record stays `requested` until finish_forgetting. Lists keep the ranks of the others, and list_publications
    counts one row less; readers of the newest list are told when it was hers. Asking again keeps who asked first, and
    when, and removes what may have come since. A caregiver nobody knows is suppressed all the same.
    """
    asked = require_instant(requested_at, "requested_at")
    with whole_transaction(connection, _DOING, is_bulk=True):
        lock(connection, Lock.KEYS)
        connection.execute(_STOP_WRITERS)
        hash_ = suppression_hash(connection, caregiver_id)
        row = connection.execute(_KEY, (caregiver_id,)).fetchone()
        key: int | None = row[0] if row else None
        connection.execute(_RECORD, (hash_, key, REQUESTED, asked, requested_by, reason))
        connection.execute(_KEEP_HER_PLACES, (key,))
        for is_newest, call_date in connection.execute(_SHORTEN_LISTS, (caregiver_id,)).fetchall():
            if is_newest:
                connection.execute("SELECT pg_notify(%s, %s)", (CALL_LIST_CHANNEL, call_date.isoformat()))
        for name, column, value in _places(caregiver_id, key):
            statement = sql.SQL("DELETE FROM {} WHERE {} = %s").format(
                sql.Identifier(SCHEMA, name), sql.Identifier(column)
            )
            n_rows = connection.execute(statement, (value,)).rowcount
            _add_rows(connection, hash_, f"{SCHEMA}.{name}", n_rows)
        return _require(connection, hash_)


def count_published(connection: psycopg.Connection, caregiver_id: str) -> dict[str, int]:
    """How many rows each table of the schema has of a caregiver; tables without any are left out."""
    counts = {}
    with reading(connection, "counting a caregiver's rows", is_bulk=True):
        row = connection.execute(_KEY, (caregiver_id,)).fetchone()
        for name, column, value in _places(caregiver_id, row[0] if row else None):
            statement = sql.SQL("SELECT count(*) FROM {} WHERE {} = %s").format(
                sql.Identifier(SCHEMA, name), sql.Identifier(column)
            )
            found = connection.execute(statement, (value,)).fetchone()
            if found and found[0]:
                counts[f"{SCHEMA}.{name}"] = int(found[0])
    return counts


def find_forgetting(connection: psycopg.Connection, caregiver_id: str) -> Forgetting | None:
    """The record of a caregiver; None when nobody has asked to forget her."""
    with reading(connection, "looking for a record of forgetting"):
        return _find(connection, suppression_hash(connection, caregiver_id))


def key_of(connection: psycopg.Connection, caregiver_id: str) -> int | None:
    """The key a caregiver has, or had before she was forgotten; None when she never had one."""
    with reading(connection, "looking for a caregiver's key"):
        row = connection.execute(_KEY, (caregiver_id,)).fetchone()
    if row is not None:
        return int(row[0])
    forgotten = find_forgetting(connection, caregiver_id)
    return forgotten.caregiver_key if forgotten else None


def add_removed_rows(connection: psycopg.Connection, suppression_hash: str, place: str, n_rows: int) -> None:
    """Add to the record how many rows were removed from a place; none add nothing."""
    with whole_transaction(connection, _DOING):
        _add_rows(connection, suppression_hash, place, n_rows)


def finish_forgetting(connection: psycopg.Connection, suppression_hash: str, *, done_at: datetime) -> Forgetting:
    """Record that every store was gone through; the first time stays recorded."""
    with whole_transaction(connection, _DOING):
        connection.execute(_FINISH, (DONE, require_instant(done_at, "done_at"), suppression_hash))
        return _require(connection, suppression_hash)


def unfinished_forgettings(connection: psycopg.Connection) -> list[Forgetting]:
    """Records of caregivers whom not every store has lost yet, the oldest first."""
    with reading(connection, "looking for unfinished forgetting"):
        return _read(connection, "WHERE state <> %s ORDER BY requested_at", (DONE,))


def _add_rows(connection: psycopg.Connection, hash_: str, place: str, n_rows: int) -> None:
    if n_rows:
        connection.execute(_ADD_ROWS, {"place": place, "n_rows": n_rows, "hash": hash_})


def _places(caregiver_id: str, caregiver_key: int | None) -> Iterator[tuple[str, str, str | int]]:
    """Every table that can hold her, the column it does so in, and the value there; the keys come last.

    They are told by their contracts, so that a new table is not missed.
    """
    for name, contract in sorted(PUBLISHED_TABLES.items(), key=lambda item: item[0] == "caregiver_keys"):
        if name == FORGETTINGS.name:
            continue
        if "caregiver_id" in contract.column_names:
            yield name, "caregiver_id", caregiver_id
        elif "caregiver_key" in contract.column_names and caregiver_key is not None:
            yield name, "caregiver_key", caregiver_key


def _require(connection: psycopg.Connection, hash_: str) -> Forgetting:
    found = _find(connection, hash_)
    if found is None:
        raise LookupError(f"bandicoot.forgettings has no record {hash_}")
    return found


def _find(connection: psycopg.Connection, hash_: str) -> Forgetting | None:
    return next(iter(_read(connection, "WHERE suppression_hash = %s", (hash_,))), None)


def _read(connection: psycopg.Connection, which: LiteralString, parameters: tuple[Any, ...]) -> list[Forgetting]:
    columns = sql.SQL(", ").join(map(sql.Identifier, FORGETTINGS.column_names))
    query = sql.SQL("SELECT {} FROM bandicoot.forgettings ").format(columns) + sql.SQL(which)
    with connection.cursor(row_factory=class_row(Forgetting)) as cursor:
        return cursor.execute(query, parameters).fetchall()
