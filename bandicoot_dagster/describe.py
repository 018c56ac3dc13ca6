"""What every asset says about itself: owner, group, kinds, code version and contract.

One function, so that no asset lacks any of it.
"""

from collections.abc import Collection
from typing import Any

from bandicoot_core.contracts import TableContract
from bandicoot_dagster.metadata import column_schema

OWNERS = ["team:programme-analytics"]


def described(
    contract: TableContract | None,
    *,
    group: str,
    kinds: Collection[str],
    description: str,
    code_version: str = "1",
    published_as: str | None = None,
) -> dict[str, Any]:
    """Keyword arguments of `@dg.asset` that every asset carries; `published_as` is a table that others read."""
    return {
        "group_name": group,
        "owners": OWNERS,
        "kinds": set(kinds),
        "description": description,
        "code_version": code_version,
        "metadata": {
            **(column_schema(contract) if contract is not None else {}),
            **({"dagster/table_name": published_as} if published_as is not None else {}),
        },
    }
