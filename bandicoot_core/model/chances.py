"""The chances of a training run, by the estimator that is chosen: transition models of clusters and behavioural types.

Here: which estimator gives what, from one table of members and their weeks. Not here: the estimators themselves
(`call_effects`, `estimators`, `empirical_bayes`) and how they compare (evaluation.estimation).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from ibis.expr.types import Table
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from bandicoot_core.contracts import ACTIVE_TUPLE, BY_HISTORY, CLUSTERS, PASSIVE_TUPLE, conform
from bandicoot_core.engagement.counts import RECENT_ACTIVE_TUPLE, RECENT_PASSIVE_TUPLE
from bandicoot_core.model.behavioural_types import BehaviouralTypes, Evidence, IntArray
from bandicoot_core.model.call_effects import CallEffects, fit_call_effects, misfit_of, nearest_clusters
from bandicoot_core.model.cluster_chances import cluster_chances, types_of
from bandicoot_core.model.empirical_bayes import fitted_prior, type_grid
from bandicoot_core.model.estimators import (
    ESTIMATORS,
    Estimator,
    beta_by_likelihood,
    beta_by_moments,
    common_lift,
    laplace,
)
from bandicoot_core.model.posterior import ChancePosterior, FloatArray
from bandicoot_core.model.transitions import LAPLACE_PRIOR, transition_table

RECENT_TUPLE = (*RECENT_PASSIVE_TUPLE, *RECENT_ACTIVE_TUPLE)

_EDGE = 1e-6
_DECIMALS = 6


@dataclass(frozen=True)
class FittedChances:
    """What a training run estimates."""

    transitions: pa.Table
    """TRANSITION_MODELS."""
    types: BehaviouralTypes


def member_tuples(transition_counts: Table, assignments: Table) -> Table:
    """How many caregivers share counts, cluster and way of assignment: the distinct rows that chances are fitted on.

    Columns PASSIVE_TUPLE, ACTIVE_TUPLE, cluster_id, assigned_by, n_caregivers, and sums of RECENT_TUPLE where
    `transition_counts` has it. assignments: caregiver_key, cluster_id, assigned_by; caregivers without counts have
    zeros. The rows grow with how many were called, not with how many there are.
    """
    names = (*PASSIVE_TUPLE, *ACTIVE_TUPLE)
    recent = [name for name in RECENT_TUPLE if name in transition_counts.columns]
    joined = (
        assignments.select("caregiver_key", "cluster_id", "assigned_by")
        .left_join(transition_counts.select("caregiver_key", *names, *recent), "caregiver_key")
        .drop("caregiver_key_right")
    )
    joined = joined.mutate(**{name: joined[name].fill_null(0) for name in (*names, *recent)})
    return joined.group_by(*names, "cluster_id", "assigned_by").aggregate(
        n_caregivers=joined.count(), **{name: joined[name].sum() for name in recent}
    )


def fit_chances(tuples: pa.Table, clusters: pa.Table, *, estimator: Estimator, interval: float) -> FittedChances:
    """Transition models of clusters and behavioural types by one estimator.

    Whatever the estimator, passive chances are empirical-Bayes posterior means of the members by history. They differ
    in the active ones, and `joint` also lets active weeks inform the passive chances. The types of the estimators that
    know clusters only take over the lift of the cluster they are nearest to.

    With RECENT_TUPLE recent weeks weigh more in two places: effects of calls are estimated from weighted active weeks,
    and the passive chance of a cluster moves, in log-odds, by as much as its pooled share moves when recent weeks weigh
    more (both shares are over the same members, so what selected them cancels). Clusters, shares of types and the
    posterior of a single caregiver stay with all weeks alike, and so do the counts shown beside the estimates.

    Parameters
    ----------
    tuples : table
        Output of `member_tuples`.
    clusters : table of CLUSTERS
        Ids 0 to k - 1.
    estimator : str
        One of ESTIMATORS.
    interval : float
        Probability inside the credible intervals.

    Raises
    ------
    ValueError
        For an unknown estimator, an interval out of bounds, or a cluster of `tuples` that `clusters` lacks.
    """
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator is {estimator!r}; expected one of {', '.join(ESTIMATORS)}")
    # Sorted and rounded, so that nothing depends on the order in which an engine returns groups and adds up weights.
    tuples = tuples.sort_by([(name, "ascending") for name in (*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id")])
    for name in RECENT_TUPLE if RECENT_TUPLE[0] in tuples.column_names else ():
        rounded = np.round(tuples[name].to_numpy(), _DECIMALS)
        tuples = tuples.set_column(tuples.column_names.index(name), name, pa.array(rounded))
    clusters = conform(clusters, CLUSTERS)
    n_clusters = clusters.num_rows
    centroids = np.stack([clusters["p_passive_u"].to_numpy(), clusters["p_passive_r"].to_numpy()], axis=-1)
    labels = np.asarray(tuples["cluster_id"].to_numpy(), dtype=np.int64)
    if len(labels) and not (labels.min() >= 0 and labels.max() < n_clusters):
        raise ValueError(f"tuples.cluster_id: {labels.min()} to {labels.max()}; expected 0 to {n_clusters - 1}")
    counts = pooled_counts(tuples, n_clusters)
    is_weighted = RECENT_PASSIVE_TUPLE[0] in tuples.column_names
    pooled = pooled_counts(tuples, n_clusters, is_weighted=True) if is_weighted else counts
    is_member = np.asarray(tuples["assigned_by"].to_pylist(), dtype=object) == BY_HISTORY
    members, member_of = tuples.filter(pa.array(is_member)), labels[is_member]
    if estimator == "joint":
        effects = fit_call_effects(tuples, centroids)
        found = cluster_chances(effects, members, member_of, n_clusters)
        posterior, types = found.posterior, types_of(effects, found.mix)
    else:
        posterior, types = _from_pooled(tuples, members, member_of, pooled, centroids, estimator)
    if is_weighted:
        posterior = _drifted(posterior, counts, pooled)
    return FittedChances(transition_table(counts, posterior, interval=interval), types)


def pooled_counts(tuples: pa.Table, n_clusters: int, *, is_weighted: bool = False) -> FloatArray:
    """Transitions of each cluster's caregivers, (n_clusters, 2, 2, 2): state [U, R], action, to [R, U].

    `tuples` is the output of `member_tuples`; weighted weeks are the sums of its RECENT_TUPLE.
    """
    labels = np.asarray(tuples["cluster_id"].to_numpy(), dtype=np.int64)
    n = np.asarray(tuples["n_caregivers"].to_numpy(), dtype=np.float64)
    if is_weighted:
        sums = [tuples[name].to_numpy() for name in RECENT_TUPLE]
    else:
        sums = [n * tuples[name].to_numpy() for name in (*PASSIVE_TUPLE, *ACTIVE_TUPLE)]
    totals = [np.bincount(labels, values, n_clusters).astype(np.float64) for values in sums]
    # Counts are RR, RU, UR, UU per action.
    stacked = np.stack(totals, axis=-1).reshape(n_clusters, 2, 2, 2)
    return np.swapaxes(stacked, 1, 2)[:, ::-1]


def _from_pooled(
    tuples: pa.Table,
    members: pa.Table,
    member_of: IntArray,
    pooled: FloatArray,
    centroids: FloatArray,
    estimator: Estimator,
) -> tuple[ChancePosterior, BehaviouralTypes]:
    """Posterior of the chances, (n_clusters, 2, 2), and the types, by an estimator of pooled active weeks."""
    n_clusters = len(centroids)
    grid = type_grid()
    region = nearest_clusters(grid, centroids)
    passive_only = Evidence(tuples.select([*PASSIVE_TUPLE, "n_caregivers"]), grid)
    with threadpool_limits(limits=1):
        share = fitted_prior(passive_only.likelihood, passive_only.caregivers_by_tuple())
    effects = CallEffects(
        share=share,
        region=region,
        p_active=grid,
        lift=np.zeros((2, n_clusters)),
        lift_covariance=np.zeros((2, n_clusters, n_clusters)),
        spread=np.zeros(2),
        misfit=misfit_of(passive_only.n_caregivers.sum()),
    )
    passive = cluster_chances(effects, members.select([*PASSIVE_TUPLE, "n_caregivers"]), member_of, n_clusters)
    p = passive.posterior.mean[..., 0]
    to_r, to_u = pooled[:, :, 1, 0], pooled[:, :, 1, 1]
    is_lift = estimator == "common_lift"
    active = common_lift(to_r, to_u, p) if is_lift else _OF_POOLED_WEEKS[estimator](to_r, to_u)
    posterior = ChancePosterior(
        np.stack([p, active.mean], axis=-1),
        np.stack([passive.posterior.n_effective[..., 0], active.n_effective], axis=-1),
    )
    lift = logit(active.mean) - logit(p)
    q = np.clip(expit(logit(grid) + lift[region].T), _EDGE, 1 - _EDGE)
    return posterior, BehaviouralTypes(share, grid, q, region, passive.mix)


_OF_POOLED_WEEKS = {"laplace": laplace, "beta_moments": beta_by_moments, "beta_likelihood": beta_by_likelihood}


def _drifted(posterior: ChancePosterior, counts: FloatArray, recent: FloatArray) -> ChancePosterior:
    """The posterior with passive chances moved to where recent weeks are, and their weight cut to those weeks."""
    a, b = LAPLACE_PRIOR
    shares = [(x[:, :, 0, 0] + a) / (x[:, :, 0].sum(axis=-1) + a + b) for x in (recent, counts)]
    moved = expit(logit(posterior.mean[..., 0]) + logit(shares[0]) - logit(shares[1]))
    n_recent = recent[:, :, 0].sum(axis=-1) + a + b
    mean, n_effective = posterior.mean.copy(), posterior.n_effective.copy()
    mean[..., 0], n_effective[..., 0] = moved, np.minimum(n_effective[..., 0], n_recent)
    return ChancePosterior(mean, n_effective, posterior.correlation)
