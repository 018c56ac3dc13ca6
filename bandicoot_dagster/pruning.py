"""Pruning Dagster's storage: what runs logged and daemons ticked goes after a while, what Dagster decides by stays.

The rule is a list of what may go (`_LOGS`), so that an event of a kind unknown here stays. Stays: every
materialization and observation, every check's result, how each run began and ended, why a step failed, the last
plan of each partition, and the runs themselves. Materializations stay even when a newer one replaced them: whether a
partition is stale follows from the data version of its inputs at the moment it was made.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, LiteralString
from urllib.parse import quote, urlencode

import dagster as dg
import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from bandicoot_core.stores.postgres.connections import connect, whole_transaction

BATCH_ROWS = 5_000
"""Rows looked at, and at most removed, by one transaction."""

_LOGS = (
    "ENGINE_EVENT",
    "STEP_START",
    "STEP_INPUT",
    "STEP_OUTPUT",
    "STEP_SUCCESS",
    "STEP_SKIPPED",
    "STEP_UP_FOR_RETRY",
    "STEP_RESTARTED",
    "STEP_WORKER_STARTING",
    "STEP_WORKER_STARTED",
    "RESOURCE_INIT_STARTED",
    "RESOURCE_INIT_SUCCESS",
    "RESOURCE_INIT_FAILURE",
    "HANDLED_OUTPUT",
    "LOADED_INPUT",
    "OBJECT_STORE_OPERATION",
    "LOGS_CAPTURED",
    "ASSET_CHECK_EVALUATION_PLANNED",  # asset_check_executions has what was planned
)
_PLAN = "ASSET_MATERIALIZATION_PLANNED"
_ENDED = ("SUCCESS", "FAILURE", "CANCELED")

# Lines that a step logs have no type. Runs that have not ended keep all. Dagster's instants have no time zone: UTC, or
# that of the server, and against days the hours between them do not matter.
_REMOVABLE_EVENTS: LiteralString = """
    event_logs AS event
    WHERE event.id BETWEEN %(first)s AND %(last)s AND event.timestamp < %(before)s AT TIME ZONE 'UTC'
    AND EXISTS (SELECT FROM runs WHERE runs.run_id = event.run_id AND runs.status = ANY(%(ended)s))
    AND (
        event.dagster_event_type IS NULL OR event.dagster_event_type = ANY(%(logs)s)
        OR event.dagster_event_type = %(plan)s AND EXISTS (
            SELECT FROM event_logs AS later
            WHERE later.asset_key = event.asset_key AND later.dagster_event_type = event.dagster_event_type
            AND later.partition = event.partition AND later.id > event.id
        )
    )
"""
# The last tick of each schedule and sensor says where it stands.
_REMOVABLE_TICKS: LiteralString = """
    job_ticks AS tick
    WHERE tick.id BETWEEN %(first)s AND %(last)s AND tick.timestamp < %(before)s AT TIME ZONE 'UTC'
    AND EXISTS (SELECT FROM job_ticks AS later WHERE later.selector_id = tick.selector_id AND later.id > tick.id)
"""
_LOCK = 1_650_552_440
"""Held by each batch, so that two prunings do not wait for each other's rows in opposite orders."""


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be: events of runs with their size, runs whose printed output went, and ticks."""

    n_events: int = 0
    n_event_bytes: int = 0
    n_outputs: int = 0
    n_ticks: int = 0

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(
            self.n_events + other.n_events,
            self.n_event_bytes + other.n_event_bytes,
            self.n_outputs + other.n_outputs,
            self.n_ticks + other.n_ticks,
        )

    def sentence(self, *, is_dry_run: bool) -> str:
        """For a person at a terminal and a run's metadata."""
        verb = "would be removed" if is_dry_run else "removed"
        return (
            f"{self.n_events:,} events ({self.n_event_bytes / 1e6:,.1f} MB), printed output of {self.n_outputs:,} runs "
            f"and {self.n_ticks:,} ticks {verb}"
        )


def prune(
    storage_url: str,
    *,
    before: datetime,
    delete_output: Callable[[str], None],
    is_dry_run: bool = False,
    batch_rows: int = BATCH_ROWS,
) -> Pruned:
    """Remove what ended runs logged and printed and what daemons ticked before an instant.

    `storage_url` is the SQLAlchemy URL of Dagster's storage; `delete_output` removes what the steps of a run printed.
    Each batch is a transaction of its own over `batch_rows` rows by their ids, so daemon and runs go on beside it and a
    pruning that was broken off is continued by the next. Raises UnreachableError when the storage does not answer.
    """
    with closing(connect(libpq_url(storage_url))) as connection:
        pruned = Pruned()
        for span in _spans(connection, "event_logs", before, batch_rows):
            pruned += _prune_events(connection, span, delete_output, is_dry_run=is_dry_run)
        for span in _spans(connection, "job_ticks", before, batch_rows):
            pruned += Pruned(n_ticks=_remove(connection, _REMOVABLE_TICKS, "tick", span, is_dry_run=is_dry_run)[0])
    return pruned


def prune_instance(instance: dg.DagsterInstance, storage_url: str, *, before: datetime, is_dry_run: bool) -> Pruned:
    """Prune the storage of an instance, and what the steps of its runs printed from wherever that is kept."""
    logs = instance.compute_log_manager
    return prune(
        storage_url,
        before=before,
        delete_output=lambda run_id: logs.delete_logs(prefix=[run_id]),
        is_dry_run=is_dry_run,
    )


def history_start(now: datetime, n_days: int) -> datetime:
    """The instant before which nothing is kept."""
    return now - timedelta(days=n_days)


def libpq_url(storage_url: str) -> str:
    """The URL that libpq reads, of an SQLAlchemy URL of PostgreSQL.

    SQLAlchemy leaves a space in a password as it is, and writes one in a parameter as a plus; libpq wants `%20`.
    """
    url = make_url(storage_url)
    password = url.password
    who = quote(url.username or "", safe="") + (f":{quote(password, safe='')}" if password is not None else "")
    host = f"[{url.host}]" if url.host and ":" in url.host else url.host or ""
    place = f"{who}@{host}" if who else host
    port = f":{url.port}" if url.port else ""
    parameters = urlencode(url.query, doseq=True, quote_via=quote)
    database = quote(url.database or "", safe="")
    return f"postgresql://{place}{port}/{database}{f'?{parameters}' if parameters else ''}"


def _prune_events(
    connection: psycopg.Connection, span: dict[str, Any], delete_output: Callable[[str], None], *, is_dry_run: bool
) -> Pruned:
    """Printed output goes first: a run is known by its events, and one broken off in between is found again."""
    with_output = sql.SQL("SELECT DISTINCT event.run_id FROM") + sql.SQL(_REMOVABLE_EVENTS)
    with_output += sql.SQL("AND event.dagster_event_type = 'LOGS_CAPTURED'")
    run_ids = [row[0] for row in connection.execute(with_output, span)]
    if not is_dry_run:
        for run_id in run_ids:
            delete_output(run_id)
    n_events, n_bytes = _remove(connection, _REMOVABLE_EVENTS, "event", span, is_dry_run=is_dry_run)
    return Pruned(n_events=n_events, n_event_bytes=n_bytes, n_outputs=len(run_ids))


def _remove(
    connection: psycopg.Connection,
    removable: LiteralString,
    name: LiteralString,
    span: dict[str, Any],
    *,
    is_dry_run: bool,
) -> tuple[int, int]:
    """Delete the removable rows of a span, or only count them; rows and bytes as they are stored."""
    size = sql.SQL("pg_column_size({}.*)").format(sql.Identifier(name))
    if is_dry_run:
        rows = sql.SQL("SELECT {} AS n_bytes FROM").format(size) + sql.SQL(removable)
    else:
        rows = sql.SQL("DELETE FROM") + sql.SQL(removable) + sql.SQL("RETURNING {} AS n_bytes").format(size)
    counted = sql.SQL("WITH removed AS ({}) SELECT count(*), coalesce(sum(n_bytes), 0)::bigint FROM removed").format(
        rows
    )
    with whole_transaction(connection, "pruning Dagster's storage"):
        connection.execute("SET LOCAL lock_timeout = '10s'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        found = connection.execute(counted, span).fetchone()
    return found or (0, 0)


def _spans(
    connection: psycopg.Connection, table: LiteralString, before: datetime, batch_rows: int
) -> Iterator[dict[str, Any]]:
    """Parameters of one batch after the other, over the ids of the rows that are old enough."""
    bounds = sql.SQL("SELECT min(id), max(id) FROM {} WHERE timestamp < %s AT TIME ZONE 'UTC'").format(
        sql.Identifier(table)
    )
    found = connection.execute(bounds, (before,)).fetchone()
    if found is None or found[0] is None:
        return
    fixed = {"before": before, "logs": list(_LOGS), "plan": _PLAN, "ended": list(_ENDED)}
    for first in range(found[0], found[1] + 1, batch_rows):
        yield fixed | {"first": first, "last": min(first + batch_rows - 1, found[1])}
