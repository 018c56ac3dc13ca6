"""The programme's tables as this project reads them: the columns that may leave the source, and how days are selected.

A column that is not listed here is never selected. The queries are built here and run in source; whether the tables
look as expected is judged in source_schema. What becomes of the rows belongs to the engagement package.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from psycopg import sql

from bandicoot_core.calendar import end_of_day, start_of_day

Family = Literal["text", "integer", "boolean", "date", "instant"]

_READ_AS: dict[Family, sql.SQL] = {
    "text": sql.SQL("{column}::text AS {column}"),
    "integer": sql.SQL("{column}::bigint AS {column}"),
    "boolean": sql.SQL("{column}"),
    # Infinity has no counterpart in Arrow and would arrive as some far-off year: it reads as missing.
    "date": sql.SQL("CASE WHEN isfinite({column}) THEN {column} END AS {column}"),
    "instant": sql.SQL("CASE WHEN isfinite({column}) THEN {column} END AS {column}"),
}


@dataclass(frozen=True)
class SourceColumn:
    """A column that may be read, and the family of types it must be of."""

    name: str
    family: Family


@dataclass(frozen=True)
class SourceTable:
    """A table of the programme: its columns, what names a row in messages (never a caregiver), and its time.

    A row belongs to the days on which any column of `happens` lies. Of a snapshot table every row belongs to a day
    whose `happens` column lies before the day's end, or is missing.
    """

    name: str
    columns: tuple[SourceColumn, ...]
    row_name: tuple[str, ...]
    happens: tuple[str, ...]
    is_snapshot: bool = False

    def column(self, name: str) -> SourceColumn:
        """The column of that name; KeyError when it may not be read."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name}.{name} is not among the columns that are read")


CAREGIVERS_TABLE = SourceTable(
    "caregivers",
    (
        SourceColumn("caregiver_id", "text"),
        SourceColumn("district", "text"),
        SourceColumn("enrolled_at", "instant"),
        SourceColumn("age", "integer"),
        SourceColumn("parity", "integer"),
        SourceColumn("phone_reliable", "boolean"),
        SourceColumn("enrollment_source", "text"),
        SourceColumn("status", "text"),
    ),
    row_name=(),
    happens=("enrolled_at",),
    is_snapshot=True,
)

SMS_LOGS_TABLE = SourceTable(
    "sms_logs",
    (
        SourceColumn("message_id", "text"),
        SourceColumn("caregiver_id", "text"),
        SourceColumn("sent_at", "instant"),
        SourceColumn("delivered_at", "instant"),
        SourceColumn("opened_at", "instant"),
        SourceColumn("clicked_at", "instant"),
        SourceColumn("status", "text"),
    ),
    row_name=("message_id",),
    happens=("sent_at", "delivered_at", "opened_at", "clicked_at"),
)

VACCINATIONS_TABLE = SourceTable(
    "vaccinations",
    (
        SourceColumn("caregiver_id", "text"),
        SourceColumn("vaccine_name", "text"),
        SourceColumn("scheduled_date", "date"),
        SourceColumn("actual_date", "date"),
    ),
    row_name=("vaccine_name",),
    happens=("actual_date",),
)

SOURCE_TABLES = {table.name: table for table in (CAREGIVERS_TABLE, SMS_LOGS_TABLE, VACCINATIONS_TABLE)}


def read_query(table: SourceTable, schema: str, first_day: date, last_day: date) -> sql.Composed:
    """The query for a table's rows of the Asia/Kolkata days first_day to last_day, both included.

    Conditions are ranges on bare columns, so that an index on each column of `happens` serves them.
    """
    columns = [_READ_AS[column.family].format(column=sql.Identifier(column.name)) for column in table.columns]
    conditions = [_within(table, name, first_day, last_day) for name in table.happens]
    return sql.SQL("SELECT {columns} FROM {table} WHERE {conditions}").format(
        columns=sql.SQL(", ").join(columns),
        table=sql.Identifier(schema, table.name),
        conditions=sql.SQL(" OR ").join(conditions),
    )


def named_rows_query(table: SourceTable, schema: str, row_name: Sequence[str], column: str, limit: int) -> sql.Composed:
    """The query for the first values of a column as text, whatever its type, with what names their rows."""
    named = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in (*row_name, column))
    return sql.SQL("SELECT {named} FROM {table} WHERE {column} IS NOT NULL LIMIT {limit}").format(
        named=named,
        table=sql.Identifier(schema, table.name),
        column=sql.Identifier(column),
        limit=sql.Literal(limit),
    )


def _within(table: SourceTable, name: str, first_day: date, last_day: date) -> sql.Composed:
    is_date = table.column(name).family == "date"
    parts = {
        "column": sql.Identifier(name),
        "first": sql.Literal(first_day if is_date else start_of_day(first_day)),
        "last": sql.Literal(last_day if is_date else end_of_day(last_day)),
    }
    if table.is_snapshot:
        return sql.SQL("{column} < {last} OR {column} IS NULL").format(**parts)
    if is_date:
        return sql.SQL("{column} BETWEEN {first} AND {last}").format(**parts)
    return sql.SQL("({column} >= {first} AND {column} < {last})").format(**parts)
