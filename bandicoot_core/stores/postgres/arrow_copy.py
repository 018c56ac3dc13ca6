"""Arrow tables into and out of PostgreSQL through COPY, in bounded memory and without a Python loop over values.

Rows go in as COPY's text format: unlike CSV it has no sequence that older servers take for the end of the data,
whatever a value holds. They come out as CSV, which Arrow parses itself. Which rows go where belongs to the callers.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from psycopg import sql

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.postgres.connections import reading

_BATCH_ROWS = 16_384
_PARSE_BYTES = 8 << 20
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))
"""What COPY's text format escapes; the backslash comes first, since the others bring backslashes in."""


def copy_in(connection: psycopg.Connection, table: sql.Composable, rows: pa.Table | pa.RecordBatchReader) -> int:
    """Append rows to a table whose columns are named like theirs, and return how many there were.

    Raises InvalidInputError when a text holds U+0000, which PostgreSQL cannot store.
    """
    names = sql.SQL(", ").join(sql.Identifier(name) for name in rows.schema.names)
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table, names)
    n_rows = 0
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for batch in _batches(rows):
            if batch.num_rows:
                copy.write(_as_text(batch))
                n_rows += batch.num_rows
    return n_rows


def copy_out(
    connection: psycopg.Connection, query: sql.Composable, parameters: Sequence[Any], schema: pa.Schema
) -> pa.Table:
    """The rows of a query as one table; its columns are the schema's, by position."""
    return pa.Table.from_batches(stream_out(connection, query, parameters, schema), schema=schema)


def stream_out(
    connection: psycopg.Connection, query: sql.Composable, parameters: Sequence[Any], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The rows of a query as batches; nothing else can run on the connection until the last one is taken."""
    statement = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv)").format(query)
    with reading(connection, "reading the published schema", is_bulk=True):
        yield from _stream_out(connection, statement, parameters, schema)


def _stream_out(
    connection: psycopg.Connection, statement: sql.Composed, parameters: Sequence[Any], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    with connection.cursor() as cursor, cursor.copy(statement, parameters) as copy:
        pending, n_pending = [], 0
        for row in copy:  # one message a row, so that a cut between messages never splits a row
            pending.append(row)
            n_pending += len(row)
            if n_pending >= _PARSE_BYTES:
                yield from _parse(b"".join(pending), schema)
                pending, n_pending = [], 0
        if pending:
            yield from _parse(b"".join(pending), schema)


def array_literal(name: str, column: pa.Array) -> str:
    """A column without nulls as one array in PostgreSQL's notation, for a cast such as `%s::text[]`.

    Raises InvalidInputError when a text holds U+0000.
    """
    text = column
    if pa.types.is_string(column.type):
        _refuse_nul(name, column)
    else:
        text = column.cast(pa.string())
    for found in ("\\", '"'):
        text = pc.replace_substring(text, found, f"\\{found}")
    return "{" + ",".join(pc.binary_join_element_wise('"', text, '"', "").to_pylist()) + "}"


def _batches(rows: pa.Table | pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    if isinstance(rows, pa.Table):
        yield from rows.to_batches(max_chunksize=_BATCH_ROWS)
        return
    for batch in rows:
        yield from pa.Table.from_batches([batch]).to_batches(max_chunksize=_BATCH_ROWS)


def _as_text(batch: pa.RecordBatch) -> memoryview:
    """A batch in COPY's text format: tabs between values, a newline after each row, `\\N` for null."""
    columns = [_column_text(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    columns[-1] = pc.binary_join_element_wise(columns[-1], "\n", "")
    lines = pc.binary_join_element_wise(*columns, "\t") if len(columns) > 1 else columns[0]
    _, _, content = lines.buffers()
    return memoryview(content)


def _column_text(name: str, column: pa.Array) -> pa.Array:
    if not pa.types.is_string(column.type):
        text = column.cast(pa.string())
    else:
        text = column
        raw = b"" if column.buffers()[2] is None else column.buffers()[2].to_pybytes()
        if b"\0" in raw:
            _refuse_nul(name, column)
        for found, escaped in _ESCAPES:
            if found.encode() in raw:
                text = pc.replace_substring(text, found, escaped)
    return pc.fill_null(text, "\\N") if text.null_count else text


def _refuse_nul(name: str, column: pa.Array) -> None:
    # The buffer of a slice also holds its neighbours, so only the values themselves can tell.
    at_fault = column.filter(pc.match_substring(column, "\0"))
    if len(at_fault):
        raise InvalidInputError(
            f"column {name}: {len(at_fault)} values hold the character U+0000, which PostgreSQL cannot store; remove "
            "it in the source"
        )


def _parse(content: bytes, schema: pa.Schema) -> list[pa.RecordBatch]:
    table = pa_csv.read_csv(
        pa.BufferReader(content),
        # One block: values may hold newlines, and a row must not straddle two blocks.
        read_options=pa_csv.ReadOptions(column_names=schema.names, block_size=len(content) + 1, use_threads=False),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=pa_csv.ConvertOptions(
            column_types={field.name: field.type for field in schema},
            null_values=[""],
            true_values=["t"],
            false_values=["f"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    return table.cast(schema).to_batches()
