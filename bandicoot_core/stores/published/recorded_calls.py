"""Reading bandicoot.call_outcomes by the day of the attempt, for the lake, and telling which days have changed.

Writing outcomes belongs to published.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

import psycopg
import pyarrow as pa
from psycopg import sql

from bandicoot_core.calendar import end_of_day, start_of_day
from bandicoot_core.contracts import CALL_OUTCOMES_TABLE
from bandicoot_core.stores.postgres.arrow_copy import copy_out
from bandicoot_core.stores.postgres.connections import reading
from bandicoot_core.stores.source.schema import check_columns
from bandicoot_core.stores.source.tables import SourceColumn, SourceTable

_TABLE = SourceTable(
    "call_outcomes",
    (
        SourceColumn("call_id", "text"),
        SourceColumn("caregiver_id", "text"),
        SourceColumn("call_date", "date"),
        SourceColumn("attempted_at", "instant"),
        SourceColumn("outcome", "text"),
    ),
    row_name=("call_id",),
    happens=("attempted_at",),
)

_COLUMNS = [column.name for column in _TABLE.columns]
_SCHEMA = pa.schema([CALL_OUTCOMES_TABLE.arrow_schema().field(name) for name in _COLUMNS])
_QUERY = sql.SQL("SELECT {} FROM bandicoot.call_outcomes WHERE attempted_at >= %s AND attempted_at < %s").format(
    sql.SQL(", ").join(sql.Identifier(name) for name in _COLUMNS)
)

NO_CALLS = "none"
"""The fingerprint of a day without calls."""

# Sums do not depend on the order of rows; numbers are spelt in no session's own way. A caregiver who becomes known
# changes what is taken over of a day, and so its fingerprint.
_FINGERPRINTS = """
    SELECT (called.attempted_at AT TIME ZONE 'Asia/Kolkata')::date,
        concat_ws('-', count(*), count(known.caregiver_key), sum(hashtextextended(concat_ws(chr(31), called.call_id,
            called.caregiver_id, called.call_date - date '2000-01-01', extract(epoch FROM called.attempted_at),
            called.outcome), 0)))
    FROM bandicoot.call_outcomes AS called
    LEFT JOIN bandicoot.caregiver_keys AS known USING (caregiver_id)
    WHERE called.attempted_at >= %s AND called.attempted_at < %s
    GROUP BY 1
"""


def check_calls(connection: psycopg.Connection) -> None:
    """SchemaDriftError, column by column, unless bandicoot.call_outcomes can be read as expected."""
    check_columns(
        connection, "bandicoot", [_TABLE], remedy="undo what was changed by hand: the table belongs to the migrations"
    )


@contextmanager
def read_snapshot(connection: psycopg.Connection) -> Iterator[None]:
    """A REPEATABLE READ READ ONLY transaction: every read in the block sees the same moment."""
    with reading(connection, "reading recorded calls", is_bulk=True, is_snapshot=True):
        yield


def read_calls(connection: psycopg.Connection, first_day: date, last_day: date) -> pa.Table:
    """Calls attempted on the Asia/Kolkata days first_day to last_day: CALL_OUTCOMES_TABLE without recorded_by."""
    return copy_out(connection, _QUERY, (start_of_day(first_day), end_of_day(last_day)), _SCHEMA)


def has_calls(connection: psycopg.Connection) -> bool:
    """Whether any call is recorded."""
    with reading(connection, "looking for recorded calls"):
        row = connection.execute("SELECT EXISTS (SELECT FROM bandicoot.call_outcomes)").fetchone()
    return row is not None and bool(row[0])


def fingerprints_of_calls(connection: psycopg.Connection, first_day: date, last_day: date) -> dict[date, str]:
    """A fingerprint of the calls attempted on each Asia/Kolkata day from first_day to last_day; NO_CALLS is left out.

    It is another one when a call was added, removed or corrected, or when its caregiver has become known since.
    """
    rows = connection.execute(_FINGERPRINTS, (start_of_day(first_day), end_of_day(last_day))).fetchall()
    return dict(rows)
