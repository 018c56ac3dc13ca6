"""What a trained model is made of, and the digest of its content.

Only the bundle itself. Its name and whether it may replace the champion belong to `versions`, where bundles are kept
to stores.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa

from bandicoot_core.contracts import (
    CLUSTERS,
    TRANSITION_MODELS,
    TUPLE_CLUSTERS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
    TableContract,
    conform,
)


@dataclass(frozen=True)
class ModelBundle:
    """The small tables of one training run, the options they came from, and the weeks they were trained on."""

    clusters: pa.Table
    tuple_clusters: pa.Table
    transitions: pa.Table
    indices: pa.Table
    tuple_indices: pa.Table
    recipe: Mapping[str, Any]
    """The options of the run, JSON-ready: everything that shaped the tables beside the data."""
    first_week: date
    last_week: date
    """First and last week of the training window, each named by its Sunday."""


def bundle_digest(bundle: ModelBundle) -> str:
    """SHA-256 (64 hexadecimal digits) of everything in the bundle.

    Equal content gives an equal digest whatever the order of the rows, the layout of the Arrow buffers or the order
    of the recipe's keys. ValueError when a table breaks its contract's columns, types or nulls, TypeError when the
    recipe is not JSON-ready.
    """
    digest = hashlib.sha256()
    for contract, table in (
        (CLUSTERS, bundle.clusters),
        (TUPLE_CLUSTERS, bundle.tuple_clusters),
        (TRANSITION_MODELS, bundle.transitions),
        (WHITTLE_INDICES, bundle.indices),
        (TUPLE_INDICES, bundle.tuple_indices),
    ):
        for part in _table_parts(table, contract):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    header = {
        "recipe": dict(bundle.recipe),
        "first_week": bundle.first_week.isoformat(),
        "last_week": bundle.last_week.isoformat(),
    }
    digest.update(json.dumps(header, sort_keys=True, allow_nan=False).encode())
    return digest.hexdigest()


def _table_parts(table: pa.Table, contract: TableContract) -> list[bytes]:
    table = conform(table, contract)
    parts = [f"{contract.name} {table.num_rows}".encode()]
    for column in contract.columns:
        parts.append(f"{column.name} {column.type}".encode())
        if column.type == "string":
            parts.append(json.dumps(table[column.name].to_pylist()).encode())
        else:
            values = np.asarray(table[column.name].to_numpy())
            parts.append(values.astype(values.dtype.newbyteorder("<")).tobytes())
    return parts
