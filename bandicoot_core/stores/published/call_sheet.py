"""A published list as those who call it see it: page by page, with what came of each call, and counts by district.

Every outcome that names the list's day counts, whoever recorded it; of several the last attempt says how she stands.
Recording outcomes belongs to recorded_outcomes; what the page looks like, to the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, Literal

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from bandicoot_core.stores.postgres.connections import reading
from bandicoot_core.stores.published.call_lists import last_publication

Chosen = Literal["all", "open", "again"]
"""Everybody on the list, those without an outcome, or those whose last call was not answered or met a busy line."""

NO_DISTRICT: Final = ""
"""Chooses the rows that name no district."""

_MARKED = """
    WITH marked AS MATERIALIZED (
        SELECT caregiver_id, count(*) AS n_attempts,
            (array_agg(outcome ORDER BY attempted_at DESC, call_id DESC))[1] AS outcome,
            (array_agg(recorded_by ORDER BY attempted_at DESC, call_id DESC))[1] AS recorded_by,
            max(attempted_at) AS attempted_at
        FROM bandicoot.call_outcomes WHERE call_date = %(call_date)s GROUP BY caregiver_id
    )
"""

_CHOICES: Mapping[Chosen, str] = {
    "all": "true",
    "open": "marked.outcome IS NULL",
    "again": "coalesce(marked.outcome IN ('no_answer', 'busy'), false)",
}

_DISTRICTS = """
    SELECT coalesce(listed.district, '') AS district, count(*) AS n_listed,
        count(*) FILTER (WHERE {open}) AS n_open, count(*) FILTER (WHERE {again}) AS n_again
    FROM bandicoot.call_list AS listed LEFT JOIN marked USING (caregiver_id)
    WHERE listed.call_date = %(call_date)s GROUP BY 1
    ORDER BY coalesce(listed.district, '') COLLATE "C"
"""

_ROWS = """
    SELECT listed.rank, listed.caregiver_id, listed.district, listed.state, listed.reason, listed.last_call_date,
        coalesce(marked.n_attempts, 0) AS n_attempts, marked.outcome, marked.attempted_at, marked.recorded_by
    FROM bandicoot.call_list AS listed LEFT JOIN marked USING (caregiver_id)
    WHERE listed.call_date = %(call_date)s
        AND (%(district)s::text IS NULL OR coalesce(listed.district, '') = %(district)s) AND {chosen}
    ORDER BY listed.rank LIMIT %(limit)s OFFSET %(offset)s
"""

_LISTED = """
    SELECT listed.rank, publication.published_at, (
            SELECT count(*) FROM bandicoot.call_outcomes AS told
            WHERE told.call_date = listed.call_date AND md5(told.caregiver_id) = md5(listed.caregiver_id)
                AND told.caregiver_id = listed.caregiver_id
        ) AS n_attempts
    FROM bandicoot.call_list AS listed JOIN bandicoot.list_publications AS publication USING (call_date)
    WHERE listed.call_date = %(call_date)s AND md5(listed.caregiver_id) = md5(%(caregiver_id)s)
        AND listed.caregiver_id = %(caregiver_id)s
"""


@dataclass(frozen=True)
class DistrictCount:
    """How far one district of a list is called; NO_DISTRICT for rows that name none."""

    district: str
    n_listed: int
    n_open: int
    """Caregivers without an outcome."""
    n_again: int
    """Caregivers whose last call was not answered or met a busy line."""

    @property
    def n_called(self) -> int:
        """Caregivers with an outcome."""
        return self.n_listed - self.n_open

    def n_of(self, chosen: Chosen) -> int:
        """Rows of a choice."""
        return {"all": self.n_listed, "open": self.n_open, "again": self.n_again}[chosen]


@dataclass(frozen=True)
class SheetRow:
    """One caregiver to call, and her last outcome if there is one; `attempted_at` is an aware instant."""

    rank: int
    caregiver_id: str
    district: str | None
    state: str
    reason: str
    last_call_date: date | None
    """Day of her last call as the list knew it."""
    n_attempts: int = 0
    outcome: str | None = None
    attempted_at: datetime | None = None
    recorded_by: str | None = None


@dataclass(frozen=True)
class Sheet:
    """A page of a list, of one moment."""

    call_date: date
    run_id: str
    """The run that made the list."""
    districts: list[DistrictCount]
    """In the order of their letters' code points."""
    page: int
    """Of the pages of the choice, from 1."""
    n_pages: int
    rows: list[SheetRow]


@dataclass(frozen=True)
class ListedNow:
    """Where a caregiver stands on a list."""

    rank: int
    published_at: datetime
    n_attempts: int
    """Calls to her from this list that are recorded."""


def read_sheet(
    connection: psycopg.Connection, *, district: str | None, chosen: Chosen, page: int, page_size: int
) -> Sheet | None:
    """A page of the newest list, of one district or of all; the last one for a page beyond it.

    None before the first publication. Raises BusyError and UnreachableError.
    """
    with reading(connection, "reading the call sheet", is_snapshot=True):
        publication = last_publication(connection)
        if publication is None:
            return None
        values: dict[str, Any] = {"call_date": publication.call_date, "district": district}
        counting = sql.SQL(_MARKED + _DISTRICTS).format(**{name: sql.SQL(rule) for name, rule in _CHOICES.items()})
        with connection.cursor(row_factory=class_row(DistrictCount)) as cursor:
            districts = cursor.execute(counting, values).fetchall()
        n_rows = sum(each.n_of(chosen) for each in districts if district in (None, each.district))
        page, n_pages, offset = page_of(n_rows, page, page_size)
        paging = sql.SQL(_MARKED + _ROWS).format(chosen=sql.SQL(_CHOICES[chosen]))
        with connection.cursor(row_factory=class_row(SheetRow)) as rows:
            found = rows.execute(paging, {**values, "limit": page_size, "offset": offset}).fetchall()
    return Sheet(publication.call_date, publication.run_id, districts, page, n_pages, found)


def page_of(n_rows: int, page: int, page_size: int) -> tuple[int, int, int]:
    """The page that is there for one asked for, how many there are, and the rows before it."""
    n_pages = max(1, -(-n_rows // page_size))
    page = min(page, n_pages)
    return page, n_pages, (page - 1) * page_size


def find_listed(connection: psycopg.Connection, call_date: date, caregiver_id: str) -> ListedNow | None:
    """Where she stands on the list of a day; None when she is not on it. Raises BusyError and UnreachableError."""
    with (
        reading(connection, "looking for a caregiver on a list"),
        connection.cursor(row_factory=class_row(ListedNow)) as cursor,
    ):
        return cursor.execute(_LISTED, {"call_date": call_date, "caregiver_id": caregiver_id}).fetchone()
