"""The lake: partitions of Parquet tables that are replaced atomically and verified when read.

A partition is a folder `<root>/<asset>/<partition>/` with content-named data files and one `manifest.json`. The
manifest is what makes a partition exist: it is replaced in one step after its files are complete, so a reader sees
the old partition or the new one, never a mix. It records rows, bytes and digests of every file, the digests of the
partitions it was computed from (`inputs`) and the settings that shaped it (`recipe`), which is all that staleness
needs. What the tables mean belongs to contracts; how they are computed, to engagement, model and policy.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend
from upath import UPath

from bandicoot_core.contracts import TableContract
from bandicoot_core.errors import CorruptPartitionError, MissingPartitionError
from bandicoot_core.stores.lake.atomic_folder import commit_folder, remove_folder
from bandicoot_core.stores.lake.full_disk import explaining_full_disk
from bandicoot_core.stores.lake.manifest import MANIFEST_NAME, FileEntry, Manifest, combined_digest
from bandicoot_core.stores.lake.object_store import is_local, open_root, reaching, read_small
from bandicoot_core.stores.lake.parquet_files import name_by_content, write_table
from bandicoot_core.stores.lake.reader import LakeReader, require_columns
from bandicoot_core.stores.lake.removal import rewrite_without
from bandicoot_core.stores.lake.scratch import scratch_folder, temporary_place
from bandicoot_core.stores.lake.verification import checked_path, entry_of, require_size, sound_bytes, verify_digest

_STAGING = ".staging"


class Lake:
    """Partitions of named tables under one root, on local disk or any fsspec file system.

    `timeout_seconds` bounds each request to an object store. Every method raises UnreachableError when that does not
    answer, and InvalidSettingError when it does not let this process in.
    """

    def __init__(self, root: str | UPath, *, timeout_seconds: float = 120) -> None:
        self.root = open_root(root, timeout_seconds=timeout_seconds) if isinstance(root, str) else root

    def folder(self, asset: str, partition: str) -> UPath:
        """The folder of a partition, whether or not it exists."""
        return self.root / asset / partition

    def assets(self) -> list[str]:
        """Names of the assets that have a folder, in order."""
        if is_local(self.root):
            folder = Path(str(self.root))
            names = [child.name for child in folder.iterdir() if child.is_dir()] if folder.exists() else []
        else:
            with reaching(self.root):
                found = self.root.fs.glob(f"{self.root.path}/*/*/{MANIFEST_NAME}")
            names = [path.split("/")[-3] for path in found]
        return sorted({name for name in names if not name.startswith(".")})

    def partitions(self, asset: str) -> list[str]:
        """Keys of the partitions that exist, in order; one listing, however many there are."""
        folder = self.root / asset
        if is_local(folder):
            children = Path(str(folder)).iterdir() if folder.exists() else iter(())
            return sorted(child.name for child in children if (child / MANIFEST_NAME).exists())
        with reaching(self.root):
            found = folder.fs.find(folder.path)
        return sorted(path.split("/")[-2] for path in found if path.rpartition("/")[2] == MANIFEST_NAME)

    def manifest(self, asset: str, partition: str) -> Manifest | None:
        """What the partition holds, or None when it does not exist; CorruptPartitionError when unreadable."""
        return self.manifests(asset, [partition])[0]

    def require(self, asset: str, partition: str) -> Manifest:
        """What the partition holds; MissingPartitionError names the asset to materialize if absent."""
        return self.require_all(asset, [partition])[0]

    def manifests(self, asset: str, partitions: Sequence[str]) -> list[Manifest | None]:
        """The manifests of some partitions, None for those that do not exist; of an object store many at once.

        CorruptPartitionError names the first that can't be read.
        """
        paths = {partition: self.folder(asset, partition) / MANIFEST_NAME for partition in partitions}
        with reaching(self.root):
            contents = read_small(list(paths.values()))
        return [
            None if content is None else _parsed(asset, partition, path, content)
            for (partition, path), content in zip(paths.items(), contents, strict=True)
        ]

    def require_all(self, asset: str, partitions: Sequence[str]) -> list[Manifest]:
        """The manifests of some partitions; MissingPartitionError names the first that does not exist."""
        found = []
        for partition, manifest in zip(partitions, self.manifests(asset, partitions), strict=True):
            if manifest is None:
                raise MissingPartitionError(
                    f"{asset}/{partition} does not exist in the lake ({self.root}); "
                    f"materialize {asset} for {partition} first"
                )
            found.append(manifest)
        return found

    def checked_paths(self, tables: Sequence[tuple[Manifest, str]]) -> list[UPath]:
        """Paths of some tables after the cheap checks; CorruptPartitionError for the first that fails them."""
        found = [(manifest, entry_of(manifest, table)) for manifest, table in tables]
        with reaching(self.root):
            if is_local(self.root) or len(found) < 2:
                return [checked_path(self._folder_of(manifest), manifest, entry) for manifest, entry in found]
            # One listing of the asset instead of a request for each file.
            sizes = self.root.fs.find((self.root / found[0][0].asset).path, detail=True)
        paths = []
        for manifest, entry in found:
            path = self._folder_of(manifest) / entry.name
            require_size(manifest, entry, sizes.get(path.path, {}).get("size"))
            paths.append(path)
        return paths

    def read(self, contract: TableContract, asset: str, partition: str, table: str = "data") -> pa.Table:
        """A whole table of a partition in memory, for small tables; verified against its digest."""
        manifest, content = self._sound_bytes(asset, partition, table)
        found = pq.read_table(pa.BufferReader(content))
        require_columns(manifest, contract, found.column_names)
        return found.select(contract.column_names).cast(contract.arrow_schema())

    def read_bytes(self, asset: str, partition: str, name: str) -> bytes:
        """A stored file that is not a table (for example a fitted mapper), verified against its digest."""
        return self._sound_bytes(asset, partition, name)[1]

    def verify(self, asset: str, partition: str) -> list[CorruptPartitionError]:
        """What is wrong with a partition, every byte read; empty when it is sound or does not exist."""
        try:
            manifest = self.manifest(asset, partition)
        except CorruptPartitionError as error:
            return [error]
        if manifest is None:
            return []
        found = []
        for entry in manifest.entries.values():
            try:
                with reaching(self.root):
                    verify_digest(self._folder_of(manifest), manifest, entry)
            except CorruptPartitionError as error:
                found.append(error)
        return found

    def corrupt_partitions(self, asset: str) -> list[str]:
        """Keys of the partitions of which a file is absent or not what was written, in order; reads every byte."""
        return [partition for partition in self.partitions(asset) if self.verify(asset, partition)]

    @contextmanager
    def reader(self, engine: Backend) -> Iterator[LakeReader]:
        """A reader that remembers what it read; an error inside is explained when a file turns out corrupt."""
        if is_local(self.root):
            yield from self._explained(LakeReader(self, engine))
            return
        engine.con.register_filesystem(self.root.fs)
        with scratch_folder(temporary_place(), "read") as copies:
            yield from self._explained(LakeReader(self, engine, copies))

    def _explained(self, reader: LakeReader) -> Iterator[LakeReader]:
        try:
            yield reader
        except Exception as error:
            with reaching(self.root):
                corrupt = reader.first_corrupt()
            if corrupt is not None:
                raise corrupt from error
            raise

    def write(
        self,
        asset: str,
        partition: str,
        tables: Mapping[str, tuple[TableContract, pa.Table | ibis.Table]],
        *,
        engine: Backend | None = None,
        files: Mapping[str, bytes] | None = None,
        inputs: Mapping[str, str] | None = None,
        recipe: Mapping[str, Any] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Replace a partition by these tables and files in one step, and return its manifest.

        Table expressions are streamed to Parquet by `engine`; Arrow tables are written as they are. Rows are
        stored in the contract's order. ValueError when a table breaks its contract's columns, types or nulls,
        StorageFullError when a disk is full, ConflictingWriteError when another writer was faster on an object store.
        """
        with self.staging(f"{asset}/{partition}") as staging:
            entries: dict[str, FileEntry] = {}
            for name, (contract, table) in tables.items():
                entries[name] = write_table(table, contract, staging / f"{name}.parquet", engine)
            for name, content in (files or {}).items():
                staged = staging / name
                staged.write_bytes(content)
                entries[name] = name_by_content(staged, n_rows=None)
            manifest = Manifest(
                asset=asset,
                partition=partition,
                entries=entries,
                inputs=dict(inputs or {}),
                recipe=dict(recipe or {}),
                facts=dict(facts or {}),
            )
            manifest = self._as_rewritten(manifest)
            commit_folder(self.folder(asset, partition), staging, manifest)
        return manifest

    def rewrite_without(self, asset: str, partition: str, caregiver_key: int, *, engine: Backend) -> Manifest | None:
        """Replace a partition by one without a caregiver's rows; None when it has none of them, or does not exist.

        Files of earlier generations go as well. The new manifest has the old digest: nothing downstream becomes stale.
        Errors are those of stores.removal.
        """
        manifest = self.manifest(asset, partition)
        if manifest is None:
            return None
        with self.staging(f"{asset}/{partition}") as staging:
            folder = self.folder(asset, partition)
            return rewrite_without(folder, staging, manifest, caregiver_key, engine=engine)

    def remove(self, asset: str, partition: str) -> None:
        """Remove a partition: it stops existing in one step, then its files go. Nothing happens when absent."""
        with reaching(self.root):
            remove_folder(self.folder(asset, partition))

    def clear(self) -> None:
        """Remove everything in the lake."""
        if is_local(self.root):
            if self.root.exists():
                shutil.rmtree(str(self.root))
            return
        for asset in self.assets():
            for partition in self.partitions(asset):
                self.remove(asset, partition)

    def digest(self, asset: str, partitions: Sequence[str]) -> str:
        """One digest for a set of existing partitions; MissingPartitionError when one is absent."""
        return combined_digest(self.require_all(asset, partitions))

    @contextmanager
    def staging(self, what: str) -> Iterator[Path]:
        """A scratch folder for the files of a partition: on the lake's own disk, or for an object store on this one."""
        place = Path(str(self.root)) / _STAGING if is_local(self.root) else temporary_place()
        existing = next(parent for parent in (place, *place.parents) if parent.exists())
        with explaining_full_disk(what, existing), reaching(self.root), scratch_folder(place, "write") as folder:
            yield folder

    def _sound_bytes(self, asset: str, partition: str, name: str) -> tuple[Manifest, bytes]:
        """A file and the manifest that names it; begun again when the partition is replaced twice meanwhile."""
        manifest = self.require(asset, partition)
        while True:
            try:
                with reaching(self.root):
                    return manifest, sound_bytes(self._folder_of(manifest), manifest, entry_of(manifest, name))
            except CorruptPartitionError:
                current = self.require(asset, partition)
                if current == manifest:
                    raise
                manifest = current

    def _as_rewritten(self, manifest: Manifest) -> Manifest:
        """The same bytes that a removal left keep the digest from before it."""
        try:
            current = self.manifest(manifest.asset, manifest.partition)
        except CorruptPartitionError:
            return manifest
        if current is None or current.content_digest != manifest.content_digest:
            return manifest
        return replace(manifest, digest_before=current.digest_before, n_rewrites=current.n_rewrites)

    def _folder_of(self, manifest: Manifest) -> UPath:
        return self.folder(manifest.asset, manifest.partition)


def _parsed(asset: str, partition: str, path: UPath, content: bytes) -> Manifest:
    try:
        return Manifest.from_json(content.decode())
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptPartitionError(
            f"{asset}/{partition}: {path} is not a manifest ({error}); materialize {asset} for {partition} again"
        ) from error
