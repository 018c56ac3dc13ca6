"""Whether the files of a partition are still what was written, from their manifest.

Cheap checks before a file is read (present, size, ends like Parquet), the digest when it is read whole or when in
doubt. Every error names the asset and partition to materialize again, which heals it.
"""

import hashlib

from upath import UPath

from bandicoot_core.errors import CorruptPartitionError
from bandicoot_core.stores.manifest import FileEntry, Manifest

_PARQUET_MAGIC = b"PAR1"
_BLOCK_BYTES = 4 << 20


def entry_of(manifest: Manifest, name: str) -> FileEntry:
    """The file of that name; CorruptPartitionError when the partition has none."""
    try:
        return manifest.entries[name]
    except KeyError:
        raise CorruptPartitionError(
            f"{manifest.asset}/{manifest.partition} has no {name!r}, only {sorted(manifest.entries)}; "
            f"materialize {manifest.asset} for {manifest.partition} again"
        ) from None


def checked_path(folder: UPath, manifest: Manifest, entry: FileEntry) -> UPath:
    """The path of a file after the cheap checks: present, right size, ends like Parquet."""
    path = folder / entry.name
    try:
        n_bytes = path.stat().st_size
    except FileNotFoundError:
        raise _corrupt(manifest, entry, "is gone") from None
    if n_bytes != entry.n_bytes:
        raise _corrupt(manifest, entry, f"has {n_bytes} bytes where {entry.n_bytes} were written")
    if entry.name.endswith(".parquet"):
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
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
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
