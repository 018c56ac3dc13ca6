"""Where in the lake a caregiver is: how many rows a partition has of her, and whether any file may still hold her.

And which key is the highest in a partition, for those who ask whether a database knows them all.

Only row groups that may hold her are read. Taking her out belongs to removal.
"""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from bandicoot_core.stores.lake.lake import Lake

_KEY = "caregiver_key"


def count_rows(lake: Lake, asset: str, partition: str, caregiver_key: int) -> int:
    """How many rows of a partition are a caregiver's, over all its tables; 0 when it does not exist.

    Raises CorruptPartitionError when a file is absent or torn.
    """
    manifest = lake.manifest(asset, partition)
    if manifest is None:
        return 0
    tables = [(manifest, name) for name, entry in manifest.entries.items() if entry.n_rows is not None]
    return sum(_n_rows(path, caregiver_key) for path in lake.checked_paths(tables))


def is_in(lake: Lake, asset: str, partition: str, caregiver_key: int) -> bool:
    """Whether a file in the folder of a partition may hold a caregiver, one of an earlier generation included.

    True as well when a file cannot be read.
    """
    return any(
        _may_hold(path, caregiver_key)
        for path in lake.folder(asset, partition).iterdir()
        if path.name.endswith(".parquet")
    )


def highest_key_in(lake: Lake, asset: str, partition: str) -> int:
    """The highest caregiver_key in any table of a partition; 0 when it has none, or does not exist.

    Only the bounds that files keep of their rows are read where they have them. Raises CorruptPartitionError when a
    file is absent or torn.
    """
    manifest = lake.manifest(asset, partition)
    if manifest is None:
        return 0
    tables = [(manifest, name) for name, entry in manifest.entries.items() if entry.n_rows]
    return max((_highest_key(path) for path in lake.checked_paths(tables)), default=0)


def _highest_key(path: UPath) -> int:
    with path.open("rb") as stream:
        found = pq.ParquetFile(stream)
        if _KEY not in found.schema_arrow.names:
            return 0
        column = found.schema_arrow.names.index(_KEY)
        highest = 0
        for group in range(found.num_row_groups):
            statistics = found.metadata.row_group(group).column(column).statistics
            if statistics is not None and statistics.has_min_max:
                highest = max(highest, int(statistics.max))
            else:
                keys = found.read_row_group(group, columns=[_KEY])[_KEY]
                highest = max(highest, pc.max(keys).as_py() or 0)
        return highest


def _may_hold(path: UPath, caregiver_key: int) -> bool:
    try:
        return _n_rows(path, caregiver_key) > 0
    except FileNotFoundError:
        return False  # swept meanwhile
    except (pa.ArrowException, OSError):
        return True


def _n_rows(path: UPath, caregiver_key: int) -> int:
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
            keys = found.read_row_group(group, columns=[_KEY])[_KEY]
            n_rows += pc.sum(pc.fill_null(pc.equal(keys, caregiver_key), False)).as_py() or 0
        return int(n_rows)
