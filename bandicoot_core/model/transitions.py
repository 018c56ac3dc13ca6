"""Transition models: per cluster, state and action the chance to be responsive next week, with its evidence.

Here: the sums of transitions per cluster, the estimate with its credible interval, and the arrays that formulas take.
Not here: who belongs to which cluster (`assignment`) and what the chances are worth (`indices`).
"""

import numpy as np
import pyarrow as pa
from ibis.expr.types import Table

from bandicoot_core.contracts import (
    ACTIONS,
    ACTIVE,
    ACTIVE_TUPLE,
    PASSIVE,
    PASSIVE_TUPLE,
    RESPONSIVE,
    STATES,
    TRANSITION_MODELS,
    UNRESPONSIVE,
    conform,
)
from bandicoot_core.model.posterior import FloatArray, credible_interval

LAPLACE_PRIOR = (1.0, 1.0)
"""Beta(1, 1): before any week was observed every chance is as likely as any other."""

_COUNTS_OF = {
    (RESPONSIVE, PASSIVE): ("n_rr", "n_ru"),
    (UNRESPONSIVE, PASSIVE): ("n_ur", "n_uu"),
    (RESPONSIVE, ACTIVE): ("n_active_rr", "n_active_ru"),
    (UNRESPONSIVE, ACTIVE): ("n_active_ur", "n_active_uu"),
}
"""For each state and action the counts of transitions to R and to U."""

_GIVEN_MEAN_OF = {(UNRESPONSIVE, PASSIVE): 0, (RESPONSIVE, PASSIVE): 1}
"""Column of `passive_means` for the cells whose mean may be given."""


def counts_by_cluster(transition_counts: Table, assignments: Table) -> Table:
    """Transitions of every cluster's caregivers: cluster_id and the sums of the eight counts, int64 caregiver-weeks.

    Every cluster of `assignments` (CLUSTER_ASSIGNMENTS) appears; caregivers without counts add nothing.
    """
    names = (*PASSIVE_TUPLE, *ACTIVE_TUPLE)
    joined = (
        assignments.select("caregiver_key", "cluster_id")
        .left_join(transition_counts.select("caregiver_key", *names), "caregiver_key")
        .drop("caregiver_key_right")
    )
    return joined.group_by("cluster_id").aggregate(
        **{name: joined[name].cast("int64").sum().fill_null(0).cast("int64") for name in names}
    )


def estimate_transitions(
    counts: pa.Table,
    *,
    interval: float,
    prior: tuple[float, float] = LAPLACE_PRIOR,
    passive_means: FloatArray | None = None,
    n_clusters: int | None = None,
) -> pa.Table:
    """P(next = R | state, action) of every cluster, as posterior mean and equal-tailed credible interval.

    With n_R transitions to R, n_U to U and a Beta(a, b) prior the posterior is Beta(a + n_R, b + n_U), its mean
    (a + n_R) / (a + b + n_R + n_U). With `passive_means` a passive cell's mean m is given, and its posterior taken as
    Beta(w m, w (1 - m)) with w = a + b + n_R + n_U: pooled passive counts are not trusted, because clusters were cut
    by them. A cell without a single transition has the prior's mean and interval; that its
    counts are zero tells that nothing was observed.

    Parameters
    ----------
    counts : table
        Output of `counts_by_cluster`.
    interval : float
        Probability inside the credible interval, strictly between 0 and 1.
    prior : pair of float
        a and b, both above 0.
    passive_means : ndarray of shape (n_clusters, 2), optional
        P(next = R | state, passive) by cluster id, states [U, R], strictly between 0 and 1: the empirical-Bayes
        estimates of `empirical_bayes.cluster_passive_means`.
    n_clusters : int, optional
        Clusters of the model: ids below it that `counts` lacks get zero counts.

    Returns
    -------
    table of TRANSITION_MODELS
        Every cluster with both states and both actions.

    Raises
    ------
    ValueError
        For an interval or prior out of bounds, a cluster that occurs twice or is not below n_clusters.
    """
    a, b = prior
    if not (a > 0 and b > 0):
        raise ValueError(f"prior is {prior}; expected two numbers above 0")
    cluster_ids, transitions = _transition_array(counts, n_clusters)
    n_to_r, n_to_u = transitions[..., 0].ravel(), transitions[..., 1].ravel()
    weight = a + b + n_to_r + n_to_u
    p_next_r = (a + n_to_r) / weight
    if passive_means is not None:
        given = np.array([_GIVEN_MEAN_OF.get(cell, -1) for cell in _COUNTS_OF] * len(cluster_ids))
        of_cluster = np.repeat(cluster_ids, len(_COUNTS_OF))
        p_next_r = np.where(given >= 0, np.asarray(passive_means)[of_cluster, given], p_next_r)
    p_low, p_high = credible_interval(weight * p_next_r, weight * (1 - p_next_r), interval=interval)
    n_cells = len(_COUNTS_OF)
    return conform(
        pa.table(
            {
                "cluster_id": np.repeat(cluster_ids, n_cells),
                "state": [state for state, _ in _COUNTS_OF] * len(cluster_ids),
                "action": [action for _, action in _COUNTS_OF] * len(cluster_ids),
                "n_to_r": n_to_r,
                "n_to_u": n_to_u,
                "p_next_r": p_next_r,
                "p_low": np.minimum(p_low, p_next_r),
                "p_high": np.maximum(p_high, p_next_r),
            },
        ),
        TRANSITION_MODELS,
    )


def transition_arrays(transitions: pa.Table) -> tuple[FloatArray, FloatArray]:
    """P(next = R | state), passive and active: two arrays of shape (n_clusters, 2), states [U, R].

    Row k is cluster k. ValueError unless `transitions` (TRANSITION_MODELS) holds clusters 0 to k-1, each with both
    states and both actions once.
    """
    by_cell = cell_arrays(transitions, "p_next_r")
    return by_cell[..., 0], by_cell[..., 1]


def cell_arrays(transitions: pa.Table, column: str) -> FloatArray:
    """A column of TRANSITION_MODELS as an array of shape (n_clusters, 2, 2): cluster, state [U, R], action.

    Actions are ordered [passive, active]. ValueError as for `transition_arrays`.
    """
    transitions = conform(transitions, TRANSITION_MODELS)
    found = list(zip(*(transitions[name].to_pylist() for name in ("cluster_id", "state", "action")), strict=True))
    n_clusters = len(set(transitions["cluster_id"].to_pylist()))
    # The contract sorts the names of states and actions, which reverses the order of the arrays' axes.
    expected = [(k, s, a) for k in range(n_clusters) for s in sorted(STATES) for a in sorted(ACTIONS)]
    if found != expected:
        wrong = sorted(set(found) ^ set(expected)) or [cell for cell in expected if found.count(cell) > 1]
        raise ValueError(
            f"transition_models: expected clusters 0 to {n_clusters - 1}, each with both states and both actions "
            f"once; missing, unexpected or repeated: {wrong[:4]}"
        )
    values = np.asarray(transitions[column].to_numpy(), dtype=np.float64)
    return values.reshape(n_clusters, len(STATES), len(ACTIONS))[:, ::-1, ::-1]


def _transition_array(counts: pa.Table, n_clusters: int | None) -> tuple[np.ndarray, np.ndarray]:
    found = np.asarray(counts["cluster_id"].to_numpy(), dtype=np.int64)
    if len(np.unique(found)) != len(found):
        raise ValueError(f"counts: a cluster occurs twice among {found.tolist()}; expected one row per cluster")
    if n_clusters is not None and len(found) and (found.max() >= n_clusters or found.min() < 0):
        raise ValueError(f"counts: clusters {found.tolist()}; expected ids from 0 to {n_clusters - 1}")
    cluster_ids = np.sort(found) if n_clusters is None else np.arange(n_clusters)
    transitions = np.zeros((len(cluster_ids), len(_COUNTS_OF), 2), dtype=np.int64)
    rows = np.searchsorted(cluster_ids, found)
    for cell, names in enumerate(_COUNTS_OF.values()):
        for target, name in enumerate(names):
            transitions[rows, cell, target] = counts[name].to_numpy()
    return cluster_ids, transitions
