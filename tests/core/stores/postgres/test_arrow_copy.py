"""Arrow tables go into PostgreSQL and come back as they were."""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from published_rows import AWKWARD_IDS

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.postgres.arrow_copy import copy_in, copy_out, stream_out
from bandicoot_core.stores.postgres.connections import connect

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("small", pa.int16()),
        ("big", pa.int64()),
        ("real", pa.float64()),
        ("flag", pa.bool_()),
        ("day", pa.date32()),
        ("instant", pa.timestamp("us", tz="UTC")),
    ]
)
TABLE = sql.Identifier("copied")
ALL = sql.SQL("SELECT text, small, big, real, flag, day, instant FROM copied ORDER BY place")

ROWS = st.fixed_dictionaries(
    {
        "text": st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
        "small": st.none() | st.integers(-(2**15), 2**15 - 1),
        "big": st.none() | st.integers(-(2**63), 2**63 - 1),
        "real": st.none() | st.floats(),
        "flag": st.none() | st.booleans(),
        "day": st.none() | st.dates(),
        "instant": st.none() | st.datetimes(timezones=st.just(UTC)),
    }
)


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    with connect(database_url) as connection:
        connection.execute(
            "CREATE TABLE copied (place bigserial, text text, small smallint, big bigint, real float8, flag boolean, "
            "day date, instant timestamptz)"
        )
        yield connection


def table(*rows: Mapping[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(ROWS, max_size=5))
def test_any_rows_come_back_as_they_went_in(connection: psycopg.Connection, rows: list[dict[str, object]]) -> None:
    connection.execute("TRUNCATE copied")
    assert copy_in(connection, TABLE, table(*rows)) == len(rows)
    found = copy_out(connection, ALL, (), SCHEMA)
    assert found.schema == SCHEMA
    assert repr(found.to_pylist()) == repr(table(*rows).to_pylist())


def test_awkward_texts_come_back_alone_and_among_others(connection: psycopg.Connection) -> None:
    texts = [*AWKWARD_IDS, "", None]
    copy_in(connection, TABLE, pa.table({"text": texts}))
    only_text = sql.SQL("SELECT text FROM copied ORDER BY place")
    assert copy_out(connection, only_text, (), pa.schema([("text", pa.string())]))["text"].to_pylist() == texts
    assert copy_out(connection, ALL, (), SCHEMA)["text"].to_pylist() == texts


def test_a_slice_goes_in_without_its_neighbours(connection: psycopg.Connection) -> None:
    rows = table({"text": "\0"}, {"text": "a\tb", "big": 1}, {"text": None}, {"text": "\0"})
    assert copy_in(connection, TABLE, rows.slice(1, 2)) == 2
    assert copy_out(connection, ALL, (), SCHEMA)["text"].to_pylist() == ["a\tb", None]


def test_a_stream_of_batches_goes_in_batch_by_batch(connection: psycopg.Connection) -> None:
    parts = [table({"big": 1}, {"big": 2}), table(), table({"big": 3})]
    reader = pa.RecordBatchReader.from_batches(SCHEMA, (batch for part in parts for batch in part.to_batches()))
    assert copy_in(connection, TABLE, reader) == 3
    assert copy_out(connection, ALL, (), SCHEMA)["big"].to_pylist() == [1, 2, 3]


def test_many_rows_come_out_in_several_batches_without_loss(connection: psycopg.Connection) -> None:
    query = sql.SQL("SELECT repeat('x', 99) || chr(10) || number, number FROM generate_series(1, %s) AS number")
    schema = pa.schema([("text", pa.string()), ("big", pa.int64())])
    batches = list(stream_out(connection, query, (200_000,), schema))
    assert len(batches) > 1
    together = pa.Table.from_batches(batches)
    assert together["big"].to_pylist() == list(range(1, 200_001))
    assert together["text"][-1].as_py() == "x" * 99 + "\n200000"


def test_parameters_are_values_never_sql(connection: psycopg.Connection) -> None:
    copy_in(connection, TABLE, pa.table({"text": AWKWARD_IDS}))
    for text in AWKWARD_IDS:
        query = sql.SQL("SELECT text FROM copied WHERE text = %s")
        found = copy_out(connection, query, (text,), pa.schema([("text", pa.string())]))
        assert found["text"].to_pylist() == [text]


def test_no_rows_come_out_as_an_empty_table_of_the_schema(connection: psycopg.Connection) -> None:
    assert copy_out(connection, ALL, (), SCHEMA) == SCHEMA.empty_table()


def test_the_column_of_a_text_that_postgresql_cannot_store_is_named(connection: psycopg.Connection) -> None:
    with pytest.raises(InvalidInputError, match=r"column text: 1 values hold the character U\+0000, which PostgreSQL"):
        copy_in(connection, TABLE, table({"text": "fine"}, {"text": "a\0b"}))
    assert copy_out(connection, ALL, (), SCHEMA).num_rows == 0


def test_instants_come_back_in_utc_from_a_session_of_another_zone(connection: psycopg.Connection) -> None:
    row = {"instant": datetime(2026, 11, 19, 19, 35, 0, 7, tzinfo=UTC), "day": date(2026, 11, 20)}
    connection.execute("SET TimeZone TO 'Asia/Kolkata'")
    copy_in(connection, TABLE, table(row))
    found = copy_out(connection, ALL, (), SCHEMA).to_pylist()[0]
    assert (found["instant"], found["day"]) == (row["instant"], row["day"])
