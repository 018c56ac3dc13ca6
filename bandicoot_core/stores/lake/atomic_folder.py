"""Replacing the content of a folder in one step, on local disk or an object store.

New files are put beside the old ones under names of their own; then the manifest, the only thing readers start from,
is replaced by an atomic rename (local) or a single conditional write (object store). Files of the generation before the
last are swept, so that a reader that has just opened the previous manifest can still finish.

Writers of one folder: on a local disk they wait for each other. An object store has no lock; there the manifest is
written on the condition that it is still the one this writer found before it brought its files, and a file is removed
on the condition that nobody has written it since. So of two writers one wins whole, and the other is told.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from upath import UPath

from bandicoot_core.errors import ConflictingWriteError
from bandicoot_core.stores.lake.manifest import MANIFEST_NAME, Manifest
from bandicoot_core.stores.lake.object_store import StoredText, is_local, read_stored, remove_stored, replace_stored

_LOCK_NAME = ".lock"


def commit_folder(
    folder: UPath, staging: Path, manifest: Manifest, *, replaces: Manifest | None = None, keep_previous: bool = True
) -> None:
    """Move the staged files named in the manifest into the folder and make the manifest current.

    staging: a folder on the same disk when `folder` is local; its files are moved. With `replaces`, only that manifest
    is replaced (ConflictingWriteError when another has become current), and files that it names are not staged.
    Without `keep_previous` the files of the generation before go at once, whoever reads them.
    """
    if is_local(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _exclusive(folder):
        current = folder / MANIFEST_NAME
        stored = read_stored(current)
        if replaces is not None and _readable(stored) != replaces:
            raise ConflictingWriteError(f"{current} was replaced by another writer in the meantime; run again")
        present = _generations(folder)
        for name in sorted(_file_names(manifest) - (_file_names(replaces) if replaces is not None else set())):
            _put(staging / name, folder / name)
        _replace_manifest(current, manifest, stored, staging)
        before = _readable(stored) if keep_previous else None
        _sweep(folder, present, manifest, before)


def purge_folder(folder: UPath) -> None:
    """Remove every file that the current manifest does not name, whoever reads it; nothing without a manifest."""
    if is_local(folder) and not folder.exists():
        return
    with _exclusive(folder):
        manifest = _readable(read_stored(folder / MANIFEST_NAME))
        if manifest is not None:
            _sweep(folder, _generations(folder), manifest, None)


def remove_folder(folder: UPath) -> None:
    """Remove a folder: its manifest first, so that it stops existing in one step. Nothing happens when it is absent."""
    if not is_local(folder):
        present = _generations(folder)
        for name in sorted(present, key=lambda name: name != MANIFEST_NAME):
            remove_stored(folder / name, present[name])
        return
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(str(folder))


def _file_names(manifest: Manifest) -> set[str]:
    return {entry.name for entry in manifest.entries.values()}


def _generations(folder: UPath) -> dict[str, str | None]:
    """The files that are in the folder, with the generation of each where the store has such."""
    if is_local(folder):
        return {child.name: None for child in folder.iterdir()}
    found = folder.fs.find(folder.path, detail=True)
    names = ("generation", "ETag", "etag")  # Google's, S3's and Azure's
    return {
        path.rpartition("/")[2]: next((info[name] for name in names if info.get(name)), None)
        for path, info in found.items()
    }


def _readable(stored: StoredText) -> Manifest | None:
    """The manifest that was stored; None when there was none, or garbage, which is replaced like none."""
    try:
        return Manifest.from_json(stored.text) if stored.text is not None else None
    except (ValueError, KeyError, TypeError):
        return None


def _put(staged: Path, target: UPath) -> None:
    if is_local(target):
        _sync(staged)
        _rename(staged, Path(str(target)))
    else:
        target.fs.put_file(str(staged), target.path)


def _replace_manifest(target: UPath, manifest: Manifest, before: StoredText, staging: Path) -> None:
    if not is_local(target):
        replace_stored(target, manifest.to_json(), before)
        return
    arriving = staging / MANIFEST_NAME
    arriving.write_text(manifest.to_json())
    _sync(arriving)
    _sync(Path(str(target)).parent)
    _rename(arriving, Path(str(target)))
    _sync(Path(str(target)).parent)


def _rename(source: Path, target: Path) -> None:
    """Put a file in the place of another in one step, also where a disk of its own is mounted on its folder."""
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".arriving-{os.getpid()}-{target.name}")
        try:
            shutil.copyfile(source, beside)
            _sync(beside)
            beside.replace(target)
        except BaseException:
            beside.unlink(missing_ok=True)  # on a full disk it would keep the room that is missing
            raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: UPath, present: dict[str, str | None], manifest: Manifest, before: Manifest | None) -> None:
    """Remove what was present and neither manifest names, left-overs of killed writers too."""
    keep = {MANIFEST_NAME, _LOCK_NAME, *_file_names(manifest), *(_file_names(before) if before is not None else ())}
    for name in sorted(set(present) - keep):
        if is_local(folder):
            (folder / name).unlink(missing_ok=True)
        else:
            remove_stored(folder / name, present[name])


@contextmanager
def _exclusive(folder: UPath) -> Iterator[None]:
    """Hold the folder's lock: one committing writer at a time on a local disk."""
    if not is_local(folder):
        yield
        return
    with (Path(str(folder)) / _LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
