"""Mean chances of clusters' members, and how well they are known, from the fitted model of all weeks.

Not here: the fit (`call_effects`), what is known of one caregiver (`behavioural_types`), and the table of transitions
(`transitions`). States are ordered [U, R], actions [passive, active].
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from bandicoot_core.model.behavioural_types import BehaviouralTypes, Evidence, IntArray, normalized
from bandicoot_core.model.call_effects import CallEffects, in_region
from bandicoot_core.model.empirical_bayes import type_grid
from bandicoot_core.model.posterior import ChancePosterior, FloatArray

_LARGEST_CORRELATION = 0.99


@dataclass(frozen=True)
class ClusterChances:
    """Posterior of clusters' mean chances, and the mix of types among members."""

    posterior: ChancePosterior
    """(n_clusters, 2, 2): state, action."""
    mix: FloatArray
    """(n_clusters, n_types), rows add up to 1."""


def cluster_chances(effects: CallEffects, tuples: pa.Table, cluster_ids: IntArray, n_clusters: int) -> ClusterChances:
    """Mean chances of each cluster's members and how well they are known.

    Members weigh by the passive weeks they spent in the state, as an index is used for those who are in it; where no
    week of a cluster started in a state, members weigh equally, and a cluster without members is the population.

    The variance v of a mean m has three parts, with w_i the weight of member i and Var_i the variance of her chance
    under her posterior:

    - members' chances scatter around their posterior means, which averages out: sum_i w_i^2 Var_i / (sum_i w_i)^2;
    - the shares pi(theta) are estimated: if the true mix of types differs from the fitted one by the chi-square
      distance kappa^2, means differ by at most kappa standard deviations (Cauchy and Schwarz), so
      kappa^2 sum_i w_i Var_i / sum_i w_i is added;
    - the lifts are estimated: G Cov(delta) G', with G the derivatives of the active mean in delta; and lifts differ
      within a region too, so that another mix moves the mean, by kappa tau_s sum_k G_k / 2 (the half is measured, as
      kappa).

    The posterior is taken as Beta with mean m and this variance, that is with weight n = m (1 - m) / v - 1, at least 1.
    The first two parts move the passive and the active mean of a state together, in proportion to the covariance of a
    member's two chances; the correlation that follows is kept, for the index lives on their difference.

    Parameters
    ----------
    effects : CallEffects
        Fitted on all caregivers.
    tuples : table with PASSIVE_TUPLE, ACTIVE_TUPLE, n_caregivers
        Members of clusters, distinct rows.
    cluster_ids : ndarray of shape (n_rows,)
    n_clusters : int
    """
    moments = _moments(effects, tuples, np.asarray(cluster_ids, dtype=np.int64), n_clusters)
    n_members = moments.types[0, 0].sum(axis=-1)
    # Members weigh by weeks where there are any; both kinds of sums are there, [members, weeks].
    has_weeks = (moments.types[1].sum(axis=-1) > 0).astype(np.int64)
    types = np.take_along_axis(moments.types, has_weeks[None, :, :, None], axis=0)[0]
    scatter = np.take_along_axis(moments.scatter, has_weeks[None, :, :, None], axis=0)[0]
    squares = np.take_along_axis(moments.squares, has_weeks[None, :, :, None], axis=0)[0]
    size = np.where(n_members > 0, types.sum(axis=-1), 1.0)[..., None]
    mix = np.where(n_members[None, :, None] > 0, types / size, effects.share)
    p, q = type_grid(), effects.p_active
    mean = np.stack([mix[s] @ np.stack([p[s], q[s]], axis=-1) for s in range(2)], axis=1)
    shared = np.moveaxis(squares / size**2 + effects.misfit**2 * scatter / size, 0, 1)
    variance, covariance = shared[..., :2], shared[..., 2]
    variance[..., 1] += _variance_of_lifts(effects, mix)
    # Without members the population stands in, whose types differ as much as types do.
    alone = np.stack([effects.share @ np.stack([c**2, c], axis=-1) for c in (*p, *q)])
    spread = (alone[:, 0] - alone[:, 1] ** 2).reshape(2, 2).T
    variance = np.where(n_members[:, None, None] > 0, variance, spread)
    correlation = np.clip(
        covariance / np.sqrt(variance[..., 0] * variance[..., 1]), -_LARGEST_CORRELATION, _LARGEST_CORRELATION
    )
    correlation = np.where(n_members[:, None] > 0, correlation, 0.0)
    return ClusterChances(
        ChancePosterior(mean, np.maximum(mean * (1 - mean) / variance - 1, 1.0), correlation),
        np.where(n_members[:, None] > 0, moments.types[0, 0] / np.maximum(n_members, 1.0)[:, None], effects.share),
    )


def types_of(effects: CallEffects, mix: FloatArray) -> BehaviouralTypes:
    """The fitted types, with the mix of each cluster that `cluster_chances` found."""
    return BehaviouralTypes(effects.share, type_grid(), effects.p_active, effects.region, mix)


@dataclass(frozen=True)
class _MemberSums:
    """Sums over the members of clusters; first axis: members weigh equally, by weeks in the state; second: state."""

    types: FloatArray
    """Weights times posteriors, (2, 2, n_clusters, n_types)."""
    scatter: FloatArray
    """Weights times the variances of passive and active chances and their covariance, (2, 2, n_clusters, 3)."""
    squares: FloatArray
    """Squared weights times the same."""


def _moments(effects: CallEffects, tuples: pa.Table, labels: IntArray, n_clusters: int) -> _MemberSums:
    p, q = type_grid(), effects.p_active
    evidence = Evidence(tuples, p)
    types = np.zeros((2, 2, n_clusters, len(effects.share)))
    scatter, squares = np.zeros((2, 2, n_clusters, 3)), np.zeros((2, 2, n_clusters, 3))
    with threadpool_limits(limits=1):
        for rows, weight in evidence.chunks(q):
            posterior = normalized(weight * effects.share)
            members = np.zeros((n_clusters, len(rows)))
            members[labels[rows], np.arange(len(rows))] = evidence.n_caregivers[rows]
            for s in range(2):
                means = [posterior @ chance for chance in (p[s], q[s])]
                products = [posterior @ product for product in (p[s] ** 2, q[s] ** 2, p[s] * q[s])]
                of_means = (means[0] ** 2, means[1] ** 2, means[0] * means[1])
                variance = np.stack([x - y for x, y in zip(products, of_means, strict=True)], axis=-1)
                for way, weight_of_row in enumerate((np.ones(len(rows)), evidence.weeks[rows, s])):
                    types[way, s] += (members * weight_of_row) @ posterior
                    scatter[way, s] += (members * weight_of_row) @ variance
                    squares[way, s] += (members * weight_of_row**2) @ variance
    return _MemberSums(types, scatter, squares)


def _variance_of_lifts(effects: CallEffects, mix: FloatArray) -> FloatArray:
    """Of the clusters' active means, (n_clusters, 2), by the delta method; mix: (2, n_clusters, n_types)."""
    n_regions = effects.lift.shape[1]
    membership = in_region(effects.region, n_regions)
    variances = []
    for s in range(2):
        derivative = (mix[s] * effects.p_active[s] * (1 - effects.p_active[s])) @ membership
        estimated = ((derivative @ effects.lift_covariance[s]) * derivative).sum(axis=1)
        mixed = (0.5 * effects.misfit * effects.spread[s] * derivative.sum(axis=1)) ** 2
        variances.append(estimated + mixed)
    return np.stack(variances, axis=-1)
