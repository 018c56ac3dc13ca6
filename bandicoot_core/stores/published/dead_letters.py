"""Dead letters in schema `bandicoot`: kept once each, taken out again when their caregiver is known, and counted.

What makes a message a dead letter is decided in engagement.event_decoding; what becomes of an event, in pipeline.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

import psycopg
import pyarrow as pa
from psycopg import sql

from bandicoot_core.stores.postgres.arrow_copy import copy_in, copy_out
from bandicoot_core.stores.postgres.connections import Lock, lock, reading, repeated
from bandicoot_core.stores.published.contract_checks import require_instant
from bandicoot_core.stores.published.event_tables import DEAD_LETTERS
from bandicoot_core.stores.published.suppression import delete_suppressed

_FIELDS = tuple(
    name for name in DEAD_LETTERS.column_names if name not in ("letter_id", "source", "received_at", "n_received")
)

_TABLE = sql.Identifier("bandicoot", "dead_letters")

_CREATE_INCOMING = "CREATE TEMPORARY TABLE incoming_letters ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA"

_UPSERT = """
    INSERT INTO bandicoot.dead_letters AS stored (source, {fields}, received_at)
    SELECT DISTINCT ON (position) %s::text, {fields}, %s::timestamptz FROM incoming_letters ORDER BY position
    ON CONFLICT (source, position) DO UPDATE SET n_received = stored.n_received + 1
"""

WAITING_SCHEMA = pa.schema(
    [
        pa.field("letter_id", pa.int64(), nullable=False),
        pa.field("caregiver_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("occurred_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("message_id", pa.string()),
    ]
)

_NOW_KNOWN = """
    SELECT letter.letter_id, letter.caregiver_id, letter.event_type, letter.occurred_at, letter.message_id
    FROM bandicoot.dead_letters AS letter JOIN bandicoot.caregiver_keys AS known USING (caregiver_id)
    WHERE letter.letter_id > %s ORDER BY letter.letter_id LIMIT %s
"""

_COUNT = "SELECT kind, count(*) FROM bandicoot.dead_letters WHERE received_at >= %s GROUP BY kind"

_NEWEST = "SELECT {} FROM bandicoot.dead_letters ORDER BY letter_id DESC LIMIT %s"


class Letter(Protocol):
    """What is kept of a message that is no event."""

    @property
    def position(self) -> str: ...  # noqa: D102
    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102
    @property
    def column_name(self) -> str | None: ...  # noqa: D102
    @property
    def found(self) -> str | None: ...  # noqa: D102
    @property
    def event_type(self) -> str | None: ...  # noqa: D102
    @property
    def caregiver_id(self) -> str | None: ...  # noqa: D102
    @property
    def occurred_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def message_id(self) -> str | None: ...  # noqa: D102


def keep_letters(
    connection: psycopg.Connection, source: str, letters: Sequence[Letter], *, received_at: datetime
) -> None:
    """Keep letters of a source, in one transaction; one that is there already is counted once more.

    Who was forgotten meanwhile is not kept. `received_at` is an aware instant.
    """
    if not letters:
        return
    moment = require_instant(received_at, "received_at")
    rows = pa.table(
        {name: [getattr(letter, name) for letter in letters] for name in _FIELDS},
        schema=pa.schema([DEAD_LETTERS.arrow_schema().field(name) for name in _FIELDS]),
    )
    fields = sql.SQL(", ").join(map(sql.Identifier, _FIELDS))

    def keep() -> None:
        lock(connection, Lock.KEYS)  # nobody is being forgotten meanwhile
        connection.execute(sql.SQL(_CREATE_INCOMING).format(fields, _TABLE))
        copy_in(connection, sql.Identifier("incoming_letters"), rows)
        connection.execute(sql.SQL(_UPSERT).format(fields=fields), (source, moment))
        delete_suppressed(connection, _TABLE, rows=sql.SQL("stored.caregiver_id IS NOT NULL"))

    repeated(connection, "keeping dead letters", keep)


def known_by_now(connection: psycopg.Connection, *, after: int, limit: int) -> pa.Table:
    """The first letters with a higher number than `after` whose caregiver has a key by now [WAITING_SCHEMA]."""
    with reading(connection, "looking for waiting events"):
        return copy_out(connection, sql.SQL(_NOW_KNOWN), (after, limit), WAITING_SCHEMA)


def delete_letters(connection: psycopg.Connection, letter_ids: Sequence[int]) -> int:
    """Delete letters by their numbers; returns how many there were."""
    statement = "DELETE FROM bandicoot.dead_letters WHERE letter_id = ANY (%s)"
    return repeated(
        connection, "deleting dead letters", lambda: connection.execute(statement, (list(letter_ids),)).rowcount
    )


def delete_letters_of(connection: psycopg.Connection, source: str) -> int:
    """Delete all letters of a source that is about to be read anew; returns how many there were."""
    statement = "DELETE FROM bandicoot.dead_letters WHERE source = %s"
    return repeated(connection, "deleting dead letters", lambda: connection.execute(statement, (source,)).rowcount)


def count_letters(connection: psycopg.Connection, *, since: datetime) -> Mapping[str, int]:
    """How many letters there are that were first received since an aware instant, by kind; kinds without any lack."""
    with reading(connection, "counting dead letters"):
        rows = connection.execute(_COUNT, (require_instant(since, "since"),)).fetchall()
    return dict(rows)


def newest_letters(connection: psycopg.Connection, *, limit: int) -> pa.Table:
    """The newest letters, newest first [DEAD_LETTERS]."""
    query = sql.SQL(_NEWEST).format(sql.SQL(", ").join(map(sql.Identifier, DEAD_LETTERS.column_names)))
    with reading(connection, "reading dead letters"):
        return copy_out(connection, query, (limit,), DEAD_LETTERS.arrow_schema())
