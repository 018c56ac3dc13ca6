"""The published list of a day, page by page, for who reads it over a slow line. Whole lists are read by call_lists."""

from datetime import date
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from bandicoot_core.contracts import PUBLISHED_CALL_LIST
from bandicoot_core.stores.postgres.connections import reading
from bandicoot_core.stores.published.call_lists import Publication, last_publication

_PAGE = sql.SQL(
    "SELECT {} FROM bandicoot.call_list WHERE call_date = %s AND rank > %s AND (%s::text IS NULL OR district = %s) "
    "ORDER BY rank LIMIT %s"
).format(sql.SQL(", ").join(map(sql.Identifier, PUBLISHED_CALL_LIST.column_names)))


def read_page(
    connection: psycopg.Connection, call_date: date, *, after_rank: int, limit: int, district: str | None
) -> tuple[Publication, list[dict[str, Any]]] | None:
    """The publication of a day and the first `limit` rows after a rank, of one moment; None when there is no list.

    Raises BusyError and UnreachableError.
    """
    with reading(connection, "reading a page of a list", is_snapshot=True):
        publication = last_publication(connection, call_date)
        if publication is None:
            return None
        with connection.cursor(row_factory=dict_row) as cursor:
            rows = cursor.execute(_PAGE, (call_date, after_rank, district, district, limit)).fetchall()
    return publication, rows
