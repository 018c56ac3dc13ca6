"""Writing one Parquet file of a partition, and giving it the name that says what is in it.

Rows lie in the contract's order, so that the same rows give the same bytes. Which files make a partition belongs to the
lake; whether a file is still what was written, to verification.
"""

import hashlib
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import TableContract, conform
from bandicoot_core.stores.lake.manifest import FileEntry

_ROW_GROUP_ROWS = 65_536


def write_table(table: pa.Table | ibis.Table, contract: TableContract, path: Path, engine: Backend | None) -> FileEntry:
    """Write a table as its contract says and rename the file by its content.

    ValueError when the table breaks the contract's columns, types or nulls, or an expression comes without an engine.
    """
    if isinstance(table, pa.Table):
        _write_arrow(conform(table, contract), path)
    else:
        _write_expression(table, contract, path, engine)
    return name_by_content(path, n_rows=_checked_row_count(path, contract))


def write_without(found: Path, path: Path, column: str, value: int, engine: Backend) -> None:
    """Write the rows of a Parquet file on local disk whose `column` does not hold the value, in their order.

    The same rows give the bytes they have when they are written in the first place, because the library that wrote the
    file writes this one: DuckDB streams it, Arrow had it in memory then, too.
    """
    if (pq.read_metadata(found).created_by or "").startswith("DuckDB"):
        name = '"' + column.replace('"', '""') + '"'
        # Ordered, though it is already: rows that come out of a sort are cut into row groups as they were at first.
        query = f"""
            SELECT * EXCLUDE (file_row_number) FROM read_parquet({_quoted(found)}, file_row_number = true)
            WHERE {name} IS DISTINCT FROM ? ORDER BY file_row_number
        """  # noqa: S608 - a path of our own and the name of a contract's column
        form = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP_ROWS}"
        # allowed: sql-from-values, DuckDB takes no parameter for a path; the path is ours, and quoted
        engine.con.execute(f"COPY ({query}) TO {_quoted(path)} ({form})", [value])
    else:
        table = pq.read_table(found)
        is_dropped = pc.is_in(table[column], value_set=pa.array([value], table.schema.field(column).type))
        _write_arrow(table.filter(pc.invert(is_dropped)), path)


def name_by_content(staged: Path, *, n_rows: int | None) -> FileEntry:
    """Rename a staged file by its digest and describe it."""
    with staged.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    name = f"{staged.stem}-{sha256[:16]}{staged.suffix}"
    n_bytes = staged.stat().st_size
    staged.rename(staged.with_name(name))
    return FileEntry(name=name, n_bytes=n_bytes, sha256=sha256, n_rows=n_rows)


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


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
