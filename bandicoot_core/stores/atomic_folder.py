"""Replacing the content of a folder in one step, on local disk or an object store.

New files are put beside the old ones under names of their own; then the manifest, the only thing readers start from,
is replaced by an atomic rename (local) or a single object write (object store). Files of the generation before the
last are swept, so that a reader that has just opened the previous manifest can still finish.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

from bandicoot_core.stores.manifest import MANIFEST_NAME, Manifest

_LOCK_NAME = ".lock"


def is_local(path: UPath) -> bool:
    """Whether a path lies on the local file system."""
    return path.protocol in ("", "file", "local")


def commit_folder(folder: UPath, staging: Path, manifest: Manifest) -> None:
    """Move the staged files named in the manifest into the folder and make the manifest current."""
    folder.mkdir(parents=True, exist_ok=True)
    with _exclusive(folder):
        for entry in manifest.entries.values():
            _put(staging / entry.name, folder / entry.name)
        current = folder / MANIFEST_NAME
        before = Manifest.from_json(current.read_text()) if current.exists() else None
        keep = _file_names(manifest) | (_file_names(before) if before is not None else set())
        _replace_text(current, manifest.to_json())
        _sweep(folder, keep)


def _file_names(manifest: Manifest) -> set[str]:
    return {entry.name for entry in manifest.entries.values()}


def _put(staged: Path, target: UPath) -> None:
    if not is_local(target):
        target.fs.put_file(str(staged), target.path)
        return
    with _arriving(target) as arriving:
        shutil.copyfile(staged, arriving)


def _replace_text(target: UPath, text: str) -> None:
    if not is_local(target):
        target.write_text(text)
        return
    with _arriving(target) as arriving:
        arriving.write_text(text)
    _sync(Path(str(target)).parent)


@contextmanager
def _arriving(target: UPath) -> Iterator[Path]:
    """A file beside the target that takes its place when the block has filled it, and is gone when it failed."""
    arriving = Path(str(target)).with_name(f".arriving-{os.getpid()}-{target.name}")
    try:
        yield arriving
        _sync(arriving)
        arriving.replace(str(target))
    except BaseException:
        arriving.unlink(missing_ok=True)  # on a full disk it would keep the room that is missing
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: UPath, keep: set[str]) -> None:
    """Remove files that neither the current nor the previous manifest names, left-overs of killed writers too."""
    for child in folder.iterdir():
        if child.name not in keep and child.name not in (MANIFEST_NAME, _LOCK_NAME):
            child.unlink(missing_ok=True)


@contextmanager
def _exclusive(folder: UPath) -> Iterator[None]:
    """Hold the folder's lock: one committing writer at a time on a local disk.

    An object store has no such lock; there the one writer of a partition is held by the orchestration.
    """
    if not is_local(folder):
        yield
        return
    with (Path(str(folder)) / _LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
