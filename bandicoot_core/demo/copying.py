"""Arrow tables into PostgreSQL through COPY: appended to a table, or merged into it by key.

Nothing here knows what the rows mean, and nothing commits: the caller holds the transaction. Its session time zone is
UTC afterwards, until the transaction ends.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence

import psycopg
import pyarrow as pa
import pyarrow.csv
from psycopg import sql

_CSV_OPTIONS = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
_CHANGES = sql.Identifier("demo_changed_rows")


def copy_rows(
    connection: psycopg.Connection, target: sql.Identifier, tables: Iterable[pa.Table], *, is_frozen: bool = False
) -> int:
    """Append the rows of the tables, all of one schema, and return how many there were.

    The tables are taken one by one while the rows flow, so an iterator keeps memory small; it must not use the
    connection. is_frozen: write the rows as old ones that need no vacuum; PostgreSQL allows it only for a table that
    was truncated in the same transaction. Values must not contain commas, quotes or newlines: ArrowInvalid then.
    """
    remaining: Iterator[pa.Table] = iter(tables)
    head = next(remaining, None)
    if head is None:
        return 0
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv{})").format(
        target, _columns(head), sql.SQL(", FREEZE true" if is_frozen else "")
    )
    connection.execute("SET LOCAL timezone TO 'UTC'")
    n_rows = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for table in itertools.chain([head], remaining):
            if table.num_rows:
                sink = pa.BufferOutputStream()
                pyarrow.csv.write_csv(_without_zone(table), sink, _CSV_OPTIONS)
                copy.write(memoryview(sink.getvalue()))
                n_rows += table.num_rows
    return n_rows


def merge_rows(
    connection: psycopg.Connection, target: sql.Identifier, key: Sequence[str], tables: Iterable[pa.Table]
) -> int:
    """Insert the rows of the tables, or update those whose key is there already; returns how many rows came.

    The key must have a unique index in the target, and be unique among the rows.
    """
    remaining: Iterator[pa.Table] = iter(tables)
    head = next(remaining, None)
    if head is None:
        return 0
    columns = _columns(head)
    with connection.transaction():
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
                _CHANGES, columns, target
            )
        )
        n_rows = copy_rows(connection, _CHANGES, itertools.chain([head], remaining))
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = EXCLUDED.{}").format(sql.Identifier(name), sql.Identifier(name))
            for name in head.column_names
            if name not in key
        )
        connection.execute(
            sql.SQL("INSERT INTO {} ({}) SELECT {} FROM {} ON CONFLICT ({}) DO UPDATE SET {}").format(
                target, columns, columns, _CHANGES, sql.SQL(", ").join(map(sql.Identifier, key)), assignments
            )
        )
        connection.execute(sql.SQL("DROP TABLE {}").format(_CHANGES))
    return n_rows


def _columns(table: pa.Table) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, table.column_names))


def _without_zone(table: pa.Table) -> pa.Table:
    """UTC instants as plain timestamps, which PostgreSQL reads as UTC too: written 20 times faster than with a zone."""
    for position, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type) and column.type.tz == "UTC":
            plain = table.column(position).cast(pa.timestamp(column.type.unit))
            table = table.set_column(position, column.name, plain)
    return table
