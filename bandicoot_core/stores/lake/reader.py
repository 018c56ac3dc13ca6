"""Scanning partitions of the lake into an engine, with the digests of what was read.

What a partition is and how it is replaced belongs to the lake; whether a file is sound, to verification.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
from ibis.backends.duckdb import Backend
from upath import UPath

from bandicoot_core.contracts import TableContract
from bandicoot_core.errors import ConflictingWriteError, CorruptPartitionError, OutdatedPartitionError
from bandicoot_core.stores.lake.manifest import Manifest, combined_digest
from bandicoot_core.stores.lake.object_store import ENGINE_NAMES, N_REQUESTS_AT_ONCE, reaching, read_small
from bandicoot_core.stores.lake.verification import entry_of, require_digest, require_size, verify_digest

if TYPE_CHECKING:
    from bandicoot_core.stores.lake.lake import Lake

_SMALL_BYTES = 8 << 20
"""Objects up to this size are fetched whole."""


class LakeReader:
    """Scans partitions into an engine and remembers their digests, as the inputs of what is computed from them."""

    def __init__(self, lake: "Lake", engine: Backend, copies: Path | None = None) -> None:
        """`copies`: a scratch folder for what is fetched whole, None for a lake on local disk."""
        self._lake = lake
        self._copies = copies
        self._engine = engine
        self._manifests: list[tuple[Manifest, str]] = []
        self.inputs: dict[str, str] = {}

    def scan(self, contract: TableContract, asset: str, partitions: Sequence[str], table: str = "data") -> ibis.Table:
        """The rows of some partitions as one table expression; MissingPartitionError when one is absent."""
        return self._scan(contract, asset, table, self._lake.require_all(asset, partitions))

    def scan_existing(
        self, contract: TableContract, asset: str, partitions: Sequence[str], table: str = "data"
    ) -> ibis.Table:
        """Like scan, over those of the partitions that exist."""
        found = self._lake.manifests(asset, partitions)
        return self._scan(contract, asset, table, [manifest for manifest in found if manifest is not None])

    def first_corrupt(self) -> CorruptPartitionError | ConflictingWriteError | None:
        """The first file read so far whose content is not what was written, as an error; None when all are.

        A file may also be gone because its partition was replaced twice while it was read: that is a conflict, and the
        same reading may be repeated.
        """
        for manifest, table in self._manifests:
            folder = self._lake.folder(manifest.asset, manifest.partition)
            try:
                verify_digest(folder, manifest, entry_of(manifest, table))
            except CorruptPartitionError as error:
                if self._lake.manifest(manifest.asset, manifest.partition) == manifest:
                    return error
                return ConflictingWriteError(
                    f"{manifest.asset}/{manifest.partition} was replaced twice while it was read; run again"
                )
        return None

    def _scan(self, contract: TableContract, asset: str, table: str, manifests: Sequence[Manifest]) -> ibis.Table:
        self.inputs[asset] = combined_digest(manifests)
        self._manifests.extend((manifest, table) for manifest in manifests)
        found = self._lake.checked_paths([(manifest, table) for manifest in manifests])
        paths = self._readable_paths(found, manifests, table)
        if not paths:
            return ibis.memtable(contract.empty())
        rows = self._engine.read_parquet(paths)
        require_columns(manifests[0], contract, rows.columns)
        return rows.select(contract.column_names)

    def _readable_paths(self, paths: Sequence[UPath], manifests: Sequence[Manifest], table: str) -> list[str]:
        """What the engine opens: a file of the local disk, a verified copy of a small object, or a large object.

        An engine opens objects one after the other and asks for each several times; small ones are fetched whole, many
        at once. Of a large one it reads the columns and row groups it needs.
        """
        if self._copies is None:
            return [str(path) for path in paths]
        entries = [entry_of(manifest, table) for manifest in manifests]
        small = [n for n, entry in enumerate(entries) if entry.n_bytes <= _SMALL_BYTES]
        readable = [f"{ENGINE_NAMES.get(path.protocol, path.protocol)}://{path.path}" for path in paths]
        for batch in (small[first : first + N_REQUESTS_AT_ONCE] for first in range(0, len(small), N_REQUESTS_AT_ONCE)):
            with reaching(self._lake.root):
                contents = read_small([paths[n] for n in batch])
            for n, content in zip(batch, contents, strict=True):
                require_size(manifests[n], entries[n], None if content is None else len(content))
                require_digest(manifests[n], entries[n], hashlib.sha256(content or b"").hexdigest())
                copy = self._copies / f"{manifests[n].asset}-{manifests[n].partition}-{entries[n].name}"
                copy.write_bytes(content or b"")
                readable[n] = str(copy)
        return readable


def require_columns(manifest: Manifest, contract: TableContract, found: Sequence[str]) -> None:
    """OutdatedPartitionError when a table lacks columns of its contract."""
    missing = [name for name in contract.column_names if name not in found]
    if missing:
        raise OutdatedPartitionError(
            f"{manifest.asset}/{manifest.partition}: {contract.name} lacks {', '.join(missing)}: it was written by "
            f"another version of the software; materialize {manifest.asset} for {manifest.partition} again"
        )
