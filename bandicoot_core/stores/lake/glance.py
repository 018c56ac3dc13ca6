"""The first rows of a table of the lake, without reading all of it.

For people who want to see what rows look like. What is computed with comes from `Lake.read` and from readers, which
verify what they read.
"""

import pyarrow as pa
import pyarrow.parquet as pq

from bandicoot_core.contracts import TableContract
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.lake.object_store import reaching


def first_rows(lake: Lake, contract: TableContract, manifest: Manifest, n_rows: int = 10) -> pa.Table:
    """Up to `n_rows` rows of the table `data` of a partition, in the order it is stored in.

    One group of rows is read at most, however many rows there are. CorruptPartitionError when the file is absent or
    of another size, UnreachableError when the lake does not answer.
    """
    (path,) = lake.checked_paths([(manifest, "data")])
    with reaching(lake.root), path.open("rb") as stream:
        batches = pq.ParquetFile(stream).iter_batches(batch_size=n_rows, columns=list(contract.column_names))
        first = next(batches, None)
        table = contract.empty() if first is None else pa.Table.from_batches([first])
    return table.select(contract.column_names).cast(contract.arrow_schema())
