"""A disk that is full while a partition is written: the old one stays, the error says what to do, the next run works.

With the right to mount (root) the disk is a small tmpfs. Without it a limit on the size of files stands in: it is the
same failure of a write, of another kind for the kernel.
"""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import PASSIVE_COUNTS
from bandicoot_core.errors import StorageFullError
from bandicoot_core.stores.lake.lake import Lake

WEEK = "2026-11-15"
_DISK_BYTES = 3 << 20


def incompressible(n_rows: int) -> pa.Table:
    numbers = np.random.default_rng(7).integers(0, 30_000, size=(5, n_rows))
    names = ("n_rr", "n_ru", "n_ur", "n_uu", "n_caregivers")
    return pa.table({name: numbers[n] + 1 for n, name in enumerate(names)})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 3 MB; or one in which no file may be larger than 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(place)], capture_output=True, check=False
        ).returncode
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        yield place
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        if mounted:
            subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("is_streamed", [True, False], ids=["duckdb", "arrow"])
def test_the_old_partition_stays_and_the_run_succeeds_when_there_is_room(
    small_disk: Path, engine: Backend, is_streamed: bool
) -> None:
    lake = Lake(str(small_disk / "lake"))

    def write(n_rows: int) -> str:
        rows = incompressible(n_rows)
        table = ibis.memtable(rows) if is_streamed else rows
        return lake.write("passive_counts", WEEK, {"data": (PASSIVE_COUNTS, table)}, engine=engine).digest

    digest = write(20_000)
    before = lake.require("passive_counts", WEEK)
    with pytest.raises(StorageFullError, match=r"passive_counts/2026-11-15: no space left.*bytes free.*run again"):
        write(600_000)
    assert lake.require("passive_counts", WEEK) == before
    assert lake.verify("passive_counts", WEEK) == []
    assert list((small_disk / "lake" / ".staging").iterdir()) == []
    assert write(20_000) == digest
    assert lake.require("passive_counts", WEEK) == before
