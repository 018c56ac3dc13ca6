"""Values held against their contract before PostgreSQL sees them, so that errors name column, row and remedy.

Columns, types and order are contracts.conform's business; here are missing and allowed values, and bounds.
"""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import Column, TableContract, conform
from bandicoot_core.errors import InvalidInputError


def require_contract(rows: pa.Table, contract: TableContract) -> pa.Table:
    """The rows as conform gives them; InvalidInputError when a value is missing, not allowed or out of bounds."""
    for column in contract.columns:
        n_missing = rows[column.name].null_count if column.name in rows.column_names else 0
        if n_missing and not column.is_nullable:
            raise InvalidInputError(
                f"{contract.name}.{column.name}: {n_missing} of {rows.num_rows} values are missing, and the contract "
                "allows none; mend what made these rows and run again"
            )
    try:
        conformed = conform(rows, contract)
    except ValueError as error:
        where = "" if str(error).startswith(contract.name) else f"{contract.name}: "
        raise InvalidInputError(f"{where}{error}; mend what made these rows and run again") from error
    for column in contract.columns:
        if column.allowed is not None:
            is_allowed = pc.is_in(conformed[column.name], value_set=pa.array(column.allowed, pa.string()))
            _refuse_unless(is_allowed, conformed, contract, column, f"one of {', '.join(column.allowed)}")
        if column.minimum is not None:
            is_enough = pc.greater_equal(conformed[column.name], column.minimum)
            _refuse_unless(is_enough, conformed, contract, column, f"at least {column.minimum}")
        if column.maximum is not None:
            is_within = pc.less_equal(conformed[column.name], column.maximum)
            _refuse_unless(is_within, conformed, contract, column, f"at most {column.maximum}")
    return conformed


def require_instant(moment: datetime, name: str) -> datetime:
    """The moment itself; ValueError when it has no time zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{name}: {moment.isoformat()} has no time zone; pass it in UTC")
    return moment


def _refuse_unless(
    is_right: pa.ChunkedArray, rows: pa.Table, contract: TableContract, column: Column, expected: str
) -> None:
    """InvalidInputError when a value is wrong; nulls are judged elsewhere."""
    is_wrong = pc.and_(pc.invert(pc.fill_null(is_right, True)), pc.is_valid(rows[column.name]))
    n_wrong = pc.sum(is_wrong).as_py() or 0
    if not n_wrong:
        return
    first = rows.filter(is_wrong).slice(0, 1).to_pylist()[0]
    # Messages are kept with runs, which know no caregiver: a list's row is named by its rank.
    row_name = contract.sort_by if "caregiver_id" in contract.key else contract.key
    where = ", ".join(f"{name}={first[name]}" for name in row_name)
    raise InvalidInputError(
        f"{contract.name}.{column.name}: {n_wrong} rows hold something else than {expected} "
        f"(first: {where}, found {first[column.name]!r}); mend what made these rows and run again"
    )
