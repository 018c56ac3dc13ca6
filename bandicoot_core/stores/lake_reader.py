"""Scanning partitions of the lake into an engine, with the digests of what was read.

What a partition is and how it is replaced belongs to the lake; whether a file is sound, to verification.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import ibis
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import TableContract
from bandicoot_core.errors import CorruptPartitionError, OutdatedPartitionError
from bandicoot_core.stores.manifest import Manifest, combined_digest
from bandicoot_core.stores.object_store import is_local
from bandicoot_core.stores.verification import entry_of, verify_digest

if TYPE_CHECKING:
    from bandicoot_core.stores.lake import Lake


class LakeReader:
    """Scans partitions into an engine and remembers their digests, as the inputs of what is computed from them."""

    def __init__(self, lake: "Lake", engine: Backend) -> None:
        self._lake = lake
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

    def first_corrupt(self) -> CorruptPartitionError | None:
        """The first file read so far whose content is not what was written, as an error; None when all are."""
        for manifest, table in self._manifests:
            folder = self._lake.folder(manifest.asset, manifest.partition)
            try:
                verify_digest(folder, manifest, entry_of(manifest, table))
            except CorruptPartitionError as error:
                return error
        return None

    def _scan(self, contract: TableContract, asset: str, table: str, manifests: Sequence[Manifest]) -> ibis.Table:
        self.inputs[asset] = combined_digest(manifests)
        self._manifests.extend((manifest, table) for manifest in manifests)
        paths = [
            str(path) if is_local(path) else f"{path.protocol}://{path.path}"
            for path in self._lake.checked_paths([(manifest, table) for manifest in manifests])
        ]
        if not paths:
            return ibis.memtable(contract.empty())
        found = self._engine.read_parquet(paths)
        require_columns(manifests[0], contract, found.columns)
        return found.select(contract.column_names)


def require_columns(manifest: Manifest, contract: TableContract, found: Sequence[str]) -> None:
    """OutdatedPartitionError when a table lacks columns of its contract."""
    missing = [name for name in contract.column_names if name not in found]
    if missing:
        raise OutdatedPartitionError(
            f"{manifest.asset}/{manifest.partition}: {contract.name} lacks {', '.join(missing)}: it was written by "
            f"another version of the software; materialize {manifest.asset} for {manifest.partition} again"
        )
