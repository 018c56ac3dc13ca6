"""Whether the files of a partition are still what was written, from their manifest.

Cheap checks before a file is read (present, size, ends like Parquet), the digest when it is read whole or when in
doubt. Every error names the asset and partition to materialize again, which heals it.
"""

import hashlib

from upath import UPath

from bandicoot_core.errors import CorruptPartitionError
from bandicoot_core.stores.lake.manifest import FileEntry, Manifest
from bandicoot_core.stores.lake.object_store import is_local

_PARQUET_MAGIC = b"PAR1"
_BLOCK_BYTES = 4 << 20
_OBJECT_BLOCK_BYTES = 64 << 20


def entry_of(manifest: Manifest, name: str) -> FileEntry:
    """The file of that name; CorruptPartitionError when the partition has none."""
    try:
        return manifest.entries[name]
    except KeyError:
        raise CorruptPartitionError(
            f"{manifest.asset}/{manifest.partition} has no {name!r}, only {sorted(manifest.entries)}; "
            f"materialize {manifest.asset} for {manifest.partition} again"
        ) from None


def require_size(manifest: Manifest, entry: FileEntry, n_bytes: int | None) -> None:
    """CorruptPartitionError when a file does not have the size that was written; None is a file that is not there."""
    if n_bytes is None:
        raise _corrupt(manifest, entry, "is gone")
    if n_bytes != entry.n_bytes:
        raise _corrupt(manifest, entry, f"has {n_bytes} bytes where {entry.n_bytes} were written")


def checked_path(folder: UPath, manifest: Manifest, entry: FileEntry) -> UPath:
    """The path of a file after the cheap checks: present, right size, on a local disk an end like Parquet's."""
    path = folder / entry.name
    try:
        n_bytes = path.stat().st_size
    except FileNotFoundError:
        n_bytes = None
    require_size(manifest, entry, n_bytes)
    if entry.name.endswith(".parquet") and is_local(path):
        with path.open("rb") as stream:
            stream.seek(-len(_PARQUET_MAGIC), 2)
            if stream.read() != _PARQUET_MAGIC:
                raise _corrupt(manifest, entry, "does not end like a Parquet file")
    return path


def sound_bytes(folder: UPath, manifest: Manifest, entry: FileEntry) -> bytes:
    """The content of a small file, read once and checked against its digest."""
    try:
        content = bytes((folder / entry.name).read_bytes())
    except FileNotFoundError:
        raise _corrupt(manifest, entry, "is gone") from None
    if len(content) != entry.n_bytes:
        raise _corrupt(manifest, entry, f"has {len(content)} bytes where {entry.n_bytes} were written")
    require_digest(manifest, entry, hashlib.sha256(content).hexdigest())
    return content


def verify_digest(folder: UPath, manifest: Manifest, entry: FileEntry) -> None:
    """CorruptPartitionError when a file does not have the content that was written; reads it whole."""
    path = checked_path(folder, manifest, entry)
    digest = hashlib.sha256()
    if is_local(path):
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    else:
        for start in range(0, entry.n_bytes, _OBJECT_BLOCK_BYTES):
            digest.update(path.fs.cat_file(path.path, start=start, end=start + _OBJECT_BLOCK_BYTES))
    require_digest(manifest, entry, digest.hexdigest())


def require_digest(manifest: Manifest, entry: FileEntry, found: str) -> None:
    """CorruptPartitionError when a digest is not the one that was written."""
    if found != entry.sha256:
        raise _corrupt(manifest, entry, "does not have the content that was written")


def _corrupt(manifest: Manifest, entry: FileEntry, what: str) -> CorruptPartitionError:
    return CorruptPartitionError(
        f"{manifest.asset}/{manifest.partition}: {entry.name} {what}; "
        f"materialize {manifest.asset} for {manifest.partition} again"
    )
