"""Whether the programme's tables still have the columns and types they are read with; what differs, named by column.

Looks at the catalogue; rows are looked at only to show a value when a column has turned into text. Columns that are
not read may come and go.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import psycopg

from bandicoot_core.errors import SchemaDriftError
from bandicoot_core.stores.source.tables import SOURCE_TABLES, Family, SourceColumn, SourceTable, named_rows_query

_SAMPLE_ROWS = 1000

_EXPECTED: dict[Family, str] = {
    "text": "text",
    "integer": "smallint, integer or bigint",
    "boolean": "boolean",
    "date": "date",
    "instant": "timestamptz",
}
_TYPE_NAMES: dict[Family, frozenset[str]] = {
    "text": frozenset({"text", "character varying", "character", "citext", "uuid"}),
    "integer": frozenset({"smallint", "integer", "bigint"}),
    "boolean": frozenset({"boolean"}),
    "date": frozenset({"date"}),
    "instant": frozenset({"timestamp with time zone"}),
}
_NAIVE = "timestamp without time zone"

# A domain is judged by the type it is built on; an enumeration reads as text.
_COLUMNS = """
    SELECT relation.relname, attribute.attname,
        format_type(coalesce(nullif(found.typbasetype, 0), found.oid), NULL), found.typtype = 'e',
        has_schema_privilege(space.oid, 'USAGE')
            AND has_column_privilege(relation.oid, attribute.attnum, 'SELECT')
    FROM pg_namespace AS space
    JOIN pg_class AS relation ON relation.relnamespace = space.oid AND relation.relkind IN ('r', 'p', 'v', 'm', 'f')
    JOIN pg_attribute AS attribute
        ON attribute.attrelid = relation.oid AND attribute.attnum > 0 AND NOT attribute.attisdropped
    JOIN pg_type AS found ON found.oid = attribute.atttypid
    WHERE space.nspname = %s AND relation.relname = ANY (%s)
"""


@dataclass(frozen=True)
class _FoundColumn:
    type_name: str
    is_enumeration: bool
    is_readable: bool


def check_source_schema(connection: psycopg.Connection, schema: str, tables: Iterable[str]) -> None:
    """Nothing when these SOURCE_TABLES can be read as expected; else SchemaDriftError, see check_columns."""
    check_columns(
        connection,
        schema,
        [SOURCE_TABLES[name] for name in tables],
        remedy="mend the source, or point BANDICOOT_SOURCE_SCHEMA to a schema of views with the expected columns",
    )


def check_columns(connection: psycopg.Connection, schema: str, wanted: Sequence[SourceTable], *, remedy: str) -> None:
    """Nothing when the tables can be read as expected; else SchemaDriftError with one finding for each column.

    Found are: a table or column that is missing, one of another family of types,
    a timestamp without time zone, a text where something else was expected (with the first value that cannot be read
    as such), and a column that this user may not read. Further columns are fine.
    """
    found = _found_columns(connection, schema, [table.name for table in wanted])
    findings: list[str] = []
    for table in wanted:
        columns = found.get(table.name)
        if columns is None:
            findings.append(f"{table.name} is missing, expected a table or view in schema {schema}")
            continue
        for column in table.columns:
            finding = _finding(connection, schema, table, column, columns)
            if finding is not None:
                findings.append(f"{table.name}.{column.name} {finding}")
    if findings:
        raise SchemaDriftError(
            f"the source schema {schema} is not as expected: {'; '.join(findings)}. Nothing was read; {remedy}"
        )


def _found_columns(
    connection: psycopg.Connection, schema: str, tables: list[str]
) -> dict[str, dict[str, _FoundColumn]]:
    found: dict[str, dict[str, _FoundColumn]] = {}
    for table, column, *facts in connection.execute(_COLUMNS, (schema, tables)).fetchall():
        found.setdefault(table, {})[column] = _FoundColumn(*facts)
    return found


def _finding(
    connection: psycopg.Connection,
    schema: str,
    table: SourceTable,
    column: SourceColumn,
    columns: Mapping[str, _FoundColumn],
) -> str | None:
    """What is wrong with a column, or None."""
    expected = _EXPECTED[column.family]
    found = columns.get(column.name)
    if found is None:
        return f"is missing, expected {expected}"
    if not found.is_readable:
        return f"may not be read by this user; GRANT SELECT ({column.name}) ON {schema}.{table.name} to it"
    is_text = found.is_enumeration or found.type_name in _TYPE_NAMES["text"]
    if found.type_name in _TYPE_NAMES[column.family] or (column.family == "text" and is_text):
        return None
    if column.family == "instant" and found.type_name == _NAIVE:
        return (
            f"is {_NAIVE}: its values are naive, nobody can tell which instants they mean; expected {expected}; "
            f"cast it in a view, {column.name} AT TIME ZONE with the zone it was written in"
        )
    row_name = [name for name in table.row_name if name in columns and columns[name].is_readable]
    sample = _first_unreadable(connection, schema, table, column, row_name) if is_text else ""
    return f"is {found.type_name}{sample}, expected {expected}; cast it in a view"


def _first_unreadable(
    connection: psycopg.Connection, schema: str, table: SourceTable, column: SourceColumn, row_name: list[str]
) -> str:
    """The first of some values that cannot be read as the column's family, in words."""
    query = named_rows_query(table, schema, row_name, column.name, _SAMPLE_ROWS)
    for *names, value in connection.execute(query).fetchall():
        fault = _FAULTS[column.family](value)
        if fault is not None:
            row = ", ".join(f"{name}={text}" for name, text in zip(row_name, names, strict=True))
            return f" (first unreadable: {row}{' ' if row else ''}{value!r}{fault})"
    return f" (the first {_SAMPLE_ROWS} values could be read)"


def _instant_fault(value: str) -> str | None:
    try:
        return None if datetime.fromisoformat(value).tzinfo else " has no UTC offset"
    except ValueError:
        return ""


def _date_fault(value: str) -> str | None:
    try:
        date.fromisoformat(value)
    except ValueError:
        return ""
    return None


def _integer_fault(value: str) -> str | None:
    return None if value.strip().removeprefix("-").isdecimal() else ""


def _boolean_fault(value: str) -> str | None:
    return None if value.strip().lower() in {"t", "f", "true", "false"} else ""


_FAULTS: dict[Family, Callable[[str], str | None]] = {
    "text": lambda _: None,
    "integer": _integer_fault,
    "boolean": _boolean_fault,
    "date": _date_fault,
    "instant": _instant_fault,
}
"""None for a value that can be read, else what to add to its quotation."""
