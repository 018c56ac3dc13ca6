"""What a table contract is: columns with types, units and bounds, keys and order, and how a table is made to conform.

Not here: any particular table.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

ColumnType = Literal["int16", "int32", "int64", "float64", "string", "bool", "date", "timestamp"]

_ARROW_TYPES: dict[ColumnType, pa.DataType] = {
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}


@dataclass(frozen=True)
class Column:
    """One column: its type, what it means, its unit and what values are allowed."""

    name: str
    type: ColumnType
    description: str
    unit: str | None = None
    is_nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type in which the column is stored and exchanged."""
        return _ARROW_TYPES[self.type]


@dataclass(frozen=True)
class TableContract:
    """One table: its columns in order, its key, and the order its rows are stored in."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    sort_by: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        names = {column.name for column in self.columns}
        for name in (*self.key, *self.sort_by):
            if name not in names:
                raise ValueError(f"{self.name}: key or sort column {name!r} is not a column of the table")

    @property
    def column_names(self) -> list[str]:
        """Column names in their order."""
        return [column.name for column in self.columns]

    def column(self, name: str) -> Column:
        """The column of that name; KeyError when the table has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name!r}; it has {', '.join(self.column_names)}")

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema, with nullability."""
        return pa.schema([pa.field(c.name, c.arrow_type, nullable=c.is_nullable) for c in self.columns])

    def empty(self) -> pa.Table:
        """A table of this contract without rows."""
        return self.arrow_schema().empty_table()


def conform(table: pa.Table, contract: TableContract) -> pa.Table:
    """The table with the contract's columns in its order and types, sorted as the contract says.

    Raises ValueError when a column is missing, cannot be cast, or holds nulls that the contract forbids.
    """
    missing = [name for name in contract.column_names if name not in table.column_names]
    if missing:
        raise ValueError(
            f"{contract.name}: columns {missing} are missing; found {table.column_names}, "
            f"expected {contract.column_names}"
        )
    conformed = table.select(contract.column_names).cast(contract.arrow_schema())
    for column in contract.columns:
        n_nulls = conformed[column.name].null_count
        if n_nulls and not column.is_nullable:
            raise ValueError(f"{contract.name}.{column.name}: {n_nulls} nulls where the contract allows none")
    return _sorted(conformed, contract.sort_by)


def _sorted(table: pa.Table, sort_by: Sequence[str]) -> pa.Table:
    if not sort_by or table.num_rows < 2:
        return table
    return table.sort_by([(name, "ascending") for name in sort_by])
