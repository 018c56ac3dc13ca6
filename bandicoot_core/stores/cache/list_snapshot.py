"""The newest published list as Redis keeps it: what can still be answered while PostgreSQL is away.

It is written with the pointer to the newest publication, and again by whoever has read a newer list. Which list is the
newest is not decided here; a reader who cannot ask PostgreSQL must call it stale.
"""

from datetime import UTC, date, datetime
from typing import Any

import psycopg
import redis
from psycopg import sql
from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, ValidationError

from bandicoot_core.stores.cache.cache import Cache
from bandicoot_core.stores.cache.current_answers import Standing
from bandicoot_core.stores.cache.keys import LIST_KEY, LIST_NAME_KEY
from bandicoot_core.stores.postgres.connections import reading

MAX_ROWS = 10_000
"""Rows of a list that are kept: more than a request may ask for."""

_FROZEN = ConfigDict(frozen=True, extra="forbid")


class ListedCaregiver(BaseModel):
    """One row of a published list; days are IST days."""

    model_config = _FROZEN

    rank: int
    caregiver_id: str
    district: str | None
    state: str
    cluster_id: int
    whittle_index: float
    index_low: float
    index_high: float
    own_index: float | None
    p_top_k: float | None
    propensity: float
    reason: str
    days_since_last_open: int | None
    last_call_date: date | None
    ab_arm: str


class ListSnapshot(BaseModel):
    """A published list, at most its first MAX_ROWS rows, in calling order."""

    model_config = _FROZEN

    publication: str
    """The name that the publication carries (Standing.publication)."""
    call_date: date
    published_at: datetime
    model_version: str
    run_id: str
    n_rows: int
    """Rows of the whole list."""
    rows: tuple[ListedCaregiver, ...]


_ROWS = sql.SQL("SELECT {} FROM bandicoot.call_list WHERE call_date = %s ORDER BY rank LIMIT %s").format(
    sql.SQL(", ").join(map(sql.Identifier, ListedCaregiver.model_fields))
)
_PUBLICATION = "SELECT n_rows, run_id FROM bandicoot.list_publications WHERE call_date = %s"


def read_snapshot(connection: psycopg.Connection, current: Standing) -> ListSnapshot:
    """The newest list; within a transaction of its own unless one is open. Raises BusyError and UnreachableError."""
    with reading(connection, "reading the newest list"), connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_ROWS, (current.call_date, MAX_ROWS)).fetchall()
        told = cursor.execute(_PUBLICATION, (current.call_date,)).fetchone()
    return ListSnapshot(
        publication=current.publication,
        call_date=current.call_date,
        published_at=current.published_at.astimezone(UTC),
        model_version=current.model_version,
        run_id=told["run_id"] if told else "",
        n_rows=told["n_rows"] if told else len(rows),
        rows=tuple(ListedCaregiver(**row) for row in rows),
    )


def cached_snapshot(cache: Cache) -> ListSnapshot | None:
    """The list that Redis holds; None when it holds none that can be read, or gives no answer."""
    found = cache.read([LIST_KEY])
    if not found or found[0] is None:
        return None
    try:
        return ListSnapshot.model_validate_json(found[0])
    except ValidationError:
        cache.report_unreadable("a list")
        return None


def cached_name(cache: Cache) -> str | None:
    """The name under which the list that Redis holds was kept; None when it holds none, or one without a name."""

    def ask(client: redis.Redis) -> tuple[int, Any]:
        return client.exists(LIST_KEY), client.get(LIST_NAME_KEY)

    n_lists, name = cache.ask(ask) or (0, None)
    return name.decode(errors="replace") if n_lists and isinstance(name, bytes) else None


def keep_snapshot(cache: Cache, snapshot: ListSnapshot, *, name: str) -> bool:
    """Put a list into Redis for as long as indices are kept; False when Redis does not take it.

    The name, which says what the list was read from, comes after it: an older list is never taken for a newer one.
    """
    seconds = cache.options.index_seconds
    return cache.keep(LIST_KEY, snapshot.model_dump_json().encode(), seconds=seconds) and cache.keep(
        LIST_NAME_KEY, name.encode(), seconds=seconds
    )
