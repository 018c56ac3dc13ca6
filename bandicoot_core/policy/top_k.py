"""How sure it is that a caregiver belongs to the day's true top K, given how well the indices are known.

Here: the chance of groups of caregivers who are alike to everyone who knows what the model knows. Not here: the order
of the list (`ranking`), the posteriors (model), and what a health worker is told.

If all chances were known, the K eligible caregivers with the highest index would be called, K being the day's budget.
They are not known; in draws of the posterior different caregivers are among those K, and p_top_k is the share of draws
in which she is. A list whose p_top_k are near 1 could not be much better; one where they are near K / n_eligible is a
draw from among equals.

Nothing has a row per caregiver. At the level of clusters, caregivers of one cluster and state have one index in a draw
and share the slots that are left for them equally. At the level of caregivers each has a behavioural type of her own:
in a draw the indices of all types are known, the posteriors of the eligible say how many there are of each type, and
the slots go to the types in the order of their indices; her chance is that of her types under her posterior. Memory is
that of the draws (n_draws x 2 x n_types) and of chunks of groups.
"""

from dataclasses import dataclass

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from bandicoot_core.contracts import ACTIVE_TUPLE, PASSIVE_TUPLE, RESPONSIVE
from bandicoot_core.model.behavioural_types import BehaviouralTypes, posteriors
from bandicoot_core.model.posterior import FloatArray
from bandicoot_core.model.transitions import chance_posterior
from bandicoot_core.model.whittle import two_state_indices
from bandicoot_core.policy.ranking import IndexLevel

_FACTS: dict[IndexLevel, tuple[str, ...]] = {
    "caregiver": (*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id", "assigned_by", "state"),
    "cluster": ("cluster_id", "state"),
}

N_DRAWS = 200
"""Posterior draws behind each p_top_k: its error from drawing is at most 0.035 (one standard deviation)."""


@dataclass(frozen=True)
class IndexPosterior:
    """What a model knows of indices, and how it draws them."""

    transitions: pa.Table
    """TRANSITION_MODELS."""
    types: BehaviouralTypes
    discount: float
    seed: int


def in_top_shares(n_eligible: npt.ArrayLike, index_draws: FloatArray, *, k: int) -> FloatArray:
    """Of each group the expected share that belongs to the k caregivers with the highest index.

    In a draw the groups take the k slots in the order of their indices, highest first; groups with equal indices, of
    which the slots do not suffice for all, share them in proportion. With A_g caregivers in groups with a higher index
    and T_g in those with the same one, the share of a group is min(1, max(0, (k - A_g) / T_g)); returned is its mean
    over draws.

    Parameters
    ----------
    n_eligible : array of shape (n_groups,)
        Caregivers of each group, 0 or more; may be fractions.
    index_draws : ndarray of shape (n_draws, n_groups)
        One index of each group in every draw.
    k : int
        Slots, 0 or more.

    Returns
    -------
    ndarray of shape (n_groups,)
        Between 0 and 1. Weighted by n_eligible they add up to min(k, number of eligible).

    Raises
    ------
    ValueError
        For shapes that disagree, or a negative number.
    """
    n = np.asarray(n_eligible, dtype=np.float64)
    if index_draws.ndim != 2 or index_draws.shape[1:] != n.shape:
        raise ValueError(f"n_eligible has shape {n.shape}, index_draws {index_draws.shape}; expected (n,) and (m, n)")
    if k < 0 or (n < 0).any():
        raise ValueError(f"k is {k} and the smallest group has {n.min(initial=0)}; expected 0 or more of both")
    total = np.zeros(len(n))
    for index in index_draws:
        values, which = np.unique(-index, return_inverse=True)
        of_value = np.bincount(which, n, len(values))
        ahead = np.cumsum(of_value) - of_value
        filled = np.clip(k - ahead, 0, of_value)
        total += np.divide(filled, of_value, out=np.zeros(len(values)), where=of_value > 0)[which]
    return total / max(len(index_draws), 1)


def alike(eligible: ibis.Table, index_level: IndexLevel) -> ibis.Table:
    """How many eligible caregivers are alike to the model: the facts that decide p_top_k, and n_eligible.

    eligible: rows of with_eligibility that may be called.
    """
    return eligible.group_by(*_FACTS[index_level]).aggregate(n_eligible=eligible.count())


def p_top_k(
    rows: pa.Table, groups: pa.Table, posterior: IndexPosterior, *, k: int, index_level: IndexLevel
) -> FloatArray:
    """p_top_k of each row, (n_rows,): of caregivers who are among the eligible that `groups` (`alike`) counts."""
    if not rows.num_rows:
        return np.zeros(0)
    facts = list(_FACTS[index_level])
    # In one order, so that rounding does not depend on that in which an engine returns groups.
    groups = groups.sort_by([(name, "ascending") for name in facts])
    by_level = {"caregiver": p_top_k_by_caregiver, "cluster": p_top_k_by_cluster}
    of_groups = groups.select(facts).append_column("p", pa.array(by_level[index_level](groups, posterior, k=k)))
    numbered = rows.select(facts).append_column("row", pa.array(np.arange(rows.num_rows)))
    joined = numbered.join(of_groups, facts, join_type="left outer").sort_by("row")
    if joined["p"].null_count:
        raise ValueError(f"{joined['p'].null_count} rows are not among the eligible; both must be of the same day")
    return np.asarray(joined["p"].to_numpy(), dtype=np.float64)


def p_top_k_by_cluster(groups: pa.Table, posterior: IndexPosterior, *, k: int, n_draws: int = N_DRAWS) -> FloatArray:
    """p_top_k of groups of one cluster and state: (n_groups,).

    groups: cluster_id, state, n_eligible; rows of the same cluster and state count together. The four chances of every
    cluster are drawn from their posteriors and pushed through the closed form.
    """
    cell = _cells(groups)
    draws = chance_posterior(posterior.transitions).draws(n_draws, np.random.default_rng([posterior.seed, k]))
    index = two_state_indices(draws[..., 0], draws[..., 1], discount=posterior.discount).reshape(n_draws, -1)
    n_eligible = np.bincount(cell, _n_eligible(groups), index.shape[1])
    return in_top_shares(n_eligible, index, k=k)[cell]


def p_top_k_by_caregiver(groups: pa.Table, posterior: IndexPosterior, *, k: int, n_draws: int = N_DRAWS) -> FloatArray:
    """p_top_k of groups with the same counts, cluster and state: (n_groups,).

    groups: PASSIVE_TUPLE, ACTIVE_TUPLE, cluster_id, assigned_by, state, n_eligible. In a draw the chances of clusters
    are drawn, and a type's chances move, in log-odds, by as much as those of the cluster it is nearest to:

        logit q_s(theta; draw) = logit q_s(theta) + logit q_cs(draw) - logit q_cs.

    Her own passive chances are her type's; that they are not known is what her posterior over types says.
    """
    types = posterior.types
    is_r = np.asarray(groups["state"].to_pylist(), dtype=object) == RESPONSIVE
    n_eligible = _n_eligible(groups)
    n_types = len(types.share)
    of_type = np.zeros((2, n_types))
    with threadpool_limits(limits=1):
        for rows, weight in posteriors(types, groups):
            for s, in_state in enumerate((~is_r[rows], is_r[rows])):
                of_type[s] += n_eligible[rows[in_state]] @ weight[in_state]
        shares = in_top_shares(of_type.ravel(), _type_draws(posterior, k, n_draws), k=k).reshape(2, n_types)
        chance = np.empty(len(n_eligible))
        for rows, weight in posteriors(types, groups):
            by_state = weight @ shares.T
            chance[rows] = np.where(is_r[rows], by_state[:, 1], by_state[:, 0])
    return np.clip(chance, 0, 1)


def _type_draws(posterior: IndexPosterior, k: int, n_draws: int) -> FloatArray:
    """Indices of all types in U, then in R: (n_draws, 2 n_types)."""
    types = posterior.types
    of_clusters = chance_posterior(posterior.transitions)
    draws = of_clusters.draws(n_draws, np.random.default_rng([posterior.seed, k]))
    # Axes: draw, cluster, state.
    moved = logit(draws[..., 1]) - logit(of_clusters.mean[..., 1])
    p_active = expit(logit(types.p_active.T) + moved[:, types.cluster_id])
    index = two_state_indices(types.p_passive.T, p_active, discount=posterior.discount)
    return np.swapaxes(index, 1, 2).reshape(n_draws, -1)


def _cells(groups: pa.Table) -> npt.NDArray[np.int64]:
    """Position of each group's cluster and state among (cluster, [U, R])."""
    is_r = np.asarray(groups["state"].to_pylist(), dtype=object) == RESPONSIVE
    return 2 * np.asarray(groups["cluster_id"].to_numpy(), dtype=np.int64) + is_r


def _n_eligible(groups: pa.Table) -> FloatArray:
    return np.asarray(groups["n_eligible"].to_numpy(), dtype=np.float64)
