"""Small models for the published schema, each with numbers that tell it from the other."""

from datetime import UTC, date, datetime

import psycopg
import pyarrow as pa

from bandicoot_core.contracts import CLUSTERS, STATES, WHITTLE_INDICES
from bandicoot_core.stores.published.models import register_model

SUNDAY = date(2026, 11, 8)
MODELS = ("m-1", "m-2")


def register(connection: psycopg.Connection, version: str, *, n_clusters: int = 2) -> None:
    """Register one of MODELS; its p_passive is 1/3 or 2/3 everywhere, and one end of its intervals is undefined."""
    share = (1 + MODELS.index(version)) / 3
    cells = [(cluster, state) for cluster in range(n_clusters) for state in STATES]
    register_model(
        connection,
        version,
        training_week=SUNDAY,
        checks={},
        recipe={},
        clusters=pa.table(
            {
                "cluster_id": list(range(n_clusters)),
                "p_passive_u": [share] * n_clusters,
                "p_passive_r": [share] * n_clusters,
                "n_caregivers": [1] * n_clusters,
                "n_tuples": [1] * n_clusters,
            },
            schema=CLUSTERS.arrow_schema(),
        ),
        indices=pa.table(
            {
                "cluster_id": [cluster for cluster, _ in cells],
                "state": [state for _, state in cells],
                "whittle_index": [share + number / 7 for number in range(len(cells))],
                "index_low": [1e-300] * len(cells),
                "index_high": [float("nan")] * len(cells),
                "is_indexable": [True] * len(cells),
                "p_passive": [share] * len(cells),
                "p_active": [0.1 + 0.2] * len(cells),
            },
            schema=WHITTLE_INDICES.arrow_schema(),
        ),
        run_id="run-1",
        created_at=datetime(2026, 11, 15, tzinfo=UTC),
    )
