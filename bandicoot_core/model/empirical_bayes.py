"""What a caregiver's own passive chances are, given her counts and how all caregivers of the programme behave.

A caregiver has at most some sixty weeks, and often none that start in one of the states; her raw shares are noise, and
clusters cut by noise have passive chances that nobody in them has. Here the population itself is the prior: a joint
distribution of (P(R|U), P(R|R)) on a grid is fitted to all tuples at once (nonparametric maximum likelihood, Kiefer
and Wolfowitz 1956, Laird 1978, by expectation-maximization), and every tuple gets its posterior means under it. The
joint form matters: a caregiver who was never unresponsive tells nothing about P(R|U) herself, but those like her do.

The likelihood of a tuple is that of its transitions and of where the chain was: transitions alone are explained as well
by an arm that never moves as by one that is always responsive, so the share f of her weeks in R counts as one draw from
the stationary distribution:

    p_U^n_ur (1-p_U)^n_uu p_R^n_rr (1-p_R)^n_ru  pi_R^f (1-pi_R)^(1-f),   pi_R = p_U / (p_U + 1 - p_R).

Given the prior, the mean of posterior means over any set of tuples chosen by their counts is an unbiased estimate of
the mean chance there, which a share pooled over such a set is not (it is too extreme: regression to the mean).
"""

import numpy as np
import pyarrow as pa
from scipy.special import expit
from threadpoolctl import threadpool_limits

from bandicoot_core.model.posterior import UNKNOWN_CHANCE, FloatArray, passive_evidence

_N_GRID = 24
_LARGEST_LOG_ODDS = 5.0
_N_STEPS = 100
"""Steps of expectation-maximization: fixed, so that no tolerance decides; more of them only sharpen noise."""


def joint_passive_means(counts: pa.Table) -> FloatArray:
    """Posterior means of [P(R|U, passive), P(R|R, passive)] of each distinct tuple, shape (n_tuples, 2).

    `counts` has n_rr, n_ru, n_ur, n_uu (weeks) and n_caregivers, one row per distinct tuple; rows come back in their
    order. Equal tuples have equal means, whatever the order of the rows or how caregivers are pooled, up to rounding.
    Without any row the shape is (0, 2). Cost: n_tuples x 576 x 100 multiplications and one such matrix in memory.
    """
    to_r, weeks = passive_evidence(counts)
    if not len(to_r):
        return np.full((0, 2), UNKNOWN_CHANCE)
    n_caregivers = np.asarray(counts["n_caregivers"].to_numpy(), dtype=np.float64)
    chance = expit(np.linspace(-_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS, _N_GRID))
    p_u, p_r = np.repeat(chance, _N_GRID), np.tile(chance, _N_GRID)
    likelihood = _likelihood(to_r, weeks, p_u, p_r)
    prior = np.full(len(p_u), 1.0 / len(p_u))
    # One thread: the order of additions, and with it the last digit, would depend on the number of cores.
    with threadpool_limits(limits=1):
        for _ in range(_N_STEPS):
            prior *= (n_caregivers / (likelihood @ prior)) @ likelihood
            prior /= prior.sum()
        evidence = likelihood @ prior
        return np.stack([likelihood @ (prior * p_u) / evidence, likelihood @ (prior * p_r) / evidence], axis=-1)


def cluster_passive_means(means: FloatArray, counts: pa.Table, cluster_ids: FloatArray, n_clusters: int) -> FloatArray:
    """P(next = R | state, passive) of each cluster: its tuples' means, weighted by the weeks they spent in the state.

    means: (n_tuples, 2) of joint_passive_means; counts: the same tuples with n_caregivers; cluster_ids: (n_tuples,).
    Weeks weigh because an index is used for the caregivers who are in that state: a cluster's rare visitors to a state
    count as rarely as they come. Where no week started in a state, caregivers weigh. Returns (n_clusters, 2), [U, R];
    a cluster without tuples has UNKNOWN_CHANCE.
    """
    _, weeks = passive_evidence(counts)
    n_caregivers = np.asarray(counts["n_caregivers"].to_numpy(), dtype=np.float64)[:, None]
    labels = np.asarray(cluster_ids, dtype=np.int64)
    estimates = np.full((n_clusters, 2), UNKNOWN_CHANCE)
    for state in range(2):
        for weight in (n_caregivers[:, 0], n_caregivers[:, 0] * weeks[:, state]):
            total = np.bincount(labels, weight, n_clusters)
            mean = np.bincount(labels, weight * means[:, state], n_clusters)
            np.divide(mean, total, out=estimates[:, state], where=total > 0)
    return estimates


def _likelihood(to_r: FloatArray, weeks: FloatArray, p_u: FloatArray, p_r: FloatArray) -> FloatArray:
    """Likelihood of each tuple at each point of the grid, (n_tuples, n_points), each row scaled to a maximum of 1."""
    share_in_r = np.divide(
        weeks[:, 1], weeks.sum(axis=1), out=np.full(len(weeks), UNKNOWN_CHANCE), where=weeks.sum(axis=1) > 0
    )[:, None]
    # A caregiver without a single passive week says nothing, about where she was either.
    is_observed = weeks.sum(axis=1)[:, None] > 0
    stationary = p_u / (p_u + 1 - p_r)
    logarithm = (
        to_r[:, :1] * np.log(p_u)
        + (weeks - to_r)[:, :1] * np.log1p(-p_u)
        + to_r[:, 1:] * np.log(p_r)
        + (weeks - to_r)[:, 1:] * np.log1p(-p_r)
        + is_observed * (share_in_r * np.log(stationary) + (1 - share_in_r) * np.log1p(-stationary))
    )
    scaled: FloatArray = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    return scaled
