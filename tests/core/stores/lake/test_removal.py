"""Removing a caregiver's rows from partitions: nothing of her stays in any file, and nothing becomes stale."""

from datetime import UTC, datetime
from io import BytesIO

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import CAREGIVER_STATES, PASSIVE_COUNTS, SET_ASIDE, SMS_EVENTS
from bandicoot_core.errors import CorruptPartitionError
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import SET_ASIDE_TABLE, Manifest

DAY = "2026-11-20"
HERS = 17


def events(keys: list[int]) -> pa.Table:
    n = len(keys)
    sent = datetime(2026, 11, 20, 6, 0, tzinfo=UTC)
    return pa.table(
        {
            "caregiver_key": keys,
            "message_id": [f"M-{key}" for key in keys],
            "event_type": ["sent"] * n,
            "occurred_at": pa.array([sent] * n, pa.timestamp("us", tz="UTC")),
        }
    )


def write_events(lake: Lake, keys: list[int], engine: Backend | None = None) -> Manifest:
    """A day of events, one for each key; by the engine when there is one. Of 3 and HERS a row was set aside."""
    rows = events(keys)
    set_aside = pa.table(
        {
            "source_row": [f"caregiver_key={HERS}", "caregiver_key=3", "message_id=M-hers", "message_id=M-unknown"],
            "column_name": ["age"] * 4,
            "found": ["-1"] * 4,
            "reason": ["an age"] * 4,
            "action": ["row set aside", "row set aside", "value blanked", "value blanked"],
            "caregiver_key": pa.array([HERS, 3, HERS, None], pa.int64()),
        }
    )
    tables = {
        "data": (SMS_EVENTS, ibis.memtable(rows) if engine is not None else rows),
        SET_ASIDE_TABLE: (SET_ASIDE, ibis.memtable(set_aside) if engine is not None else set_aside),
    }
    n = len(keys)
    facts = {"n_read": n + 2, "n_accepted": n, "n_set_aside": 2, "n_blanked": 2, "note": "a fact of another kind"}
    return lake.write("sms_events", DAY, tables, engine=engine, facts=facts)


def rows_of_hers(lake: Lake) -> int:
    """Rows of hers in any Parquet file of the lake, whether or not a manifest names it."""
    fs = lake.root.fs
    tables = [pq.read_table(BytesIO(fs.cat_file(path))) for path in fs.find(lake.root.path) if ".parquet" in path]
    n = sum(table["caregiver_key"].to_pylist().count(HERS) for table in tables if "caregiver_key" in table.column_names)
    named = [row for table in tables if "source_row" in table.column_names for row in table["source_row"].to_pylist()]
    return n + named.count(f"caregiver_key={HERS}") + named.count("message_id=M-hers")


@pytest.mark.parametrize("is_streamed", [True, False], ids=["duckdb", "arrow"])
def test_every_row_of_hers_goes_and_every_other_stays(lake: Lake, engine: Backend, is_streamed: bool) -> None:
    keys = sorted([HERS, HERS, *range(1000, 3000)])
    before = write_events(lake, keys, engine if is_streamed else None)
    after = lake.rewrite_without("sms_events", DAY, HERS, engine=engine)
    assert after is not None
    assert after == lake.require("sms_events", DAY)
    assert rows_of_hers(lake) == 0
    assert lake.read(SMS_EVENTS, "sms_events", DAY)["caregiver_key"].to_pylist() == keys[2:]
    assert lake.read(SET_ASIDE, "sms_events", DAY, SET_ASIDE_TABLE)["source_row"].to_pylist() == [
        "caregiver_key=3",
        "message_id=M-unknown",
    ]
    assert (after.n_rows(), after.n_rows(SET_ASIDE_TABLE)) == (before.n_rows() - 2, 2)
    assert dict(after.facts) == {**before.facts, "n_read": 2001, "n_accepted": 2000, "n_set_aside": 1, "n_blanked": 1}
    assert lake.verify("sms_events", DAY) == []


@pytest.mark.parametrize("is_streamed", [True, False], ids=["duckdb", "arrow"])
def test_what_is_left_has_the_bytes_that_an_extraction_without_her_has(
    lake: Lake, engine: Backend, is_streamed: bool
) -> None:
    keys = sorted([HERS, *range(1000, 200_000)])
    writing = engine if is_streamed else None
    before = write_events(lake, keys, writing)
    after = lake.rewrite_without("sms_events", DAY, HERS, engine=engine)
    assert after is not None
    again = write_events(lake, keys[1:], writing)
    assert again.entries["data"].sha256 == after.entries["data"].sha256 != before.entries["data"].sha256
    assert again.digest == before.digest, "reading the day again without her must not make anything stale"


def test_nothing_becomes_stale_until_other_rows_change(lake: Lake, engine: Backend) -> None:
    before = write_events(lake, [3, 9, HERS])
    digest = lake.digest("sms_events", [DAY])
    lake.rewrite_without("sms_events", DAY, HERS, engine=engine)
    lake.rewrite_without("sms_events", DAY, 9, engine=engine)
    after = lake.require("sms_events", DAY)
    assert lake.digest("sms_events", [DAY]) == digest
    assert (after.digest, after.n_rewrites) == (before.digest, 2)
    assert after.content_digest != before.content_digest
    changed = write_events(lake, [3, 4])
    assert changed.digest == changed.content_digest != before.digest
    assert changed.n_rewrites == 0


def test_the_manifest_does_not_say_who_was_removed(lake: Lake, engine: Backend) -> None:
    write_events(lake, [3, HERS])
    after = lake.rewrite_without("sms_events", DAY, HERS, engine=engine)
    assert after is not None
    words = after.to_json().replace('"', " ").replace(",", " ").split()
    assert str(HERS) not in words


def test_a_file_of_an_earlier_generation_goes_even_when_the_current_one_has_nothing_of_hers(
    lake: Lake, engine: Backend
) -> None:
    write_events(lake, [3, HERS])
    lake.write("sms_events", DAY, {"data": (SMS_EVENTS, events([3]))})
    assert rows_of_hers(lake) > 0
    assert lake.rewrite_without("sms_events", DAY, HERS, engine=engine) is None
    assert rows_of_hers(lake) == 0
    assert lake.read(SMS_EVENTS, "sms_events", DAY).num_rows == 1


def test_counts_of_states_follow_and_other_kinds_of_files_stay(lake: Lake, engine: Backend) -> None:
    keys, states = [3, 9, HERS], ["R", "U", "R"]
    table = CAREGIVER_STATES.empty().to_pylist() + [
        {
            "caregiver_key": key,
            "district": "Gaya",
            "state": state,
            "warm_up_end_date": datetime(2026, 1, 1, tzinfo=UTC).date(),
            "status": "active",
            "ab_arm": "treatment",
        }
        for key, state in zip(keys, states, strict=True)
    ]
    rows = pa.Table.from_pylist(table, schema=pa.schema(list(CAREGIVER_STATES.arrow_schema())))
    lake.write(
        "caregiver_states",
        DAY,
        {"data": (CAREGIVER_STATES, rows)},
        files={"mapper.skops": b"not a table"},
        facts={"n_responsive": 2, "n_unresponsive": 1, "responsive_share": 2 / 3},
    )
    after = lake.rewrite_without("caregiver_states", DAY, HERS, engine=engine)
    assert after is not None
    assert dict(after.facts) == {"n_responsive": 1, "n_unresponsive": 1, "responsive_share": 0.5}
    assert lake.read_bytes("caregiver_states", DAY, "mapper.skops") == b"not a table"


def test_partitions_without_caregivers_and_absent_ones_are_left_alone(lake: Lake, engine: Backend) -> None:
    counts = {"n_rr": [HERS], "n_ru": [0], "n_ur": [0], "n_uu": [0], "n_caregivers": [HERS]}
    before = lake.write("passive_counts", "2026-11-15", {"data": (PASSIVE_COUNTS, pa.table(counts))})
    assert lake.rewrite_without("passive_counts", "2026-11-15", HERS, engine=engine) is None
    assert lake.require("passive_counts", "2026-11-15") == before
    assert lake.rewrite_without("sms_events", DAY, HERS, engine=engine) is None


def test_a_corrupt_partition_is_not_rewritten(lake: Lake, engine: Backend) -> None:
    manifest = write_events(lake, [3, HERS])
    path = lake.folder("sms_events", DAY) / manifest.entries["data"].name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptPartitionError, match=f"materialize sms_events for {DAY} again"):
        lake.rewrite_without("sms_events", DAY, HERS, engine=engine)
    assert lake.require("sms_events", DAY) == manifest
