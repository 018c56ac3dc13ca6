"""Scratch folders of a process: staged files of a partition, spilled rows of the engine.

A folder is removed when its block ends. What a killed process left is removed by the next one that makes a folder in
the same place: each folder has a lock file beside it that the living hold, so that nobody takes the folder of another.
"""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK_SUFFIX = ".lock"


@contextmanager
def scratch_folder(place: Path, purpose: str) -> Iterator[Path]:
    """An empty folder in `place`, removed on exit; those of dead processes with the same purpose are removed first."""
    place.mkdir(parents=True, exist_ok=True)
    sweep_dead(place, purpose)
    lock_path, descriptor = _locked_file(place, purpose)
    folder = lock_path.with_suffix("")
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        _remove(folder, lock_path)
        os.close(descriptor)


def sweep_dead(place: Path, purpose: str) -> list[Path]:
    """Remove the folders in `place` whose process has ended, and return them."""
    removed = []
    for lock_path in sorted(place.glob(f"{purpose}-*{_LOCK_SUFFIX}")):
        try:
            descriptor = os.open(lock_path, os.O_RDWR)
        except FileNotFoundError:
            continue  # its owner, or another sweep, has just removed it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # its owner lives
        else:
            if _is_still(lock_path, descriptor):
                _remove(lock_path.with_suffix(""), lock_path)
                removed.append(lock_path.with_suffix(""))
        finally:
            os.close(descriptor)
    return removed


def temporary_place() -> Path:
    """Where this user's scratch folders lie when nothing else is said: a folder of her own in the system's.

    PermissionError when somebody else has made a folder of that name.
    """
    place = Path(tempfile.gettempdir()) / f"bandicoot-{os.getuid()}"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    if place.is_symlink() or place.stat().st_uid != os.getuid():
        raise PermissionError(f"{place} belongs to somebody else; remove it, or set TMPDIR to a folder of your own")
    return place


def _locked_file(place: Path, purpose: str) -> tuple[Path, int]:
    """A new lock file, held. A sweep may take it between its making and its locking: then another is made."""
    while True:
        path = place / f"{purpose}-{uuid.uuid4().hex[:12]}{_LOCK_SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_still(path, descriptor):
            return path, descriptor
        os.close(descriptor)


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove(folder: Path, lock_path: Path) -> None:
    """The folder first: a lock file without a folder is harmless, a folder without one would stay for ever."""
    if folder.exists():
        shutil.rmtree(folder)
    lock_path.unlink(missing_ok=True)
