"""The lake: partitions of Parquet tables that are replaced atomically and verified when read.

A partition is a folder `<root>/<asset>/<partition>/` with content-named data files and one `manifest.json`. The
manifest is what makes a partition exist: it is replaced in one step after its files are complete, so a reader sees
the old partition or the new one, never a mix. It records rows, bytes and digests of every file, the digests of the
partitions it was computed from (`inputs`) and the settings that shaped it (`recipe`), which is all that staleness
needs. What the tables mean belongs to contracts; how they are computed, to engagement, model and policy.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend
from upath import UPath

from bandicoot_core.contracts import TableContract, conform
from bandicoot_core.errors import CorruptPartitionError, MissingPartitionError, OutdatedPartitionError
from bandicoot_core.stores.atomic_folder import commit_folder, is_local
from bandicoot_core.stores.disk_room import room_expected
from bandicoot_core.stores.manifest import MANIFEST_NAME, FileEntry, Manifest

_ROW_GROUP_ROWS = 65_536
_PARQUET_MAGIC = b"PAR1"


class Lake:
    """Partitions of named tables under one root, on local disk or any fsspec file system."""

    def __init__(self, root: str | UPath) -> None:
        self.root = UPath(root)

    def folder(self, asset: str, partition: str) -> UPath:
        """The folder of a partition, whether or not it exists."""
        return self.root / asset / partition

    def partitions(self, asset: str) -> list[str]:
        """Keys of the partitions that exist, in order."""
        folder = self.root / asset
        if not folder.exists():
            return []
        return sorted(child.name for child in folder.iterdir() if (child / MANIFEST_NAME).exists())

    def manifest(self, asset: str, partition: str) -> Manifest | None:
        """What the partition holds, or None when it does not exist; CorruptPartitionError when unreadable."""
        path = self.folder(asset, partition) / MANIFEST_NAME
        try:
            text = path.read_text()
        except FileNotFoundError:
            return None
        try:
            return Manifest.from_json(text)
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptPartitionError(
                f"{asset}/{partition}: {path} is not a manifest ({error}); materialize {asset} for {partition} again"
            ) from error

    def require(self, asset: str, partition: str) -> Manifest:
        """What the partition holds; MissingPartitionError names the asset to materialize if absent."""
        manifest = self.manifest(asset, partition)
        if manifest is None:
            raise MissingPartitionError(
                f"{asset}/{partition} does not exist in the lake ({self.root}); "
                f"materialize {asset} for {partition} first"
            )
        return manifest

    def read(self, contract: TableContract, asset: str, partition: str, table: str = "data") -> pa.Table:
        """A whole table of a partition in memory, for small tables; verified against its digest."""
        manifest = self.require(asset, partition)
        entry = self._entry(manifest, table)
        self._verify_digest(manifest, entry)
        path = self.folder(asset, partition) / entry.name
        with path.open("rb") as stream:
            found = pq.read_table(stream)
        _require_columns(manifest, contract, found.column_names)
        return found.select(contract.column_names).cast(contract.arrow_schema())

    def read_bytes(self, asset: str, partition: str, name: str) -> bytes:
        """A stored file that is not a table (for example a fitted mapper), verified against its digest."""
        manifest = self.require(asset, partition)
        entry = self._entry(manifest, name)
        self._verify_digest(manifest, entry)
        return bytes((self.folder(asset, partition) / entry.name).read_bytes())

    def corrupt_partitions(self, asset: str) -> list[str]:
        """Keys of the partitions of which a file is absent or not what was written, in order; reads every byte."""
        found = []
        for partition in self.partitions(asset):
            try:
                manifest = self.require(asset, partition)
                for entry in manifest.entries.values():
                    self._verify_digest(manifest, entry)
            except CorruptPartitionError:
                found.append(partition)
        return found

    @contextmanager
    def reader(self, engine: Backend) -> Iterator["LakeReader"]:
        """A reader that remembers what it read; an error inside is explained when a file turns out corrupt."""
        if not is_local(self.root):
            engine.con.register_filesystem(self.root.fs)
        reader = LakeReader(self, engine)
        try:
            yield reader
        except Exception as error:
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
        stored in the contract's order. ValueError when a table breaks its contract's columns, types or nulls;
        StorageFullError when a disk is full: the old partition stays then.
        """
        where = f"{self.root} and {tempfile.gettempdir()}"
        with (
            room_expected(f"{asset}/{partition}", where),
            tempfile.TemporaryDirectory(prefix="bandicoot-write-") as folder,
        ):
            staging = Path(folder)
            entries: dict[str, FileEntry] = {}
            for name, (contract, table) in tables.items():
                staged = staging / f"{name}.parquet"
                if isinstance(table, pa.Table):
                    _write_arrow(conform(table, contract), staged)
                else:
                    _write_expression(table, contract, staged, engine)
                entries[name] = _name_by_content(staged, n_rows=_checked_row_count(staged, contract))
            for name, content in (files or {}).items():
                staged = staging / name
                staged.write_bytes(content)
                entries[name] = _name_by_content(staged, n_rows=None)
            manifest = Manifest(
                asset=asset,
                partition=partition,
                entries=entries,
                inputs=dict(inputs or {}),
                recipe=dict(recipe or {}),
                facts=dict(facts or {}),
            )
            commit_folder(self.folder(asset, partition), staging, manifest)
        return manifest

    def remove(self, asset: str, partition: str) -> None:
        """Remove a partition: it stops existing in one step, then its files go. Nothing happens when absent."""
        folder = self.folder(asset, partition)
        (folder / MANIFEST_NAME).unlink(missing_ok=True)
        if not folder.exists():
            return
        if is_local(folder):
            shutil.rmtree(str(folder))
        else:
            folder.fs.rm(folder.path, recursive=True)

    def digest(self, asset: str, partitions: Sequence[str]) -> str:
        """One digest for a set of existing partitions; MissingPartitionError when one is absent."""
        parts = [f"{key}={self.require(asset, key).digest}" for key in sorted(partitions)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _entry(self, manifest: Manifest, name: str) -> FileEntry:
        try:
            return manifest.entries[name]
        except KeyError:
            raise CorruptPartitionError(
                f"{manifest.asset}/{manifest.partition} has no {name!r}, only {sorted(manifest.entries)}; "
                f"materialize {manifest.asset} for {manifest.partition} again"
            ) from None

    def _checked_path(self, manifest: Manifest, entry: FileEntry) -> UPath:
        """The path of a file after the cheap checks: present, right size, ends like Parquet."""
        path = self.folder(manifest.asset, manifest.partition) / entry.name
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

    def _verify_digest(self, manifest: Manifest, entry: FileEntry) -> None:
        path = self._checked_path(manifest, entry)
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            while block := stream.read(1 << 20):
                digest.update(block)
            found = digest.hexdigest()
        if found != entry.sha256:
            raise _corrupt(manifest, entry, "does not have the content that was written")


class LakeReader:
    """Scans partitions into an engine and remembers their digests, as the inputs of what is computed from them."""

    def __init__(self, lake: Lake, engine: Backend) -> None:
        self._lake = lake
        self._engine = engine
        self._manifests: list[tuple[Manifest, str]] = []
        self.inputs: dict[str, str] = {}

    def scan(self, contract: TableContract, asset: str, partitions: Sequence[str], table: str = "data") -> ibis.Table:
        """The rows of some partitions as one table expression; MissingPartitionError when one is absent."""
        manifests = [self._lake.require(asset, partition) for partition in partitions]
        return self._scan(contract, asset, table, manifests)

    def scan_existing(
        self, contract: TableContract, asset: str, partitions: Sequence[str], table: str = "data"
    ) -> ibis.Table:
        """Like scan, over those of the partitions that exist."""
        found = [self._lake.manifest(asset, partition) for partition in partitions]
        return self._scan(contract, asset, table, [manifest for manifest in found if manifest is not None])

    def first_corrupt(self) -> CorruptPartitionError | None:
        """The first file read so far whose content is not what was written, as an error; None when all are."""
        for manifest, table in self._manifests:
            try:
                self._lake._verify_digest(manifest, self._lake._entry(manifest, table))
            except CorruptPartitionError as error:
                return error
        return None

    def _scan(self, contract: TableContract, asset: str, table: str, manifests: Sequence[Manifest]) -> ibis.Table:
        parts = [f"{manifest.partition}={manifest.digest}" for manifest in manifests]
        self.inputs[asset] = hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()
        self._manifests.extend((manifest, table) for manifest in manifests)
        paths = []
        for manifest in manifests:
            path = self._lake._checked_path(manifest, self._lake._entry(manifest, table))
            paths.append(str(path) if is_local(path) else f"{path.protocol}://{path.path}")
        if not paths:
            return ibis.memtable(contract.empty())
        found = self._engine.read_parquet(paths)
        _require_columns(manifests[0], contract, found.columns)
        return found.select(contract.column_names)


def _write_expression(table: ibis.Table, contract: TableContract, path: Path, engine: Backend | None) -> None:
    if engine is None:
        raise ValueError(f"{contract.name}: writing a table expression needs the engine that executes it")
    missing = [name for name in contract.column_names if name not in table.columns]
    if missing:
        raise ValueError(f"{contract.name}: columns {missing} are missing; found {list(table.columns)}")
    wanted = ibis.schema(contract.arrow_schema())
    columns = [table[name].cast(wanted[name].copy(nullable=True)) for name in contract.column_names]
    shaped = table.select(*(value.name(name) for name, value in zip(contract.column_names, columns, strict=True)))
    if contract.sort_by:
        shaped = shaped.order_by(list(contract.sort_by))
    engine.to_parquet(shaped, path, compression="zstd", row_group_size=_ROW_GROUP_ROWS)


def _write_arrow(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", row_group_size=_ROW_GROUP_ROWS)


def _checked_row_count(path: Path, contract: TableContract) -> int:
    """Rows of a staged Parquet file; ValueError when a column that must not be null holds nulls."""
    metadata = pq.read_metadata(path)
    required = {column.name for column in contract.columns if not column.is_nullable}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            statistics = chunk.statistics
            if chunk.path_in_schema in required and statistics is not None and statistics.null_count:
                raise ValueError(
                    f"{contract.name}.{chunk.path_in_schema}: {statistics.null_count} nulls where none are allowed"
                )
    return int(metadata.num_rows)


def _name_by_content(staged: Path, *, n_rows: int | None) -> FileEntry:
    with staged.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    name = f"{staged.stem}-{sha256[:16]}{staged.suffix}"
    n_bytes = staged.stat().st_size
    staged.rename(staged.with_name(name))
    return FileEntry(name=name, n_bytes=n_bytes, sha256=sha256, n_rows=n_rows)


def _require_columns(manifest: Manifest, contract: TableContract, found: Sequence[str]) -> None:
    missing = [name for name in contract.column_names if name not in found]
    if missing:
        raise OutdatedPartitionError(
            f"{manifest.asset}/{manifest.partition}: {contract.name} lacks {', '.join(missing)}: it was written by "
            f"another version of the software; materialize {manifest.asset} for {manifest.partition} again"
        )


def _corrupt(manifest: Manifest, entry: FileEntry, what: str) -> CorruptPartitionError:
    return CorruptPartitionError(
        f"{manifest.asset}/{manifest.partition}: {entry.name} {what}; "
        f"materialize {manifest.asset} for {manifest.partition} again"
    )
