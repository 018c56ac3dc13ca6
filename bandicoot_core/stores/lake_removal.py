"""Taking one caregiver out of partitions of the lake, and finding where she is.

A partition is replaced as a whole, like by any writer; only then are the files of the generation before, which readers
under way would still have found, gone as well. What is not hers stays, row by row. Which caregiver, and in which order
assets are gone through, belongs to pipeline.forgetting.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from bandicoot_core.stores.atomic_folder import commit_folder
from bandicoot_core.stores.lake import Lake, _name_by_content
from bandicoot_core.stores.manifest import FileEntry, Manifest

_KEY = "caregiver_key"


def assets_of(lake: Lake) -> list[str]:
    """Every asset with a folder in the lake, by name."""
    return sorted(child.name for child in lake.root.iterdir() if child.is_dir()) if lake.root.exists() else []


def count_rows(lake: Lake, asset: str, partition: str, caregiver_key: int) -> int:
    """How many rows of a partition are a caregiver's, over all its tables; 0 when it does not exist."""
    manifest = lake.manifest(asset, partition)
    if manifest is None:
        return 0
    return sum(_n_rows(path, caregiver_key) for path in _tables(lake, manifest))


def remove_rows(lake: Lake, asset: str, partition: str, caregiver_key: int) -> int:
    """Replace a partition by one without a caregiver's rows, and return how many those were.

    A partition without any keeps its bytes. Files that are no part of it any more go when they hold her, or when nobody
    can tell. Be the partition's only writer. Raises CorruptPartitionError when a file of it is not what was written.
    """
    manifest = lake.manifest(asset, partition)
    if manifest is None or not is_in(lake, asset, partition, caregiver_key):
        return 0
    for entry in manifest.entries.values():
        lake._verify_digest(manifest, entry)
    n_removed = count_rows(lake, asset, partition, caregiver_key)
    if n_removed:
        manifest = _rewrite(lake, manifest, caregiver_key)
    current = {entry.name for entry in manifest.entries.values()}
    for path in _parquet_files(lake, asset, partition):
        if path.name not in current and _may_hold(path, caregiver_key):
            path.unlink(missing_ok=True)
    return n_removed


def is_in(lake: Lake, asset: str, partition: str, caregiver_key: int) -> bool:
    """Whether a file of a partition may hold a caregiver, one of an earlier generation included."""
    return any(_may_hold(path, caregiver_key) for path in _parquet_files(lake, asset, partition))


def _rewrite(lake: Lake, manifest: Manifest, caregiver_key: int) -> Manifest:
    folder = lake.folder(manifest.asset, manifest.partition)
    with tempfile.TemporaryDirectory(prefix="bandicoot-forget-") as staging_folder:
        staging = Path(staging_folder)
        entries: dict[str, FileEntry] = {}
        for name, entry in manifest.entries.items():
            path = folder / entry.name
            if entry.n_rows is not None and _n_rows(path, caregiver_key):
                staged = staging / f"{name}.parquet"
                entries[name] = _name_by_content(staged, n_rows=_copy_without(path, staged, caregiver_key))
                continue
            with path.open("rb") as found, (staging / entry.name).open("wb") as staged_file:
                shutil.copyfileobj(found, staged_file)
            entries[name] = entry
        rewritten = replace(manifest, entries=entries)
        commit_folder(folder, staging, rewritten)
    return rewritten


def _copy_without(path: UPath, target: Path, caregiver_key: int) -> int:
    """Copy a Parquet file row group by row group, leaving a caregiver out; return the rows of the copy."""
    n_rows = 0
    with path.open("rb") as stream:
        found = pq.ParquetFile(stream)
        with pq.ParquetWriter(target, found.schema_arrow, compression="zstd") as writer:
            for group in range(found.num_row_groups):
                rows = found.read_row_group(group)
                kept = rows.filter(pc.invert(_is_hers(rows, caregiver_key)))
                writer.write_table(kept, row_group_size=max(kept.num_rows, 1))
                n_rows += kept.num_rows
    return n_rows


def _tables(lake: Lake, manifest: Manifest) -> Iterator[UPath]:
    for entry in manifest.entries.values():
        if entry.n_rows is not None:
            yield lake._checked_path(manifest, entry)


def _parquet_files(lake: Lake, asset: str, partition: str) -> list[UPath]:
    return [path for path in lake.folder(asset, partition).iterdir() if path.name.endswith(".parquet")]


def _may_hold(path: UPath, caregiver_key: int) -> bool:
    """Whether a file holds a caregiver's rows; true as well when it cannot be read, false when it has gone."""
    try:
        return _n_rows(path, caregiver_key) > 0
    except FileNotFoundError:
        return False
    except (pa.ArrowException, OSError):
        return True


def _n_rows(path: UPath, caregiver_key: int) -> int:
    """Rows of a caregiver in a Parquet file; only row groups that may hold her are read."""
    with path.open("rb") as stream:
        found = pq.ParquetFile(stream)
        if _KEY not in found.schema_arrow.names:
            return 0
        column = found.schema_arrow.names.index(_KEY)
        n_rows = 0
        for group in range(found.num_row_groups):
            statistics = found.metadata.row_group(group).column(column).statistics
            has_bounds = statistics is not None and statistics.has_min_max
            if has_bounds and not statistics.min <= caregiver_key <= statistics.max:
                continue
            n_rows += pc.sum(_is_hers(found.read_row_group(group, columns=[_KEY]), caregiver_key)).as_py() or 0
        return int(n_rows)


def _is_hers(rows: pa.Table, caregiver_key: int) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(rows[_KEY], caregiver_key), False)
