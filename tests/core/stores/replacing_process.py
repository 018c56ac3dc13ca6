"""A process that replaces a partition again and again, each time in a child that kills itself one step later.

Run as a script with the root of a lake. For each step it writes `killed` or `done`, and waits for a line before the
next. A step is what happens to the lake: a file of it opened, renamed or removed, a folder made or removed; on an
object store a request, killed before it is sent and after it was answered.
"""

import importlib
import itertools
import os
import signal
import sys
import tempfile
from typing import Any

os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # read when gcsfs is imported

import gcsfs.core
import pyarrow as pa

from bandicoot_core.contracts import PASSIVE_COUNTS
from bandicoot_core.stores.lake.lake import Lake

WEEK = "2026-11-15"
_STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir")


def counts(n_rows: int) -> pa.Table:
    """A table that says in every row how many rows it has."""
    return pa.table(
        {
            "n_rr": list(range(n_rows)),
            "n_ru": [0] * n_rows,
            "n_ur": [1] * n_rows,
            "n_uu": [2] * n_rows,
            "n_caregivers": [n_rows] * n_rows,
        }
    )


def write_counts(lake: Lake, n_rows: int) -> None:
    """Replace the partition of WEEK by a table and a file of so many rows and bytes."""
    tables = {"data": (PASSIVE_COUNTS, counts(n_rows))}
    lake.write("passive_counts", WEEK, tables, files={"mapper.skops": b"x" * n_rows}, facts={"n": n_rows})


def main(root: str, first: int, stride: int) -> None:
    """Replace the partition by 2, 3, 4, ... rows, killed at one step after the other, until one is done."""
    with tempfile.TemporaryDirectory() as elsewhere:
        write_counts(Lake(elsewhere), 1)  # what is imported on first use must not be imported in every child
    if root.startswith("az://"):
        importlib.import_module("bandicoot_core.stores.lake.azure_file_system")
    for attempt in itertools.count():
        child = os.fork()
        if child == 0:
            _die_at(first + attempt * stride, root)
            write_counts(Lake(root), 2 + attempt)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print("killed" if os.WIFSIGNALED(status) else f"done {os.WEXITSTATUS(status)}", flush=True)
        if not os.WIFSIGNALED(status):
            return
        sys.stdin.readline()


def _die_at(n_steps: int, root: str) -> None:
    n_seen = 0

    def step() -> None:
        nonlocal n_seen
        n_seen += 1
        if n_seen == n_steps:
            os.kill(os.getpid(), signal.SIGKILL)

    if "://" not in root:
        sys.addaudithook(
            lambda event, details: step() if event in _STEPS and str(details[0]).startswith(root) else None
        )
        return
    owner, name = gcsfs.core.GCSFileSystem, "_request"
    if root.startswith("az://"):
        owner, name = importlib.import_module("azure.core.pipeline.transport").AioHttpTransport, "send"
    request = getattr(owner, name)

    async def stepping(*args: Any, **options: Any) -> Any:
        step()
        answer = await request(*args, **options)
        step()
        return answer

    setattr(owner, name, stepping)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
