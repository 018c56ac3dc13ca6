"""Fixtures of the model's tests: a small bundle that passes every check."""

from datetime import date

import pyarrow as pa
import pytest

from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.model.clusters import fit_clusters
from bandicoot_core.model.indices import index_table, tuple_index_table
from tests.core.model.transition_rows import transitions_of


@pytest.fixture
def sound_bundle() -> ModelBundle:
    """Two clusters, 150 caregivers, at least 40 active transitions behind every chance."""
    counts = pa.table(
        {"n_rr": [0, 9], "n_ru": [2, 1], "n_ur": [1, 1], "n_uu": [9, 1], "n_caregivers": [100, 50]},
    )
    fit = fit_clusters(counts, n_clusters=2, min_cluster_share=0.0, seed=7)
    transitions = transitions_of((10, 200, 100, 900, 20, 20, 60, 40), (450, 50, 50, 50, 90, 10, 30, 10))
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
