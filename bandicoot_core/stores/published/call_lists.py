"""The published schema as the pipeline uses it: migrating it, publishing a list in one transaction, reading it back,
and the outcomes that come back from the callers.

A list is published whole or not at all, and an empty list counts as published. Keys live in keys, models in models,
the table of current states in current_states; what goes on a list is decided in policy.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql
from psycopg.rows import class_row

from bandicoot_core.calendar import start_of_day
from bandicoot_core.contracts import CALL_OUTCOMES_TABLE, PUBLISHED_CALL_LIST, TableContract
from bandicoot_core.errors import InvalidInputError, MissingPartitionError
from bandicoot_core.stores.postgres.arrow_copy import array_literal, copy_in, copy_out
from bandicoot_core.stores.postgres.connections import ATTEMPTS, Limits, Lock, connect, lock, reading, repeated
from bandicoot_core.stores.published.contract_checks import require_contract, require_instant
from bandicoot_core.stores.published.current_states import refresh_states
from bandicoot_core.stores.published.districts import known_districts
from bandicoot_core.stores.published.migrations.state import read_state, require_migratable
from bandicoot_core.stores.published.suppression import delete_suppressed

CALL_LIST_CHANNEL = "bandicoot_call_list"
"""Channel on which each publication is announced; the payload is the call date, YYYY-MM-DD."""

_READING = "reading published lists"
_STAMPS = ("run_id", "published_at")
_IN_EVERY_NEW_LIST = ("own_index", "p_top_k")
"""Columns that only lists of older releases may lack."""

UNSTAMPED_CALL_LIST = TableContract(
    "published_call_list",
    "A call list by caregiver_id, before the publication adds its run and instant",
    tuple(
        replace(column, is_nullable=False) if column.name in _IN_EVERY_NEW_LIST else column
        for column in PUBLISHED_CALL_LIST.columns
        if column.name not in _STAMPS
    ),
    key=PUBLISHED_CALL_LIST.key,
    sort_by=PUBLISHED_CALL_LIST.sort_by,
)

_PENDING_KEYS = """
    SELECT DISTINCT known.caregiver_key
    FROM bandicoot.call_list AS listed
    JOIN bandicoot.caregiver_keys AS known USING (caregiver_id)
    WHERE listed.call_date BETWEEN %s AND %s
        AND NOT EXISTS (
            SELECT FROM bandicoot.call_outcomes AS called
            WHERE called.call_date = listed.call_date
                AND md5(called.caregiver_id) = md5(listed.caregiver_id)
                AND called.caregiver_id = listed.caregiver_id
                AND called.attempted_at < %s
        )
    ORDER BY known.caregiver_key
"""

_UPSERT_PUBLICATION = """
    INSERT INTO bandicoot.list_publications AS stored
        (call_date, n_rows, budget, model_version, run_id, published_at, states_as_of_date)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (call_date) DO UPDATE SET
        n_rows = excluded.n_rows, budget = excluded.budget, model_version = excluded.model_version,
        run_id = excluded.run_id, published_at = excluded.published_at,
        states_as_of_date = coalesce(excluded.states_as_of_date, stored.states_as_of_date)
"""

# In one statement without a temporary table: whoever records outcomes needs no right but to insert them.
_INSERT_OUTCOMES = """
    INSERT INTO bandicoot.call_outcomes (call_id, caregiver_id, call_date, attempted_at, outcome, recorded_by)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::date[], %s::timestamptz[], %s::text[], %s::text[])
    ON CONFLICT (call_id) DO NOTHING
"""
_OUTCOMES_AT_ONCE = 50_000


@dataclass(frozen=True)
class Publication:
    """One day's published list: how long it is, what made it, and when (UTC)."""

    call_date: date
    n_rows: int
    budget: int
    model_version: str
    run_id: str
    published_at: datetime


def migrate(url: str, *, limits: Limits | None = None) -> None:
    """Bring schema `bandicoot` to this release's revision; quick when it is there, safe from several processes.

    Raises UnreachableError when the server does not answer, InvalidInputError when the schema belongs to a newer
    release, and OutdatedSchemaError when it is at another revision and the user may not change that.
    """
    with connect(url, limits=limits) as connection:
        state = read_state(connection)
    if state.is_current:
        return
    require_migratable(state)
    # Alembic and SQLAlchemy take 0.2 s to import; only the run that upgrades pays for them.
    importlib.import_module("bandicoot_core.stores.published.migrations.upgrade").upgrade(url, limits=limits)


def publish_call_list(
    connection: psycopg.Connection,
    call_list: pa.Table,
    *,
    call_date: date,
    budget: int,
    model_version: str,
    run_id: str,
    published_at: datetime,
    states: pa.Table | pa.RecordBatchReader | Callable[[], pa.RecordBatchReader] | None = None,
) -> int:
    """Replace the list of a day in one transaction, announce it, and return its number of rows.

    `call_list` has the columns of UNSTAMPED_CALL_LIST; no rows make an empty list. `states` (INCOMING_STATES, at the
    end of the day before `call_date`; a stream of them, or what opens one) also brings bandicoot.caregiver_states up
    to date, unless a publication has brought it to a later day already. Two publications of a day wait for each other;
    the later one stays. One that met a deadlock is repeated, unless `states` is a stream, which can be read once.

    Raises InvalidInputError when rows break their contract, name another day or model, repeat a rank or a caregiver,
    or exceed the budget; BusyError when others stood in the way, UnreachableError when the server is lost. The
    previous list stays in place then.
    """
    rows = _stamped(call_list, call_date, model_version, run_id, require_instant(published_at, "published_at"))
    as_of_date = call_date - timedelta(days=1)

    def publish() -> int:
        lock(connection, Lock.CALL_LIST, call_date.toordinal())
        connection.execute("DELETE FROM bandicoot.call_list WHERE call_date = %s", (call_date,))
        n_rows = copy_in(connection, sql.Identifier("bandicoot", "call_list"), rows)
        # Somebody may have been forgotten after the list was made; its other ranks stay as they are.
        of_day = sql.SQL("stored.call_date = {}").format(call_date)
        n_rows -= delete_suppressed(connection, sql.Identifier("bandicoot", "call_list"), rows=of_day)
        # Opens that are noted from here on are noted after this publication, which need not know of them.
        lock(connection, Lock.STATES)
        given = states() if callable(states) else states
        is_refreshed = given is not None and refresh_states(connection, given, as_of_date=as_of_date)
        connection.execute(
            _UPSERT_PUBLICATION,
            (call_date, n_rows, budget, model_version, run_id, published_at, as_of_date if is_refreshed else None),
        )
        connection.execute("SELECT pg_notify(%s, %s)", (CALL_LIST_CHANNEL, call_date.isoformat()))
        return n_rows

    n_attempts = 1 if isinstance(states, pa.RecordBatchReader) else ATTEMPTS
    doing = f"publishing the call list of {call_date}"
    return repeated(connection, doing, publish, is_bulk=True, n_attempts=n_attempts)


def read_call_list(
    connection: psycopg.Connection, call_date: date | None = None, *, district: str | None = None
) -> pa.Table:
    """The published list of a day (the newest when None) in calling order, optionally of one district.

    Raises MissingPartitionError when no list is published for the day, and InvalidInputError when no caregiver is
    known in the district.
    """
    publication = last_publication(connection, call_date)
    if publication is None:
        newest = last_publication(connection)
        raise MissingPartitionError(
            f"no call list is published for {call_date or 'any day'} (newest: "
            f"{newest.call_date if newest else 'none'}); materialize published_call_list"
            f"{f' for {call_date}' if call_date else ''} first"
        )
    rows = copy_out(
        connection,
        sql.SQL(
            "SELECT {} FROM bandicoot.call_list "
            "WHERE call_date = %s AND (%s::text IS NULL OR district = %s) ORDER BY rank"
        ).format(sql.SQL(", ").join(map(sql.Identifier, PUBLISHED_CALL_LIST.column_names))),
        (publication.call_date, district, district),
        PUBLISHED_CALL_LIST.arrow_schema(),
    )
    if district is not None and not rows.num_rows and district not in (known := known_districts(connection)):
        raise InvalidInputError(
            f"district: no caregiver is known in {district!r}; choose one of {', '.join(known) or 'none yet'}"
        )
    return rows


def last_publication(connection: psycopg.Connection, call_date: date | None = None) -> Publication | None:
    """The publication of the newest call date, or of the one given, empty lists included; None when there is none."""
    with reading(connection, _READING), connection.cursor(row_factory=class_row(Publication)) as cursor:
        return cursor.execute(
            "SELECT call_date, n_rows, budget, model_version, run_id, published_at FROM bandicoot.list_publications "
            "WHERE %s::date IS NULL OR call_date = %s ORDER BY call_date DESC LIMIT 1",
            (call_date, call_date),
        ).fetchone()


def count_published_rows(connection: psycopg.Connection, call_date: date) -> int:
    """How many rows the list of a day has; its publication says how many it should have."""
    with reading(connection, _READING):
        row = connection.execute(
            "SELECT count(*) FROM bandicoot.call_list WHERE call_date = %s", (call_date,)
        ).fetchone()
    return int(row[0]) if row else 0


def pending_keys(connection: psycopg.Connection, *, call_date: date, pending_days: int) -> pa.Table:
    """Caregivers on a list of the `pending_days` days before `call_date` who still waited for a call when it began.

    Returns one ascending column caregiver_key (int64). Only calls attempted before 00:00 IST of `call_date` count, so
    that a rerun of a past day sees what its first run saw.
    """
    return copy_out(
        connection,
        sql.SQL(_PENDING_KEYS),
        (call_date - timedelta(days=pending_days), call_date - timedelta(days=1), start_of_day(call_date)),
        pa.schema([pa.field("caregiver_key", pa.int64(), nullable=False)]),
    )


def record_outcomes(connection: psycopg.Connection, outcomes: pa.Table) -> int:
    """Add call outcomes (CALL_OUTCOMES_TABLE) and return how many were new; a call_id known already is left as it is.

    All are added or none; bandicoot_caller has all the rights it takes. Raises InvalidInputError when a value breaks
    the contract, or when the rows hold one call_id with two contents; BusyError when others stood in the way.
    """
    rows = require_contract(outcomes, CALL_OUTCOMES_TABLE)
    rows = rows.group_by(rows.column_names).aggregate([]).sort_by("call_id")
    _refuse_contradictions(rows)

    def record() -> int:
        n_new = 0
        for batch in rows.combine_chunks().to_batches(max_chunksize=_OUTCOMES_AT_ONCE):
            columns = zip(batch.schema.names, batch.columns, strict=True)
            literals = [array_literal(name, column) for name, column in columns]
            n_new += connection.execute(_INSERT_OUTCOMES, literals).rowcount
        return n_new

    return repeated(connection, "recording call outcomes", record)


def _stamped(call_list: pa.Table, call_date: date, model_version: str, run_id: str, published_at: datetime) -> pa.Table:
    rows = require_contract(call_list, UNSTAMPED_CALL_LIST)
    for name, expected in (("call_date", call_date), ("model_version", model_version)):
        others = [value for value in rows[name].unique().to_pylist() if value != expected]
        if others:
            raise InvalidInputError(
                f"published_call_list.{name}: found {others[0]} in the list of {call_date} by model {model_version}, "
                f"expected {expected} in every row; materialize call_list for {call_date} again"
            )
    for name, value in zip(_STAMPS, (run_id, published_at), strict=True):
        column = PUBLISHED_CALL_LIST.column(name)
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, column.arrow_type), rows.num_rows))
    return rows


def _refuse_contradictions(outcomes: pa.Table) -> None:
    per_call = outcomes.group_by("call_id").aggregate([([], "count_all")])
    twice = per_call.filter(pc.greater(per_call["count_all"], 1))["call_id"]
    if len(twice):
        raise InvalidInputError(
            f"call_outcomes.call_id: {len(twice)} ids come with two different contents (first: call_id="
            f"{pc.min(twice).as_py()}); give each call an id of its own"
        )
