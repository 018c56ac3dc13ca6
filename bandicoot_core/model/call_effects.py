"""What a call does, estimated together with what caregivers do by themselves.

Here: one likelihood for all weeks of all caregivers, with calls and without, its fit, and the posterior of clusters'
mean chances that follows. Not here: the passive model alone (`empirical_bayes`), what a single caregiver's weeks say
(`behavioural_types`), estimates from pooled counts (`estimators`), and the table of transitions (`transitions`).

Why together. A call that works leads to weeks that start responsive. These are passive weeks of the same caregiver and
decide with the others which cluster she is put in: among members of a cluster that is hardly ever responsive calls
failed, or she would not be a member. Active weeks pooled by cluster are thus selected by their own outcome, and calls
that do nothing seem to help in some clusters and to harm in others. A posterior that conditions on the active weeks as
well as the passive ones is free of this: the mean of posterior means over any set of caregivers chosen by their counts
is an unbiased estimate of the mean chance there.

The model. A caregiver's type is a point theta = (p_U, p_R) of the grid of `empirical_bayes`, its share pi(theta) free.
A call moves a chance by a lift in log-odds that depends on the state and on where theta lies (region k(theta), the
cluster with the nearest centroid). With a_sR and a_sU her active weeks from s to R and to U,

    logit q_s(theta) = logit p_s + delta_{s,k(theta)}
    L(theta) = L_passive(theta) * prod_s q_s(theta)^a_sR (1 - q_s(theta))^a_sU
    delta_{s,k} ~ N(x_k . beta_s, tau_s^2),   x_k = (1, (logit c_kU - mean) / 2, (logit c_kR - mean) / 2)

with c_k the centroid of k. Lifts are thereby shrunk towards a plane over the clusters as far as the weeks with calls
do not speak against it (empirical Bayes in the sense of Efron and Morris 1975, JASA 70; tau_s by
expectation-maximization of its marginal likelihood, held by a weak inverse-gamma prior so that few calls do not make
all lifts one).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from bandicoot_core.model.behavioural_types import BehaviouralTypes, Evidence, IntArray, normalized
from bandicoot_core.model.empirical_bayes import fitted_prior, stretched_step, type_grid
from bandicoot_core.model.posterior import ChancePosterior, FloatArray

_N_PASSIVE_STEPS = 120
_N_JOINT_STEPS = 40
"""Steps of expectation-maximization without and with the active weeks: fixed, so that no tolerance decides."""
_N_NEWTON_STEPS = 4
_LARGEST_STEP = 1.0
_INTERCEPT_SPREAD, _SLOPE_SPREAD = 2.0, 0.5
"""Standard deviations of the prior of beta: how far, in log-odds, calls move chances on average, and how that bends."""
_SPREAD_GUESS, _SPREAD_WEIGHT = 0.7, 4.0
"""Prior of tau_s: its size in log-odds, and for how many clusters the guess counts."""
_SMALLEST_VARIANCE = 1e-4
_MISFIT, _SMALLEST_MISFIT = 0.7, 0.03
"""kappa = max(0.03, 0.7 n^(-1/4)) is how far the mix of types fitted to n caregivers is from the true one. Measured:
with it 90% intervals of clusters' passive chances hold the truth in 85 to 95% of simulated programmes of 10,000 and of
50,000 caregivers (tests/core/evaluation/test_honest_intervals.py); the floor is for what no simulation knows."""
_LARGEST_CORRELATION = 0.99
_EDGE = 1e-3


@dataclass(frozen=True)
class CallEffects:
    """The fitted model; n_types and n_regions are the sizes of the grid and of the set of clusters."""

    share: FloatArray
    """pi(theta), (n_types,)."""
    region: IntArray
    """k(theta), (n_types,)."""
    p_active: FloatArray
    """q_s(theta), (2, n_types), states [U, R]."""
    lift: FloatArray
    """delta_{s,k}, (2, n_regions)."""
    lift_covariance: FloatArray
    """Of delta, both states together, U first: (2 n_regions, 2 n_regions)."""
    common_lift: FloatArray
    """The plane's height at the mean centroid, by state: (2,), in log-odds."""
    spread: FloatArray
    """tau_s, (2,)."""
    misfit: float
    """kappa, the distance of the fitted mix of types from the true one."""


def fit_call_effects(tuples: pa.Table, centroids: FloatArray) -> CallEffects:
    """The model of all caregivers' weeks.

    Parameters
    ----------
    tuples : table with PASSIVE_TUPLE, ACTIVE_TUPLE, n_caregivers
        Distinct rows and how many caregivers have each, in weeks. With RECENT_ACTIVE_TUPLE lifts are estimated from
        weighted active weeks; who is of which type is told by all weeks alike. Further columns are ignored; the order
        of the rows changes nothing but rounding.
    centroids : ndarray of shape (n_regions, 2)
        [P(R|U), P(R|R)] without calls of each cluster.

    Returns
    -------
    CallEffects
        Cost: 40 times rows with calls x 576 multiplications; memory: distinct passive tuples x 576, and chunks.

    Raises
    ------
    ValueError
        Without rows or centroids.
    """
    if not tuples.num_rows or not len(centroids):
        raise ValueError(
            f"tuples has {tuples.num_rows} rows and centroids {len(centroids)}; expected at least one of each"
        )
    p = type_grid()
    evidence = Evidence(tuples, p)
    region = nearest_clusters(p, centroids)
    plane = _plane(centroids)
    n_regions = len(centroids)
    delta, variance = np.zeros((2, n_regions)), np.full(2, _SPREAD_GUESS**2)
    beta = np.zeros((2, plane.shape[1]))
    beta_precision = np.diag([_INTERCEPT_SPREAD**-2, *[_SLOPE_SPREAD**-2] * (plane.shape[1] - 1)])
    # One thread: the order of additions, and with it the last digit, would depend on the number of cores.
    with threadpool_limits(limits=1):
        by_tuple = evidence.caregivers_by_tuple()
        share = fitted_prior(evidence.likelihood, by_tuple, n_steps=_N_PASSIVE_STEPS)
        for _ in range(_N_JOINT_STEPS):
            expected, to_r, weeks = _expected(evidence, share, expit(logit(p) + delta[:, region]))
            share = stretched_step(share, expected)
            for s in range(2):
                delta[s], beta[s], precision = _lifts(
                    p[s], to_r[s], weeks[s], region, plane, delta[s], beta[s], variance[s], beta_precision
                )
                scatter = ((delta[s] - plane @ beta[s]) ** 2 + 1 / precision).sum()
                guess = _SPREAD_WEIGHT * _SPREAD_GUESS**2
                variance[s] = max(_SMALLEST_VARIANCE, (scatter + guess) / (n_regions + _SPREAD_WEIGHT))
        q = expit(logit(p) + delta[:, region])
        information = _information(evidence, share, q, region, n_regions)
    covariance = _covariance(information, plane, variance, beta_precision)
    misfit = misfit_of(evidence.n_caregivers.sum())
    return CallEffects(share, region, q, delta, covariance, beta[:, 0], np.sqrt(variance), misfit)


def misfit_of(n_caregivers: float) -> float:
    """kappa of a mix of types that was fitted to so many caregivers."""
    return max(_SMALLEST_MISFIT, _MISFIT * float(n_caregivers) ** -0.25)


def nearest_clusters(p_passive: FloatArray, centroids: FloatArray) -> IntArray:
    """The cluster with the nearest centroid (n_clusters, 2) for each type (2, n_types): (n_types,)."""
    distances = ((p_passive.T[:, None] - centroids[None]) ** 2).sum(axis=-1)
    return np.argmin(distances, axis=1).astype(np.int64)


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
      within a region too, so that another mix moves the mean, by 1.5 kappa tau_s sum_k G_k (1.5 is measured, as kappa).

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


def _expected(evidence: Evidence, share: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """One expectation: caregivers (n_types,), active weeks to R and in all of each type, (2, n_types) each."""
    first = evidence.order[: evidence.n_quiet]
    quiet = np.bincount(evidence.which[first], evidence.n_caregivers[first], len(evidence.likelihood))
    caregivers = share * ((quiet / (evidence.likelihood @ share)) @ evidence.likelihood)
    to_r, weeks = np.zeros(q.shape), np.zeros(q.shape)
    for rows, weight in evidence.chunks(q, start=evidence.n_quiet):
        posterior = normalized(weight * share)
        n = evidence.n_caregivers[rows]
        caregivers += n @ posterior
        to_r += (n[:, None] * evidence.weighted_to_r[rows]).T @ posterior
        weeks += (n[:, None] * evidence.weighted_weeks[rows]).T @ posterior
    return caregivers, to_r, weeks


def _information(evidence: Evidence, share: FloatArray, q: FloatArray, region: IntArray, n_regions: int) -> FloatArray:
    """Fisher information about delta from scores of the marginal likelihood, (2 n_regions, 2 n_regions).

    A caregiver's score in delta_{s,k} is the sum over theta in k of her posterior times (a_sR - a_s q_s(theta)).
    """
    in_region = _in_region(region, n_regions)
    total = np.zeros((2 * n_regions, 2 * n_regions))
    for rows, weight in evidence.chunks(q, start=evidence.n_quiet):
        posterior = normalized(weight * share)
        of_region = posterior @ in_region
        scores = []
        for s in range(2):
            expected = posterior @ (q[s][:, None] * in_region)
            scores.append(
                evidence.weighted_to_r[rows, s, None] * of_region - evidence.weighted_weeks[rows, s, None] * expected
            )
        score = np.concatenate(scores, axis=1)
        total += (evidence.n_caregivers[rows, None] * score).T @ score
    return total


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
    in_region = _in_region(effects.region, n_regions)
    variances = []
    for s in range(2):
        derivative = (mix[s] * effects.p_active[s] * (1 - effects.p_active[s])) @ in_region
        block = slice(s * n_regions, (s + 1) * n_regions)
        estimated = ((derivative @ effects.lift_covariance[block, block]) * derivative).sum(axis=1)
        mixed = (1.5 * effects.misfit * effects.spread[s] * derivative.sum(axis=1)) ** 2
        variances.append(estimated + mixed)
    return np.stack(variances, axis=-1)


def _in_region(region: IntArray, n_regions: int) -> FloatArray:
    return np.equal(region[:, None], np.arange(n_regions)).astype(np.float64)


def _plane(centroids: FloatArray) -> FloatArray:
    """x_k, (n_regions, 3)."""
    position = logit(np.clip(centroids, _EDGE, 1 - _EDGE))
    return np.concatenate([np.ones((len(centroids), 1)), (position - position.mean(axis=0)) / 2], axis=1)


def _lifts(
    p: FloatArray,
    to_r: FloatArray,
    weeks: FloatArray,
    region: IntArray,
    plane: FloatArray,
    delta: FloatArray,
    beta: FloatArray,
    variance: float,
    beta_precision: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Newton steps for the lifts of one state and the plane through them; also the precision of each lift."""
    n_regions = len(delta)
    precision = np.full(n_regions, 1 / variance)
    for _ in range(_N_NEWTON_STEPS):
        q = expit(logit(p) + delta[region])
        gradient = np.bincount(region, to_r - weeks * q, n_regions) - (delta - plane @ beta) / variance
        precision = np.bincount(region, weeks * q * (1 - q), n_regions) + 1 / variance
        delta = delta + np.clip(gradient / precision, -_LARGEST_STEP, _LARGEST_STEP)
        normal = plane.T @ plane / variance + beta_precision
        beta = np.asarray(np.linalg.solve(normal, plane.T @ delta / variance), dtype=np.float64)
    return delta, beta, precision


def _covariance(
    information: FloatArray, plane: FloatArray, variance: FloatArray, beta_precision: FloatArray
) -> FloatArray:
    """Covariance of delta given tau, with beta unknown: the inverse of information plus the prior's precision."""
    n_regions = len(plane)
    prior = np.zeros(information.shape)
    for s in range(2):
        spread = variance[s] * np.eye(n_regions) + plane @ np.linalg.inv(beta_precision) @ plane.T
        block = slice(s * n_regions, (s + 1) * n_regions)
        prior[block, block] = np.linalg.inv(spread)
    return np.asarray(np.linalg.inv(information + prior), dtype=np.float64)
