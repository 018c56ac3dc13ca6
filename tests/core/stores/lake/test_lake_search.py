"""A caregiver is found in partitions of whatever generation, and gone from all of them once she was taken out."""

import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import PASSIVE_COUNTS, SET_ASIDE
from bandicoot_core.contracts.columns import CAREGIVER_KEY_COLUMN
from bandicoot_core.contracts.table_contract import Column, TableContract
from bandicoot_core.errors import CorruptPartitionError
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.search import count_rows, is_in

EVENTS = TableContract("events", "", (CAREGIVER_KEY_COLUMN, Column("text", "string", "")), sort_by=("text",))
N_ROWS = 150_000
"""More than two row groups."""


def events(*keys: int) -> pa.Table:
    return pa.table({"caregiver_key": list(keys), "text": [f"{n:07}" for n in range(len(keys))]})


def set_aside(*keys: int | None) -> pa.Table:
    row = {"source_row": "message_id=1", "column_name": "age", "reason": "r", "action": "value blanked"}
    return pa.Table.from_pylist([row | {"caregiver_key": key} for key in keys], schema=SET_ASIDE.arrow_schema())


def test_her_rows_are_counted_over_all_tables_and_row_groups_and_are_none_once_she_is_taken_out(
    lake: Lake, engine: Backend
) -> None:
    tables = {
        "data": (EVENTS, events(*(n % 1000 for n in range(N_ROWS)))),
        "set_aside": (SET_ASIDE, set_aside(7, None, 8)),
    }
    lake.write("events", "D", tables)
    assert [count_rows(lake, "events", "D", key) for key in (7, 8, 9, 1000)] == [151, 151, 150, 0]
    assert is_in(lake, "events", "D", 7)
    assert lake.rewrite_without("events", "D", 7, engine=engine) is not None
    assert [count_rows(lake, "events", "D", key) for key in (7, 8, 9)] == [0, 151, 150]
    assert lake.read(SET_ASIDE, "events", "D", "set_aside")["caregiver_key"].to_pylist() == [8, None]
    assert not is_in(lake, "events", "D", 7)


def test_files_of_an_earlier_generation_and_torn_ones_may_hold_her_until_she_is_taken_out(
    lake: Lake, engine: Backend
) -> None:
    lake.write("events", "D", {"data": (EVENTS, events(1, 7))})
    lake.write("events", "D", {"data": (EVENTS, events(1, 2))})
    assert count_rows(lake, "events", "D", 7) == 0
    assert is_in(lake, "events", "D", 7)
    lake.rewrite_without("events", "D", 7, engine=engine)
    assert not is_in(lake, "events", "D", 7)
    (lake.folder("events", "D") / "torn.parquet").write_bytes(b"PAR1 half")
    assert is_in(lake, "events", "D", 7)


def test_a_table_of_nobody_an_empty_one_and_an_absent_partition_have_no_rows_of_her(lake: Lake) -> None:
    lake.write("counts", "W", {"data": (PASSIVE_COUNTS, PASSIVE_COUNTS.empty())})
    lake.write("events", "D", {"data": (EVENTS, EVENTS.empty())})
    for asset, partition in (("counts", "W"), ("events", "D"), ("events", "gone")):
        assert count_rows(lake, asset, partition, 7) == 0
    assert not is_in(lake, "counts", "W", 7)
    assert not is_in(lake, "events", "D", 7)


def test_a_truncated_partition_is_named(lake: Lake) -> None:
    manifest = lake.write("events", "D", {"data": (EVENTS, events(1, 7, 9))})
    path = lake.folder("events", "D") / manifest.entries["data"].name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptPartitionError, match="events/D"):
        count_rows(lake, "events", "D", 7)
