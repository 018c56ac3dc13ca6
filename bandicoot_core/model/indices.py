"""Tables of Whittle indices: per cluster and state with an interval, and per distinct tuple to order ties.

Here: which chances go into the closed form and what is made of the results. Not here: the closed form (`whittle`),
the chances (`transitions`), and how a list uses the indices (policy).
"""

import numpy as np
import pyarrow as pa
from scipy.special import expit, logit

from bandicoot_core.contracts import ACTIVE_TUPLE, PASSIVE_TUPLE, STATES, TUPLE_INDICES, WHITTLE_INDICES, conform
from bandicoot_core.model.posterior import ChancePosterior, own_passive_means
from bandicoot_core.model.transitions import chance_posterior, transition_arrays
from bandicoot_core.model.whittle import two_state_indices


def index_table(
    transitions: pa.Table,
    *,
    discount: float,
    interval: float,
    n_draws: int,
    seed: int,
) -> pa.Table:
    """The Whittle index of every cluster and state, from posterior means, with an interval from posterior draws.

    The four chances of a cluster are drawn from Beta posteriors with mean p = p_next_r and weight n = n_effective, that
    is Beta(n p, n (1 - p)), those of a state with their correlation, else independently; each draw goes through the
    closed form, and the interval is equal-tailed over the draws. Means and quantiles of a nonlinear form need not
    agree: where the index of the means falls outside, the interval is widened to hold it. Every cluster draws from a
    stream of its own, seeded with (seed, cluster_id), so that a cluster more does not change the intervals of the
    others.

    Parameters
    ----------
    transitions : table of TRANSITION_MODELS
    discount : float
        Per week, strictly between 0 and 1.
    interval : float
        Probability inside the interval, strictly between 0 and 1.
    n_draws, seed : int

    Returns
    -------
    table of WHITTLE_INDICES
        Two-state arms are indexable at any discount below 1, so is_indexable is true in every row.

    Raises
    ------
    ValueError
        For numbers out of bounds, incomplete transitions, or a posterior mean of exactly 0 or 1.
    """
    if not 0 < interval < 1:
        raise ValueError(f"interval is {interval}; expected a probability strictly between 0 and 1")
    if n_draws < 1:
        raise ValueError(f"n_draws is {n_draws}; expected 1 or more")
    posterior = chance_posterior(transitions)
    p_passive, p_active = posterior.mean[..., 0], posterior.mean[..., 1]
    index = two_state_indices(p_passive, p_active, discount=discount)
    tails = [(1 - interval) / 2, (1 + interval) / 2]
    bounds = np.empty((2, *index.shape))
    for cluster_id in range(len(index)):
        random = np.random.default_rng([seed, cluster_id])
        of_cluster = ChancePosterior(
            posterior.mean[cluster_id],
            posterior.n_effective[cluster_id],
            None if posterior.correlation is None else posterior.correlation[cluster_id],
        )
        draws = of_cluster.draws(n_draws, random)
        drawn = two_state_indices(draws[..., 0], draws[..., 1], discount=discount)
        bounds[:, cluster_id] = np.quantile(drawn, tails, axis=0)
    n_rows = index.size
    return conform(
        pa.table(
            {
                "cluster_id": np.repeat(np.arange(len(index)), len(STATES)),
                "state": list(STATES) * len(index),
                "whittle_index": index.ravel(),
                "index_low": np.minimum(bounds[0], index).ravel(),
                "index_high": np.maximum(bounds[1], index).ravel(),
                "is_indexable": np.ones(n_rows, dtype=bool),
                "p_passive": p_passive.ravel(),
                "p_active": p_active.ravel(),
            }
        ),
        WHITTLE_INDICES,
    )


def tuple_index_table(combos: pa.Table, transitions: pa.Table, *, prior_weight: float, discount: float) -> pa.Table:
    """The index from a caregiver's own passive counts, for every tuple and cluster that occur together.

    Her passive chance in state s is her own posterior mean with the cluster's chance p_cs as prior, w weeks strong;
    a call lifts it by as much as it lifts the cluster's, in log-odds. Weeks with calls have no say, so rows that
    differ in them alone have one index:

        p_s = (n_sR + w p_cs) / (n_s + w),   logit q_s = logit p_s + logit q_cs - logit p_cs.

    A tuple without passive weeks has exactly the cluster's index.

    Parameters
    ----------
    combos : table with n_rr, n_ru, n_ur, n_uu, cluster_id
        Distinct rows; without the columns of ACTIVE_TUPLE nobody was called; further columns are ignored.
    transitions : table of TRANSITION_MODELS
        With chances strictly between 0 and 1.
    prior_weight : float
        w, in weeks; above 0.
    discount : float
        Per week, strictly between 0 and 1.

    Returns
    -------
    table of TUPLE_INDICES
        Both states for every row of combos.

    Raises
    ------
    ValueError
        When a row's cluster is not in `transitions`, or a number is out of bounds.
    """
    p_passive, p_active = transition_arrays(transitions)
    cluster_ids = np.asarray(combos["cluster_id"].to_numpy(), dtype=np.int64)
    unknown = np.setdiff1d(cluster_ids, np.arange(len(p_passive)))
    if len(unknown):
        raise ValueError(
            f"combos.cluster_id: {unknown.tolist()} are not among the clusters 0 to {len(p_passive) - 1} of "
            "transition_models; both must come from the same training run"
        )
    own_passive = own_passive_means(combos, prior_means=p_passive[cluster_ids], prior_weight=prior_weight)
    lift = logit(p_active) - logit(p_passive)
    own_active = expit(logit(own_passive) + lift[cluster_ids])
    own_index = two_state_indices(own_passive, own_active, discount=discount)
    has_active = ACTIVE_TUPLE[0] in combos.column_names
    columns = {
        name: np.repeat(combos[name].to_numpy() if has_active or name in PASSIVE_TUPLE else np.zeros(len(combos)), 2)
        for name in (*PASSIVE_TUPLE, *ACTIVE_TUPLE)
    }
    return conform(
        pa.table(
            {
                **columns,
                "cluster_id": np.repeat(cluster_ids, len(STATES)),
                "state": list(STATES) * len(cluster_ids),
                "own_index": own_index.ravel(),
            }
        ),
        TUPLE_INDICES,
    )
