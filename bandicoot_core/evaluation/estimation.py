"""Estimators of what calls do, side by side: on simulated programmes with known truth, and on held-out weeks.

Here: the comparison as a table [ESTIMATION]. Not here: the estimators (`model.chances` and what it calls), how
programmes are drawn (`simulated_programmes`), and the picture (`estimation_charts`).

What is measured on a simulated programme. Errors are means over caregivers: each counts for the cell (cluster, state)
she is in. The list is the 2.5% of caregivers ranked first, by the index of their cluster and state (ties by a draw) or
by their own; its worth is the mean of their true indices. A share of 1 is what the clusters' true mean chances reach, 0
what calling at random does; a caregiver's own index can exceed 1, because it knows more of her than her cluster.
Beside the estimators stands `tuple_index`, a caregiver's own index without types: her passive weeks with her cluster's
chance as a prior of eight weeks, and the cluster's lift as `joint` finds it (model.indices.tuple_index_table).
Coverage is the share of cells in use whose 90% interval holds the true mean chance of the cluster, or the index of the
true means.
"""

from collections.abc import Callable, Sequence

import ibis
import numpy as np
import pyarrow as pa

from bandicoot_core.contracts import ACTIVE_TUPLE, BY_HISTORY, ESTIMATION, PASSIVE_TUPLE, conform
from bandicoot_core.engagement.counts import passive_counts, transition_counts
from bandicoot_core.engagement.words import bits
from bandicoot_core.evaluation.simulated_programmes import (
    SimulatedProgramme,
    random_types,
    sharp_types,
    simulate_programme,
)
from bandicoot_core.model.assignment import assigned_by_history
from bandicoot_core.model.behavioural_types import IntArray, means_under_posteriors
from bandicoot_core.model.chances import FittedChances, fit_chances, member_tuples
from bandicoot_core.model.clusters import fit_clusters
from bandicoot_core.model.estimators import ESTIMATORS, Estimator
from bandicoot_core.model.indices import index_table, tuple_index_table
from bandicoot_core.model.posterior import FloatArray
from bandicoot_core.model.transitions import cell_arrays, transition_arrays
from bandicoot_core.model.whittle import two_state_indices

Draw = Callable[[np.random.Generator], tuple[FloatArray, FloatArray]]
"""Draws the types of a programme, (n_types, 2, 2), and their shares, (n_types,)."""

RANDOM, SHARP, NO_EFFECT, HELD_OUT = "random", "sharp types", "no effect", "held-out weeks"
PROGRAMMES: dict[str, Draw] = {
    RANDOM: random_types,
    NO_EFFECT: lambda random: random_types(random, has_effect=False),
    SHARP: sharp_types,
}
"""Kinds of programmes by name."""

TUPLE_INDEX = "tuple_index"
"""Stands among the estimators for a caregiver's own index without types."""

_LISTED_SHARE = 0.025
_PRIOR_WEEKS = 8.0
_SMALLEST_REACH = 1e-6
_INTERVAL = 0.9


def compare_estimators(
    *,
    seed: int,
    n_programmes: int,
    n_active: Sequence[float] = (2, 10, 40, 160),
    n_caregivers: int = 10_000,
    programmes: dict[str, Draw] = PROGRAMMES,
    estimators: Sequence[Estimator] = ESTIMATORS,
    discount: float = 0.99,
    n_draws: int = 400,
) -> pa.Table:
    """Means over simulated programmes, one row for each kind of programme, number of active weeks and estimator.

    Programme i of a kind is drawn from the seed (seed, position of the kind, i): its caregivers' types and chances are
    the same for every n_active, and every estimator sees the same weeks.

    Parameters
    ----------
    seed, n_programmes : int
    n_active : sequence of float
        Active weeks per cluster and state, on average.
    n_caregivers : int
    programmes : dict
        What draws the types of each kind of programme.
    estimators : sequence of str
    discount : float
        Per week, strictly between 0 and 1.
    n_draws : int
        Posterior draws behind each index interval.

    Returns
    -------
    table of ESTIMATION
        Without log_loss; of `tuple_index` only the share by caregivers' own index.
    """
    rows = []
    for position, (kind, draw) in enumerate(programmes.items()):
        for n in n_active:
            found: dict[str, list[dict[str, float]]] = {estimator: [] for estimator in estimators}
            for i in range(n_programmes):
                random = np.random.default_rng([seed, position, i])
                types, shares = draw(random)
                programme = simulate_programme(types, shares, random, n_caregivers=n_caregivers, n_active=n)
                for estimator in estimators:
                    fitted = fit_chances(programme.tuples, programme.clusters, estimator=estimator, interval=_INTERVAL)
                    found[estimator].append(
                        _measured(programme, fitted, discount=discount, n_draws=n_draws, seed=seed + i)
                    )
                    if estimator == "joint":
                        gains = _gains_of_tuple_index(programme, fitted, discount=discount, seed=seed + i)
                        found.setdefault(TUPLE_INDEX, []).append(gains)
            rows += [_row(kind, n, name, measured) for name, measured in found.items() if any(measured)]
    return conform(pa.Table.from_pylist(rows, schema=ESTIMATION.arrow_schema()), ESTIMATION)


def held_out_comparison(
    history: ibis.Table,
    *,
    n_weeks: int,
    n_held_out: int,
    n_clusters: int = 20,
    min_passive_weeks: int = 4,
    seed: int = 7,
    estimators: Sequence[Estimator] = ESTIMATORS,
) -> pa.Table:
    """How well each estimator, fitted on the first weeks of a real history, predicts active transitions of the last.

    Caregivers keep the cluster of the first weeks. log_loss is the mean over held-out active transitions of
    -log of the chance given to what happened: R with the cluster's q_s, U with 1 - q_s. Weeks after the first ones had
    no say in the clusters, so that the comparison is fair.

    Parameters
    ----------
    history : ENGAGEMENT_HISTORY
        An expression bound to an engine, over n_weeks weeks.
    n_weeks, n_held_out : int
        Weeks of the window; the last n_held_out of them are held out.
    n_clusters, min_passive_weeks, seed : int
        As in a training run.
    estimators : sequence of str

    Returns
    -------
    table of ESTIMATION
        Nothing but log_loss; n_active is the number of active weeks per cluster and state trained on. No rows when
        nobody whose cluster the first weeks tell was called in the held-out ones: that decides nothing.

    Raises
    ------
    ValueError
        Unless there are at least two weeks to train on and one to hold out.
    InvalidInputError
        When the first weeks have no behaviour to cluster.
    """
    n_known = n_weeks - n_held_out
    if n_held_out < 1 or n_known < 2:
        raise ValueError(f"{n_held_out} of {n_weeks} weeks held out; expected at least 1, and 2 or more left")
    known = history.mutate(observed_weeks=history.observed_weeks & bits(0, n_known))
    # A transition belongs to the week it starts in: that of the last known week is the first held out.
    later = history.mutate(observed_weeks=history.observed_weeks & bits(n_known - 1, n_weeks))
    fit = fit_clusters(passive_counts(known).to_pyarrow(), n_clusters=n_clusters, min_cluster_share=0.001, seed=seed)
    counts = transition_counts(known)
    by_history = assigned_by_history(
        counts, ibis.memtable(fit.tuple_clusters), min_passive_weeks=min_passive_weeks
    ).mutate(assigned_by=ibis.literal(BY_HISTORY))
    tuples = member_tuples(counts, by_history).to_pyarrow()
    held_out = _active_by_cluster(
        member_tuples(transition_counts(later), by_history).to_pyarrow(), fit.clusters.num_rows
    )
    if not held_out.sum():
        return ESTIMATION.empty()
    n_cells = 2 * fit.clusters.num_rows
    n_active = _active_by_cluster(tuples, fit.clusters.num_rows).sum() / n_cells
    rows = []
    for estimator in estimators:
        fitted = fit_chances(tuples, fit.clusters, estimator=estimator, interval=_INTERVAL)
        _, q = transition_arrays(fitted.transitions)
        loss = -(held_out[..., 0] * np.log(q) + held_out[..., 1] * np.log1p(-q)).sum() / held_out.sum()
        rows.append(_row(HELD_OUT, n_active, estimator, [{"log_loss": float(loss)}]))
    return conform(pa.Table.from_pylist(rows, schema=ESTIMATION.arrow_schema()), ESTIMATION)


def _measured(
    programme: SimulatedProgramme, fitted: FittedChances, *, discount: float, n_draws: int, seed: int
) -> dict[str, float]:
    truth = programme.cluster_truth()
    estimate = cell_arrays(fitted.transitions, "p_next_r")
    cell = (programme.cluster_id, programme.state)
    error = np.abs(estimate - truth)[cell]
    lift_error = np.abs((estimate - truth)[..., 1] - (estimate - truth)[..., 0])[cell]
    index = two_state_indices(estimate[..., 0], estimate[..., 1], discount=discount)
    true_index = two_state_indices(truth[..., 0], truth[..., 1], discount=discount)
    own = means_under_posteriors(fitted.types, programme.tuples, fitted.types.indices(discount=discount).T)
    in_use = np.zeros(index.shape, dtype=bool)
    in_use[cell] = True
    low, high = cell_arrays(fitted.transitions, "p_low"), cell_arrays(fitted.transitions, "p_high")
    is_held = (low <= truth) & (truth <= high)
    intervals = index_table(fitted.transitions, discount=discount, interval=_INTERVAL, n_draws=n_draws, seed=seed)
    # The table lists R before U.
    index_low, index_high = (intervals[name].to_numpy().reshape(-1, 2)[:, ::-1] for name in ("index_low", "index_high"))
    measured = {
        "passive_error": float(error[:, 0].mean()),
        "active_error": float(error[:, 1].mean()),
        "lift_error": float(lift_error.mean()),
        "listed_index": float(index[cell][_listed(index[cell], seed)].mean()),
        "passive_coverage": float(is_held[..., 0][in_use].mean()),
        "active_coverage": float(is_held[..., 1][in_use].mean()),
        "index_coverage": float(((index_low <= true_index) & (true_index <= index_high))[in_use].mean()),
    }
    scores = {
        "reach": true_index[cell],
        "cluster_gain": index[cell],
        "caregiver_gain": own[programme.row, programme.state],
    }
    return {**measured, **_gains(programme, scores, discount=discount, seed=seed)}


def _gains(
    programme: SimulatedProgramme, scores: dict[str, FloatArray], *, discount: float, seed: int
) -> dict[str, float]:
    """By name, how much more the 2.5% with the highest score are worth than everybody; nothing where calls do nothing.

    scores: (n_caregivers,) each; `reach` is among them.
    """
    own_truth = two_state_indices(programme.chances[..., 0], programme.chances[..., 1], discount=discount)
    worth = own_truth[np.arange(len(own_truth)), programme.state]
    gains = {name: float(worth[_listed(score, seed)].mean() - worth.mean()) for name, score in scores.items()}
    return gains if gains["reach"] > _SMALLEST_REACH else {}


def _listed(score: FloatArray, seed: int) -> IntArray:
    """The 2.5% of caregivers with the highest score, ties broken by a draw."""
    tie = np.random.default_rng([seed, 1]).random(len(score))
    return np.lexsort((tie, -score))[: max(1, round(_LISTED_SHARE * len(score)))].astype(np.int64)


def _gains_of_tuple_index(
    programme: SimulatedProgramme, fitted: FittedChances, *, discount: float, seed: int
) -> dict[str, float]:
    names = (*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id")
    # The rows of a programme are sorted as the table is, which lists R before U.
    table = tuple_index_table(
        programme.tuples, fitted.transitions, prior_weight=_PRIOR_WEEKS, discount=discount
    ).sort_by([(name, "ascending") for name in (*names, "state")])
    own = table["own_index"].to_numpy().reshape(-1, 2)[:, ::-1]
    truth = programme.cluster_truth()
    true_index = two_state_indices(truth[..., 0], truth[..., 1], discount=discount)
    scores = {
        "reach": true_index[programme.cluster_id, programme.state],
        "caregiver_gain": own[programme.row, programme.state],
    }
    return _gains(programme, scores, discount=discount, seed=seed)


def _row(kind: str, n_active: float, estimator: str, measured: Sequence[dict[str, float]]) -> dict[str, object]:
    names = dict.fromkeys(name for m in measured for name in m)
    mean = {name: float(np.mean([m[name] for m in measured if name in m])) for name in names}
    # Gains are added up before they are divided: a programme in which nothing can be gained has no share of its own.
    reach = mean.pop("reach", None)
    gains = {level: mean.pop(f"{level}_gain", None) for level in ("cluster", "caregiver")}
    shares = {f"{level}_share": gain / reach for level, gain in gains.items() if reach and gain is not None}
    return {
        "programme": kind,
        "n_active": float(n_active),
        "estimator": estimator,
        "n_programmes": len(measured),
        **mean,
        **shares,
    }


def _active_by_cluster(tuples: pa.Table, n_clusters: int) -> FloatArray:
    """Active transitions by cluster, state [U, R] and target [R, U]: (n_clusters, 2, 2)."""
    labels = np.asarray(tuples["cluster_id"].to_numpy(), dtype=np.int64)
    n = np.asarray(tuples["n_caregivers"].to_numpy(), dtype=np.float64)
    sums = [np.bincount(labels, n * tuples[name].to_numpy(), n_clusters).astype(np.float64) for name in ACTIVE_TUPLE]
    return np.stack(sums, axis=-1).reshape(n_clusters, 2, 2)[:, ::-1]
