"""Scratch folders: the living keep theirs, and those of the dead go."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bandicoot_core.errors import StorageFullError
from bandicoot_core.stores.lake.scratch import scratch_folder, sweep_dead

_HOLDER = """
import sys, time
from pathlib import Path
from bandicoot_core.stores.lake.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "write") as folder:
    (folder / "rows.parquet").write_bytes(b"x" * 1000)
    print(folder, flush=True)
    time.sleep(600)
"""


def holder(place: Path) -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_process_leaves_a_folder_that_the_next_one_removes_while_the_living_keep_theirs(
    tmp_path: Path,
) -> None:
    dead, left = holder(tmp_path)
    living, held = holder(tmp_path)
    dead.send_signal(signal.SIGKILL)
    dead.wait()
    assert left.exists()
    with scratch_folder(tmp_path, "spill"):
        assert left.exists(), "another purpose is another's business"
    with scratch_folder(tmp_path, "write") as mine:
        assert not left.exists()
        assert (held / "rows.parquet").exists()
        assert list(mine.iterdir()) == []
    living.kill()
    living.wait()
    assert sweep_dead(tmp_path, "write") == [held]
    assert list(tmp_path.iterdir()) == []


def test_many_threads_that_make_and_sweep_at_once_never_take_each_others_folder(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(40):
                with scratch_folder(tmp_path, "write") as folder:
                    (folder / "file").write_text("mine")
                    assert (folder / "file").read_text() == "mine"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_folder(tmp_path, "write") as folder:
            (folder / "half").write_text("half")
            raise StorageFullError("full")

    with pytest.raises(StorageFullError):
        fail()
    assert list(tmp_path.iterdir()) == []
