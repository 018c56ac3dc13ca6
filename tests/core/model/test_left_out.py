import ibis
import numpy as np
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import ACTIVE_TUPLE, CLUSTERS, PASSIVE_TUPLE
from bandicoot_core.model.assignment import assigned_by_history
from bandicoot_core.model.clusters import fit_clusters
from bandicoot_core.model.left_out import left_out_counts, passive_combos
from bandicoot_core.model.transitions import cell_arrays, counts_by_cluster, estimate_transitions, transition_arrays

COUNT_NAMES = (*PASSIVE_TUPLE, *ACTIVE_TUPLE)


def clusters_at(*centroids: tuple[float, float]) -> pa.Table:
    n = len(centroids)
    columns = {"cluster_id": range(n), "n_caregivers": [1] * n, "n_tuples": [1] * n}
    for i, name in enumerate(("p_passive_u", "p_passive_r")):
        columns[name] = [centroid[i] for centroid in centroids]
    return pa.table(columns).select(CLUSTERS.column_names)


def combos_of(*rows: tuple[object, ...]) -> pa.Table:
    """Rows of n_rr, n_ru, n_ur, n_uu, cluster_id, assigned_by, n_caregivers."""
    names = (*PASSIVE_TUPLE, "cluster_id", "assigned_by", "n_caregivers")
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})


def counts_of(*rows: tuple[int, ...]) -> pa.Table:
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(("cluster_id", *COUNT_NAMES))})


def test_combinations_of_counts_cluster_and_assignment_are_counted(engine: Backend) -> None:
    assignments = pa.table(
        {
            "caregiver_key": [1, 2, 3, 4],
            "cluster_id": [0, 0, 0, 1],
            "assigned_by": ["history", "history", "features", "history"],
            **{name: [5, 5, 5, 5] for name in PASSIVE_TUPLE},
        }
    )
    combos = passive_combos(ibis.memtable(assignments)).order_by("cluster_id", "assigned_by")
    assert engine.to_pyarrow(combos) == combos_of(
        (5, 5, 5, 5, 0, "features", 1), (5, 5, 5, 5, 0, "history", 2), (5, 5, 5, 5, 1, "history", 1)
    ).cast(engine.to_pyarrow(combos).schema)


def test_each_transition_counts_for_the_cluster_of_the_weeks_without_it() -> None:
    # Ten caregivers return in 1 of 2 weeks from U. Without the return they never do (cluster 0); without the other
    # week they always do (cluster 1). The population returns in half of the weeks, so the prior decides nothing.
    combos = combos_of((0, 0, 1, 1, 0, "history", 10))
    counts = counts_of((0, 0, 0, 10, 10, 1, 2, 3, 4), (1, 0, 0, 0, 0, 5, 6, 7, 8))
    result = left_out_counts(counts, combos, clusters_at((0.3, 0.5), (0.7, 0.5)), prior_weight=2.0)
    assert [tuple(row.values()) for row in result.to_pylist()] == [
        (0, 0, 0, 10, 0, 1, 2, 3, 4),
        (1, 0, 0, 0, 10, 5, 6, 7, 8),
    ]


def test_the_weeks_of_caregivers_assigned_by_features_stay() -> None:
    combos = combos_of((0, 0, 1, 1, 0, "features", 10))
    counts = counts_of((0, 0, 0, 10, 10, 1, 2, 3, 4))
    result = left_out_counts(counts, combos, clusters_at((0.3, 0.5), (0.7, 0.5)), prior_weight=2.0)
    assert result.to_pylist()[0] == counts.to_pylist()[0]
    # A cluster to which nobody was assigned has a row all the same.
    assert result.to_pylist()[1] == dict.fromkeys(COUNT_NAMES, 0) | {"cluster_id": 1}


def test_counts_of_other_assignments_are_refused() -> None:
    combos = combos_of((0, 0, 1, 1, 0, "history", 10))
    with pytest.raises(ValueError, match=r"combos.n_ur: adds up to 10 transitions, counts to 9"):
        left_out_counts(counts_of((0, 0, 0, 9, 10, 1, 2, 3, 4)), combos, clusters_at((0.3, 0.5)), prior_weight=2.0)


def test_clusters_with_gaps_are_refused() -> None:
    clusters = clusters_at((0.3, 0.5), (0.7, 0.5)).slice(1)
    with pytest.raises(ValueError, match=r"ids are \[1\]; expected 0 to 0"):
        left_out_counts(counts_of((0, *[0] * 8)), combos_of(), clusters, prior_weight=2.0)


def simulated(types: np.ndarray, p_passive: np.ndarray, p_active: np.ndarray, seed: int) -> tuple[pa.Table, np.ndarray]:
    """Counts of 25 transitions per caregiver, one week in five with a call, and the states they end in (1 = R).

    Chances are (n_types, 2), states [U, R].
    """
    random = np.random.default_rng(seed)
    tallies = np.zeros((len(types), 2, 2, 2), dtype=np.int64)
    everyone = np.arange(len(types))
    state = random.integers(0, 2, len(types))
    for _ in range(25):
        action = (random.random(len(types)) < 0.2).astype(np.int64)
        chance = np.where(action == 1, p_active[types, state], p_passive[types, state])
        following = (random.random(len(types)) < chance).astype(np.int64)
        tallies[everyone, action, state, following] += 1
        state = following
    cells = {name: tallies[:, i // 4, 1 - i % 4 // 2, 1 - i % 2] for i, name in enumerate(COUNT_NAMES)}
    return pa.table({"caregiver_key": everyone + 1, **cells}), state


def trained(engine: Backend, counts: pa.Table, n_clusters: int) -> tuple[pa.Table, pa.Table, np.ndarray]:
    """Plain and left-out transition models, and each caregiver's cluster."""
    table = ibis.memtable(counts)
    tuples = engine.to_pyarrow(table.group_by(*PASSIVE_TUPLE).aggregate(n_caregivers=lambda t: t.count()))
    fit = fit_clusters(tuples, n_clusters=n_clusters, prior_weight=2.0, min_cluster_share=0.0, seed=7)
    by_history = assigned_by_history(table, ibis.memtable(fit.tuple_clusters), min_passive_weeks=1)
    assignments = by_history.inner_join(table.select("caregiver_key", *PASSIVE_TUPLE), "caregiver_key").mutate(
        assigned_by=ibis.literal("history")
    )
    by_cluster = engine.to_pyarrow(counts_by_cluster(table, assignments))
    combos = engine.to_pyarrow(passive_combos(assignments))
    left_out = left_out_counts(by_cluster, combos, fit.clusters, prior_weight=2.0)
    labels = engine.to_pyarrow(assignments.order_by("caregiver_key"))["cluster_id"].to_numpy()
    plain = estimate_transitions(by_cluster, interval=0.9, n_clusters=n_clusters)
    return plain, estimate_transitions(left_out, interval=0.9), labels


def test_calls_that_do_nothing_seem_to_help_unless_the_counted_week_is_left_out(engine: Backend) -> None:
    chances = np.array([[0.3, 0.7]])
    counts, _ = simulated(np.zeros(20_000, dtype=np.int64), chances, chances, seed=2)
    plain, left_out, _ = trained(engine, counts, n_clusters=8)
    assert largest_lift(plain) > 0.25
    assert largest_lift(left_out) < 0.05


def largest_lift(transitions: pa.Table) -> float:
    """Over the clusters with a thousand transitions or more."""
    p_passive, p_active = transition_arrays(transitions)
    has_data = cell_arrays(transitions, "n_to_r").sum(axis=(1, 2)) > 1000
    return float(np.abs(p_active - p_passive)[has_data].max())


P_PASSIVE = np.array([[0.05, 0.30], [0.35, 0.75], [0.80, 0.95]])
P_ACTIVE = np.array([[0.45, 0.50], [0.40, 0.90], [0.85, 0.95]])


def test_estimates_foretell_the_next_week_of_a_cluster(engine: Backend) -> None:
    types = np.random.default_rng(3).integers(0, 3, 20_000)
    counts, states = simulated(types, P_PASSIVE, P_ACTIVE, seed=4)
    plain, left_out, labels = trained(engine, counts, n_clusters=3)
    truth = np.array([[P_PASSIVE[types, s][(labels == k) & (states == s)].mean() for s in (0, 1)] for k in range(3)])
    np.testing.assert_allclose(transition_arrays(left_out)[0], truth, atol=0.03)
    assert np.abs(transition_arrays(plain)[0] - truth).max() > 0.1


def test_the_chances_of_known_clusters_are_recovered(engine: Backend) -> None:
    types = np.random.default_rng(3).integers(0, 3, 20_000)
    counts, _ = simulated(types, P_PASSIVE, P_ACTIVE, seed=4)
    assignments = ibis.memtable(pa.table({"caregiver_key": np.arange(20_000) + 1, "cluster_id": types}))
    by_cluster = engine.to_pyarrow(counts_by_cluster(ibis.memtable(counts), assignments))
    transitions = estimate_transitions(by_cluster, interval=0.9999)
    p_passive, p_active = transition_arrays(transitions)
    np.testing.assert_allclose(p_passive, P_PASSIVE, atol=0.01)
    np.testing.assert_allclose(p_active, P_ACTIVE, atol=0.02)
    truth = np.stack([P_PASSIVE, P_ACTIVE], axis=-1)
    assert (cell_arrays(transitions, "p_low") < truth).all()
    assert (truth < cell_arrays(transitions, "p_high")).all()
