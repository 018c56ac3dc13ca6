from dataclasses import replace

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend
from upath import UPath

from bandicoot_core.contracts import CLUSTERS, PASSIVE_COUNTS
from bandicoot_core.errors import CorruptPartitionError, MissingPartitionError, OutdatedPartitionError
from bandicoot_core.stores.lake.lake import Lake

WEEK = "2026-11-15"


def counts(n_rows: int, n_caregivers: int = 1) -> pa.Table:
    return pa.table(
        {
            "n_rr": list(range(n_rows)),
            "n_ru": [0] * n_rows,
            "n_ur": [1] * n_rows,
            "n_uu": [2] * n_rows,
            "n_caregivers": [n_caregivers] * n_rows,
        }
    )


def write_counts(lake: Lake, n_rows: int, n_caregivers: int = 1) -> None:
    lake.write("passive_counts", WEEK, {"data": (PASSIVE_COUNTS, counts(n_rows, n_caregivers))})


def data_file(lake: Lake) -> UPath:
    entry = lake.require("passive_counts", WEEK).entries["data"]
    return lake.folder("passive_counts", WEEK) / entry.name


def test_a_partition_reads_back_as_it_was_written(lake: Lake) -> None:
    write_counts(lake, 3)
    table = lake.read(PASSIVE_COUNTS, "passive_counts", WEEK)
    assert table.schema == PASSIVE_COUNTS.arrow_schema()
    assert table["n_rr"].to_pylist() == [0, 1, 2]
    assert lake.partitions("passive_counts") == [WEEK]


def test_a_table_that_lacks_a_column_of_the_contract_says_what_to_make_again(lake: Lake, engine: Backend) -> None:
    older = replace(PASSIVE_COUNTS, columns=PASSIVE_COUNTS.columns[:-1])
    lake.write("passive_counts", WEEK, {"data": (older, counts(3))})
    message = f"passive_counts/{WEEK}: passive_counts lacks n_caregivers.*materialize passive_counts for {WEEK} again"
    with pytest.raises(OutdatedPartitionError, match=message):
        lake.read(PASSIVE_COUNTS, "passive_counts", WEEK)
    with pytest.raises(OutdatedPartitionError, match=message), lake.reader(engine) as reader:
        reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK])


def test_an_expression_is_written_in_the_contracts_order_and_types(lake: Lake, engine: Backend) -> None:
    shuffled = ibis.memtable(counts(500).slice(0)).mutate(n_rr=499 - ibis._.n_rr.cast("int64"))
    lake.write("passive_counts", WEEK, {"data": (PASSIVE_COUNTS, shuffled)}, engine=engine)
    table = lake.read(PASSIVE_COUNTS, "passive_counts", WEEK)
    assert table["n_rr"].to_pylist() == list(range(500))
    assert lake.require("passive_counts", WEEK).n_rows() == 500


def test_the_same_rows_give_the_same_bytes(lake: Lake, engine: Backend) -> None:
    digests = set()
    for order in ("n_rr", ibis.desc("n_rr")):
        table = ibis.memtable(counts(1000)).order_by(order)
        digests.add(
            lake.write("passive_counts", WEEK, {"data": (PASSIVE_COUNTS, table)}, engine=engine).entries["data"].sha256
        )
    assert len(digests) == 1


def test_a_missing_partition_names_the_asset_to_materialize(lake: Lake, engine: Backend) -> None:
    with pytest.raises(MissingPartitionError, match=f"materialize passive_counts for {WEEK} first"):
        lake.read(PASSIVE_COUNTS, "passive_counts", WEEK)
    with lake.reader(engine) as reader, pytest.raises(MissingPartitionError):
        reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK])


def test_a_truncated_file_is_named_with_what_to_do(lake: Lake, engine: Backend) -> None:
    write_counts(lake, 100)
    path = data_file(lake)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptPartitionError, match=f"{path.name} has .* bytes where .* were written; materialize"):
        lake.read(PASSIVE_COUNTS, "passive_counts", WEEK)
    with lake.reader(engine) as reader, pytest.raises(CorruptPartitionError, match=path.name):
        reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK])


def test_garbage_of_the_right_size_is_found_when_reading(lake: Lake, engine: Backend) -> None:
    write_counts(lake, 5000)
    path = data_file(lake)
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = bytes(len(content) // 2 - 4)
    path.write_bytes(bytes(content))

    def read_through_engine() -> None:
        with lake.reader(engine) as reader:
            reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK]).to_pyarrow()

    with pytest.raises(CorruptPartitionError, match="does not have the content that was written"):
        lake.read(PASSIVE_COUNTS, "passive_counts", WEEK)
    with pytest.raises(CorruptPartitionError, match="materialize passive_counts for"):
        read_through_engine()


def test_a_deleted_file_is_said_to_be_gone(lake: Lake) -> None:
    write_counts(lake, 5)
    data_file(lake).unlink()
    with pytest.raises(CorruptPartitionError, match="is gone"):
        lake.read(PASSIVE_COUNTS, "passive_counts", WEEK)


def test_a_table_that_breaks_its_contract_leaves_the_old_partition(lake: Lake, engine: Backend) -> None:
    write_counts(lake, 3)
    with_null = ibis.memtable(counts(3)).mutate(n_rr=ibis.null("int16"))
    with pytest.raises(ValueError, match=r"passive_counts\.n_rr: 3 nulls where none are allowed"):
        lake.write("passive_counts", WEEK, {"data": (PASSIVE_COUNTS, with_null)}, engine=engine)
    with pytest.raises(ValueError, match="columns"):
        lake.write("passive_counts", WEEK, {"data": (CLUSTERS, counts(3))})
    assert lake.read(PASSIVE_COUNTS, "passive_counts", WEEK).num_rows == 3


def test_old_generations_are_swept_but_the_last_one_stays_for_its_readers(lake: Lake) -> None:
    for n_rows in (1, 2, 3):
        write_counts(lake, n_rows)
    files = [path.name for path in lake.folder("passive_counts", WEEK).iterdir() if path.suffix == ".parquet"]
    assert len(files) == 2


def test_inputs_name_the_content_that_was_read(lake: Lake, engine: Backend) -> None:
    write_counts(lake, 3)
    with lake.reader(engine) as reader:
        reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK])
        assert reader.inputs == {"passive_counts": lake.digest("passive_counts", [WEEK])}
    before = lake.digest("passive_counts", [WEEK])
    write_counts(lake, 4)
    assert lake.digest("passive_counts", [WEEK]) != before


def test_a_partition_that_is_removed_no_longer_exists(lake: Lake) -> None:
    write_counts(lake, 3)
    lake.remove("passive_counts", WEEK)
    assert lake.partitions("passive_counts") == []
    assert lake.manifest("passive_counts", WEEK) is None
