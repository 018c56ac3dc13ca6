"""Transition models: per cluster, state and action the chance to be responsive next week, with its evidence.

Here: the table that every estimator ends in, with credible intervals, and the arrays that formulas take from it. Not
here: the counts per cluster and the estimator that is used (`chances`), who belongs to which cluster (`assignment`) and
what the chances are worth (`indices`).
"""

import numpy as np
import pyarrow as pa

from bandicoot_core.contracts import ACTIONS, STATES, TRANSITION_MODELS, conform
from bandicoot_core.model.posterior import ChancePosterior, FloatArray, credible_interval

LAPLACE_PRIOR = (1.0, 1.0)
"""Beta(1, 1): before any week was observed every chance is as likely as any other."""


def transition_table(counts: FloatArray, posterior: ChancePosterior, *, interval: float) -> pa.Table:
    """Posteriors of chances and the counts behind them as a table [TRANSITION_MODELS].

    counts: (n_clusters, 2, 2, 2), caregiver-weeks by state [U, R], action [passive, active] and target [R, U];
    posterior: (n_clusters, 2, 2). Row k of both is cluster k. `interval` is the probability inside the equal-tailed
    credible intervals; where the mean lies outside, they are widened to hold it. ValueError for an interval outside
    (0, 1).
    """
    n_clusters = len(counts)
    mean, n = posterior.mean.ravel(), posterior.n_effective.ravel()
    correlation = np.zeros((n_clusters, len(STATES))) if posterior.correlation is None else posterior.correlation
    p_low, p_high = credible_interval(n * mean, n * (1 - mean), interval=interval)
    cells = [(state, action) for state in STATES for action in ACTIONS]
    return conform(
        pa.table(
            {
                "cluster_id": np.repeat(np.arange(n_clusters), len(cells)),
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
