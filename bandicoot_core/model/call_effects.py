"""What a call does, estimated together with what caregivers do by themselves.

Here: one likelihood for all weeks of all caregivers, with calls and without, and its fit. Not here: the prior of lifts
and its arithmetic (`lifts`), the mean chances of clusters that follow (`cluster_chances`), the passive model alone
(`empirical_bayes`), what a single caregiver's weeks say (`behavioural_types`), and pooled counts (`estimators`).

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
    delta_{s,.} ~ N(0, S(tau_s)), a plane over the clusters and scatter around it, as in `lifts`

Fitted by expectation-maximization; the posterior of lifts and of their scatter follows from the log-likelihood's
derivatives there, with the shares pi held.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from bandicoot_core.model.behavioural_types import Evidence, IntArray, normalized
from bandicoot_core.model.empirical_bayes import fitted_prior, stretched_step, type_grid
from bandicoot_core.model.lifts import lift_posterior, mode_of_lifts, plane_of
from bandicoot_core.model.posterior import FloatArray

_N_PASSIVE_STEPS = 120
_N_ROUNDS, _N_JOINT_STEPS = 2, 20
"""Steps of expectation-maximization, without the active weeks, then with them; tau is estimated after each round."""
_SPREAD_GUESS = 0.7
_MISFIT, _SMALLEST_MISFIT = 0.7, 0.03
"""kappa = max(0.03, 0.7 n^(-1/4)) is how far the mix of types fitted to n caregivers is from the true one. Measured:
with it 90% intervals of clusters' passive chances hold the truth in 85 to 95% of simulated programmes of 10,000 and of
50,000 caregivers (tests/core/evaluation/test_honest_intervals.py); the floor is for what no simulation knows."""


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
    """Of delta_s, (2, n_regions, n_regions)."""
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
    plane = plane_of(centroids)
    n_regions = len(centroids)
    delta, spread = np.zeros((2, n_regions)), np.full(2, _SPREAD_GUESS)
    # One thread: the order of additions, and with it the last digit, would depend on the number of cores.
    with threadpool_limits(limits=1):
        by_tuple = evidence.caregivers_by_tuple()
        share = fitted_prior(evidence.likelihood, by_tuple, n_steps=_N_PASSIVE_STEPS)
        for _ in range(_N_ROUNDS):
            for _ in range(_N_JOINT_STEPS):
                expected, to_r, weeks = _expected(evidence, share, expit(logit(p) + delta[:, region]))
                share = stretched_step(share, expected)
                for s in range(2):
                    delta[s] = mode_of_lifts(p[s], to_r[s], weeks[s], region, plane, delta[s], spread[s])
            slope, information = _score(evidence, share, expit(logit(p) + delta[:, region]), region, n_regions)
            found = [lift_posterior(delta[s], slope[s], information[s], plane) for s in range(2)]
            spread = np.array([posterior.spread for posterior in found])
    mean = np.stack([posterior.mean for posterior in found])
    return CallEffects(
        share=share,
        region=region,
        p_active=expit(logit(p) + mean[:, region]),
        lift=mean,
        lift_covariance=np.stack([posterior.covariance for posterior in found]),
        spread=spread,
        misfit=misfit_of(evidence.n_caregivers.sum()),
    )


def misfit_of(n_caregivers: float) -> float:
    """kappa of a mix of types that was fitted to so many caregivers."""
    return max(_SMALLEST_MISFIT, _MISFIT * float(n_caregivers) ** -0.25)


def nearest_clusters(p_passive: FloatArray, centroids: FloatArray) -> IntArray:
    """The cluster with the nearest centroid (n_clusters, 2) for each type (2, n_types): (n_types,)."""
    distances = ((p_passive.T[:, None] - centroids[None]) ** 2).sum(axis=-1)
    return np.argmin(distances, axis=1).astype(np.int64)


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


def _score(
    evidence: Evidence, share: FloatArray, q: FloatArray, region: IntArray, n_regions: int
) -> tuple[FloatArray, FloatArray]:
    """Derivative of the log-likelihood in delta and its information: (2, n_regions), (2, n_regions, n_regions).

    A caregiver's score in delta_{s,k} is the sum over theta in k of her posterior times (a_sR - a_s q_s(theta)); the
    information is the sum of its squares (Fisher's), and counts what is lost by not knowing her type.
    """
    membership = in_region(region, n_regions)
    slope, information = np.zeros((2, n_regions)), np.zeros((2, n_regions, n_regions))
    for rows, weight in evidence.chunks(q, start=evidence.n_quiet):
        posterior = normalized(weight * share)
        of_region = posterior @ membership
        n = evidence.n_caregivers[rows, None]
        for s in range(2):
            expected = posterior @ (q[s][:, None] * membership)
            score = (
                evidence.weighted_to_r[rows, s, None] * of_region - evidence.weighted_weeks[rows, s, None] * expected
            )
            slope[s] += (n * score).sum(axis=0)
            information[s] += (n * score).T @ score
    return slope, information


def in_region(region: IntArray, n_regions: int) -> FloatArray:
    """Whether a type (n_types,) lies in a region, as 1 or 0: (n_types, n_regions)."""
    return np.equal(region[:, None], np.arange(n_regions)).astype(np.float64)
