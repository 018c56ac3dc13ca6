"""Transition models: per cluster, state and action the chance to be responsive next week, with its evidence.

Here: the sums of transitions per cluster, the estimate from them with its credible interval, the table that every
estimator ends in, and the arrays that formulas take. Not here: which estimator is used (`chances`), who belongs to
which cluster (`assignment`) and what the chances are worth (`indices`).
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
from bandicoot_core.model.posterior import ChancePosterior, FloatArray, credible_interval

LAPLACE_PRIOR = (1.0, 1.0)
"""Beta(1, 1): before any week was observed every chance is as likely as any other."""

_COUNTS_OF = {
    (UNRESPONSIVE, PASSIVE): ("n_ur", "n_uu"),
    (UNRESPONSIVE, ACTIVE): ("n_active_ur", "n_active_uu"),
    (RESPONSIVE, PASSIVE): ("n_rr", "n_ru"),
    (RESPONSIVE, ACTIVE): ("n_active_rr", "n_active_ru"),
}
"""For each state and action the counts of transitions to R and to U."""


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
    n_effective = a + b + transitions.sum(axis=-1)
    mean = (a + transitions[..., 0]) / n_effective
    if passive_means is not None:
        mean[..., 0] = np.asarray(passive_means)[cluster_ids]
    return transition_table(transitions, ChancePosterior(mean, n_effective), interval=interval, cluster_ids=cluster_ids)


def transition_table(
    counts: FloatArray,
    posterior: ChancePosterior,
    *,
    interval: float,
    cluster_ids: np.ndarray | None = None,
) -> pa.Table:
    """Posteriors of chances and the counts behind them as a table [TRANSITION_MODELS].

    counts: (n_clusters, 2, 2, 2), caregiver-weeks by state [U, R], action [passive, active] and target [R, U];
    posterior: (n_clusters, 2, 2). Row k of both is cluster k, or cluster_ids[k]. `interval` is the probability inside
    the equal-tailed credible intervals; where the mean lies outside, they are widened to hold it. ValueError for an
    interval outside (0, 1).
    """
    n_clusters = len(counts)
    ids = np.arange(n_clusters) if cluster_ids is None else cluster_ids
    mean, n = posterior.mean.ravel(), posterior.n_effective.ravel()
    correlation = np.zeros((n_clusters, len(STATES))) if posterior.correlation is None else posterior.correlation
    p_low, p_high = credible_interval(n * mean, n * (1 - mean), interval=interval)
    cells = [(state, action) for state in STATES for action in ACTIONS]
    return conform(
        pa.table(
            {
                "cluster_id": np.repeat(ids, len(cells)),
                "state": [state for state, _ in cells] * n_clusters,
                "action": [action for _, action in cells] * n_clusters,
                "n_to_r": counts[..., 0].ravel().astype(np.int64),
                "n_to_u": counts[..., 1].ravel().astype(np.int64),
                "p_next_r": mean,
                "p_low": np.minimum(p_low, mean),
                "p_high": np.maximum(p_high, mean),
                "n_effective": n,
                "correlation": np.repeat(correlation.ravel(), len(ACTIONS)),
            },
        ),
        TRANSITION_MODELS,
    )


def chance_posterior(transitions: pa.Table) -> ChancePosterior:
    """The posteriors behind TRANSITION_MODELS, (n_clusters, 2, 2): state [U, R], action [passive, active].

    ValueError for incomplete transitions, or a posterior mean of exactly 0 or 1.
    """
    mean = cell_arrays(transitions, "p_next_r")
    if not ((mean > 0) & (mean < 1)).all():
        raise ValueError(
            f"transition_models.p_next_r: values from {mean.min()} to {mean.max()}; posterior means lie strictly "
            "between 0 and 1; estimate the transitions with a prior"
        )
    correlation = cell_arrays(transitions, "correlation")[..., 0]
    return ChancePosterior(mean, cell_arrays(transitions, "n_effective"), correlation if correlation.any() else None)


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
    """Ids of the clusters, and their counts: (n_clusters, 2, 2, 2) by state, action and target [R, U]."""
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
    return cluster_ids, transitions.reshape(len(cluster_ids), len(STATES), len(ACTIONS), 2)
