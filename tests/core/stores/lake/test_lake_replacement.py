"""A partition is replaced in one step: under readers, under kills at every step, and against another writer."""

import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ibis.backends.duckdb import Backend
from replacing_process import WEEK, write_counts
from upath import UPath

from bandicoot_core.contracts import PASSIVE_COUNTS
from bandicoot_core.errors import ConflictingWriteError
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import MANIFEST_NAME
from tests.servers.gcs import BUCKET, gate_before

SOAK_SECONDS = float(os.environ.get("BANDICOOT_TEST_SOAK_SECONDS", "1.5"))
"""How long readers poll while a writer replaces."""
KILL_STRIDE = int(os.environ.get("BANDICOOT_TEST_KILL_STRIDE", "4"))
"""Of the steps of a writer every so many are tried, from a random first one; 1 tries all."""


def sizes_seen(lake: Lake) -> tuple[int, set[int], int, int]:
    """Rows, what the rows say, bytes of the file, and the fact: all the same number in a whole partition."""
    manifest = lake.require("passive_counts", WEEK)
    table = lake.read(PASSIVE_COUNTS, "passive_counts", WEEK)
    n_bytes = len(lake.read_bytes("passive_counts", WEEK, "mapper.skops"))
    return table.num_rows, set(table["n_caregivers"].to_pylist()), n_bytes, manifest.facts["n"]


def is_whole(lake: Lake) -> int:
    """The number of rows of a partition that nobody replaces any more, after all of it was found to agree."""
    n_rows, said, n_bytes, fact = sizes_seen(lake)
    assert ({n_rows}, n_bytes, fact) == (said, n_rows, n_rows)
    assert lake.verify("passive_counts", WEEK) == []
    return n_rows


def data_files(lake: Lake) -> list[str]:
    return [path.name for path in lake.folder("passive_counts", WEEK).iterdir() if path.name.startswith("data")]


def test_readers_see_the_old_or_the_new_and_never_an_error(lake: Lake) -> None:
    write_counts(lake, 10)
    mixes: list[object] = []
    n_reads = 0
    is_done = threading.Event()

    def poll() -> None:
        nonlocal n_reads
        while not is_done.is_set():
            try:
                table = lake.read(PASSIVE_COUNTS, "passive_counts", WEEK)
            except Exception as error:
                mixes.append(error)
                continue
            n_reads += 1
            if set(table["n_caregivers"].to_pylist()) != {table.num_rows}:
                mixes.append((table.num_rows, set(table["n_caregivers"].to_pylist())))

    readers = [threading.Thread(target=poll) for _ in range(2)]
    for reader in readers:
        reader.start()
    n_writes, end = 0, time.monotonic() + SOAK_SECONDS
    while time.monotonic() < end or n_writes < 10:
        write_counts(lake, 10 + n_writes % 5)
        n_writes += 1
    is_done.set()
    for reader in readers:
        reader.join()
    print(f"{n_writes} replacements under {n_reads} reads")
    assert mixes == []
    assert n_reads > 0
    assert len(data_files(lake)) == 2


def test_a_reader_of_the_previous_manifest_can_finish(lake: Lake, engine: Backend) -> None:
    write_counts(lake, 5)
    with lake.reader(engine) as reader:
        scanned = reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK])
        write_counts(lake, 6)
        assert scanned.count().to_pyarrow().as_py() == 5
    write_counts(lake, 7)
    assert len(data_files(lake)) == 2


def test_a_writer_killed_at_every_step_leaves_the_old_partition_or_the_new_one(lake: Lake) -> None:
    write_counts(lake, 1)
    first = random.randint(1, KILL_STRIDE)  # noqa: S311 - which steps are tried, printed below
    script = str(Path(__file__).parents[1] / "replacing_process.py")
    process = subprocess.Popen(
        [sys.executable, script, str(lake.root), str(first), str(KILL_STRIDE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    n_old = n_new = 0
    current = 1
    for wanted in range(2, 1000):
        outcome = process.stdout.readline().strip()
        found = is_whole(lake)
        assert found in (current, wanted)
        n_old, n_new, current = n_old + (found == current), n_new + (found == wanted), found
        if outcome != "killed":
            break
        process.stdin.write("\n")
        process.stdin.flush()
    process.communicate()
    tried = f"{n_old + n_new - 1} steps from {first}, every {KILL_STRIDE}"
    print(f"killed at {tried}: {n_old} left the old partition, {n_new - 1} the new one")
    assert (outcome, found) == ("done 0", wanted)
    assert n_old >= 2
    assert n_new >= 2
    write_counts(lake, 3)
    assert len(data_files(lake)) == 2
    if lake.root.protocol == "":
        assert list(Path(str(lake.root), ".staging").iterdir()) == []


@pytest.fixture
def two_writers(cloud_storage_address: str, tmp_path: Path, request: pytest.FixtureRequest):
    """The gate before the emulator, and two lakes that reach the same folder through it."""
    with gate_before(cloud_storage_address) as gate:
        root = f"gs://{BUCKET}/{tmp_path.name}-{id(request)}"

        def lake() -> Lake:
            return Lake(UPath(root, use_listings_cache=False, endpoint_url=gate.address, token="anon"))

        yield gate, lake(), lake()


def test_the_manifest_is_written_on_the_condition_that_it_is_the_one_found_before(two_writers) -> None:
    """The gate holds the condition: the emulator alone ignores it."""
    gate, lake, _ = two_writers
    for n_rows in (1, 2):
        write_counts(lake, n_rows)
    generation = lake.root.fs.info((lake.folder("passive_counts", WEEK) / MANIFEST_NAME).path)["generation"]
    write_counts(lake, 3)
    conditions = [
        query["ifGenerationMatch"]
        for method, _, query in gate.requests
        if method == "POST" and query.get("name", "").endswith(MANIFEST_NAME)
    ]
    assert conditions[0] == "0", "the first manifest must not replace one"
    assert conditions[2] == generation
    deleted = [query for method, _, query in gate.requests if method == "DELETE"]
    assert deleted
    assert all(query["ifGenerationMatch"].isdigit() for query in deleted)


def test_of_two_writers_one_wins_whole_and_the_other_is_told(two_writers, monkeypatch) -> None:
    _, lake, other = two_writers
    write_counts(lake, 1)
    upload = lake.root.fs.put_file
    has_written = []

    def upload_after_the_other(*args: object, **options: object) -> object:
        if not has_written:
            has_written.append(True)
            write_counts(other, 2)
        return upload(*args, **options)

    monkeypatch.setattr(lake.root.fs, "put_file", upload_after_the_other)
    with pytest.raises(ConflictingWriteError, match="replaced by another writer"):
        write_counts(lake, 3)
    assert is_whole(other) == 2
    monkeypatch.undo()
    write_counts(lake, 3)
    assert is_whole(other) == 3


def test_many_writers_at_once_leave_one_of_their_partitions_whole(two_writers) -> None:
    _, lake, other = two_writers
    write_counts(lake, 1)
    n_told = []

    def write_some(mine: Lake, first: int) -> None:
        for n_rows in range(first, first + 4):
            try:
                write_counts(mine, n_rows)
            except ConflictingWriteError:
                n_told.append(n_rows)

    writers = [threading.Thread(target=write_some, args=pair) for pair in ((lake, 10), (other, 20), (lake, 30))]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert is_whole(lake) >= 10
    print(f"{len(n_told)} of 12 writes were told of another")
