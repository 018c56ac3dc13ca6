"""A small disk of its own (tmpfs) that can be filled to the last few bytes; needs root."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FILLER = "filler"


@contextmanager
def small_disk(folder: Path, *, n_bytes: int) -> Iterator[Path]:
    """Mount an empty disk of that size over a folder; what the folder held comes back at the end."""
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={n_bytes},mode=0755", "tmpfs", str(folder)], check=True, timeout=10
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=10)


def fill(disk: Path, *, n_free: int) -> None:
    """Leave about so many bytes free; a page (4 kB) is the smallest part."""
    free(disk)
    found = os.statvfs(disk)
    with (disk / _FILLER).open("wb") as filler:
        filler.write(b"x" * max(0, found.f_bavail * found.f_frsize - n_free))


def free(disk: Path) -> None:
    """Give the room back."""
    (disk / _FILLER).unlink(missing_ok=True)
