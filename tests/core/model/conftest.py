"""Fixtures of the model's tests: a small bundle that passes every check."""

from datetime import date

import pyarrow as pa
import pytest

from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.model.clusters import fit_clusters
from bandicoot_core.model.indices import index_table, tuple_index_table
from bandicoot_core.model.transitions import estimate_transitions


@pytest.fixture
def sound_bundle() -> ModelBundle:
    """Two clusters, 150 caregivers, at least 40 active transitions behind every chance."""
    counts = pa.table(
        {"n_rr": [0, 9], "n_ru": [2, 1], "n_ur": [1, 1], "n_uu": [9, 1], "n_caregivers": [100, 50]},
    )
    fit = fit_clusters(counts, n_clusters=2, min_cluster_share=0.0, seed=7)
    by_cluster = pa.table(
        {
            "cluster_id": [0, 1],
            "n_rr": [10, 450],
            "n_ru": [200, 50],
            "n_ur": [100, 50],
            "n_uu": [900, 50],
            "n_active_rr": [20, 90],
            "n_active_ru": [20, 10],
            "n_active_ur": [60, 30],
            "n_active_uu": [40, 10],
        }
    )
    transitions = estimate_transitions(by_cluster, interval=0.9)
    return ModelBundle(
        clusters=fit.clusters,
        tuple_clusters=fit.tuple_clusters,
        transitions=transitions,
        indices=index_table(transitions, discount=0.99, interval=0.9, n_draws=200, seed=7),
        tuple_indices=tuple_index_table(fit.tuple_clusters, transitions, prior_weight=2.0, discount=0.99),
        recipe={"n_clusters": 2, "discount": 0.99},
        first_week=date(2026, 5, 24),
        last_week=date(2026, 11, 15),
    )
