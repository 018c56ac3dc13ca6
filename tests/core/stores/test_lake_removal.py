"""A caregiver is taken out of partitions, of whatever generation, and the rows of others keep their bytes and order."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import PASSIVE_COUNTS, PENDING_CAREGIVERS, SET_ASIDE
from bandicoot_core.contracts.columns import CAREGIVER_KEY_COLUMN
from bandicoot_core.contracts.table_contract import Column, TableContract
from bandicoot_core.errors import CorruptPartitionError
from bandicoot_core.stores.lake import Lake
from bandicoot_core.stores.lake_removal import assets_of, count_rows, is_in, remove_rows

EVENTS = TableContract("events", "", (CAREGIVER_KEY_COLUMN, Column("text", "string", "")), sort_by=("text",))
N_ROWS = 150_000
"""More than two row groups."""


def events(*keys: int) -> pa.Table:
    return pa.table({"caregiver_key": list(keys), "text": [f"{n:07}" for n in range(len(keys))]})


def files(lake: Lake) -> list[Path]:
    return sorted(Path(str(lake.folder("events", "D"))).glob("*.parquet"))


def set_aside(*keys: int | None) -> pa.Table:
    rows = [
        {"source_row": f"message_id={n}", "column_name": "age", "reason": "r", "action": "value blanked"}
        | {"caregiver_key": key}
        for n, key in enumerate(keys)
    ]
    return pa.Table.from_pylist(rows, schema=SET_ASIDE.arrow_schema())


@pytest.mark.parametrize("is_written_by_the_engine", [True, False])
def test_her_rows_go_from_every_table_and_all_others_stay_in_order(
    lake: Lake, engine: Backend, is_written_by_the_engine: bool
) -> None:
    keys = [n % 1000 for n in range(N_ROWS)]
    rows = events(*keys)
    written = engine.create_table("rows", rows) if is_written_by_the_engine else rows
    before = lake.write(
        "events",
        "D",
        {
            "data": (EVENTS, written),
            "set_aside": (SET_ASIDE, set_aside(7, None, 8)),
            "pending": (PENDING_CAREGIVERS, pa.table({"caregiver_key": [8]})),
        },
        engine=engine,
        files={"mapper.bin": b"as it was"},
        recipe={"n": 1},
        facts={"n_read": N_ROWS},
    )
    assert count_rows(lake, "events", "D", 7) == 151
    assert remove_rows(lake, "events", "D", 7) == 151
    after = lake.require("events", "D")
    kept = lake.read(EVENTS, "events", "D")
    assert kept.num_rows == after.n_rows() == N_ROWS - 150
    assert kept["text"].to_pylist() == [
        text for key, text in zip(keys, rows["text"].to_pylist(), strict=True) if key != 7
    ]
    assert lake.read(SET_ASIDE, "events", "D", "set_aside")["caregiver_key"].to_pylist() == [None, 8]
    assert lake.read_bytes("events", "D", "mapper.bin") == b"as it was"
    assert after.entries["pending"] == before.entries["pending"]
    assert (after.inputs, after.recipe) == (before.inputs, before.recipe)
    assert not any(7 in pq.read_table(path)["caregiver_key"].to_pylist() for path in files(lake))
    assert not is_in(lake, "events", "D", 7)


def test_a_partition_without_her_keeps_its_bytes_but_loses_what_an_older_generation_has_of_her(lake: Lake) -> None:
    lake.write("events", "D", {"data": (EVENTS, events(1, 7))})
    current = lake.write("events", "D", {"data": (EVENTS, events(1, 2))})
    torn = files(lake)[0].with_name(".arriving-1-data.parquet")
    torn.write_bytes(b"PAR1 half")
    assert count_rows(lake, "events", "D", 7) == 0
    assert is_in(lake, "events", "D", 7)
    assert remove_rows(lake, "events", "D", 7) == 0
    assert [path.name for path in files(lake)] == [current.entries["data"].name]
    assert lake.require("events", "D") == current
    assert remove_rows(lake, "events", "D", 7) == remove_rows(lake, "events", "gone", 7) == 0


def test_a_table_of_nobody_and_an_empty_one_are_left_alone(lake: Lake) -> None:
    lake.write("counts", "W", {"data": (PASSIVE_COUNTS, PASSIVE_COUNTS.empty())})
    lake.write("events", "D", {"data": (EVENTS, EVENTS.empty())})
    assert assets_of(lake) == ["counts", "events"]
    assert [remove_rows(lake, asset, partition, 7) for asset, partition in (("counts", "W"), ("events", "D"))] == [0, 0]


def test_a_last_caregiver_leaves_an_empty_partition_that_can_be_read(lake: Lake) -> None:
    lake.write("events", "D", {"data": (EVENTS, events(7, 7))})
    assert remove_rows(lake, "events", "D", 7) == 2
    assert lake.read(EVENTS, "events", "D").num_rows == 0


def test_a_damaged_partition_is_named_and_not_written_over(lake: Lake) -> None:
    manifest = lake.write("events", "D", {"data": (EVENTS, events(1, 7, 9))})
    path = Path(str(lake.folder("events", "D"))) / manifest.entries["data"].name
    content = bytearray(path.read_bytes())
    content[6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CorruptPartitionError, match=r"events/D.*does not have the content that was written"):
        remove_rows(lake, "events", "D", 7)
    assert lake.require("events", "D") == manifest
