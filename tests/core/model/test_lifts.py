"""The prior of lifts and their posterior over an unknown spread, against quadrature and a general optimizer."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit
from scipy.stats import multivariate_normal

from bandicoot_core.model.lifts import lift_posterior, mode_of_lifts, plane_of

CENTROIDS = np.array([[0.1, 0.6], [0.3, 0.8], [0.5, 0.9], [0.05, 0.3]])
PLANE = plane_of(CENTROIDS)


def prior_covariance(spread: float) -> np.ndarray:
    return spread**2 * np.eye(len(PLANE)) + PLANE @ np.diag([4, 0.25, 0.25]) @ PLANE.T


def test_the_plane_has_a_one_and_two_centred_positions_in_half_log_odds() -> None:
    assert np.array_equal(PLANE[:, 0], np.ones(4))
    assert PLANE[:, 1:].mean(axis=0) == pytest.approx([0, 0], abs=1e-12)
    assert PLANE[1, 1] - PLANE[0, 1] == pytest.approx((logit(0.3) - logit(0.1)) / 2)


def test_the_mode_is_where_a_general_optimizer_finds_it() -> None:
    random = np.random.default_rng(3)
    p, region = random.uniform(0.05, 0.9, 30), random.integers(0, 4, 30)
    weeks = random.uniform(0, 40, 30)
    to_r = weeks * expit(logit(p) + 0.8)

    def minus_log(delta: np.ndarray) -> float:
        odds = logit(p) + delta[region]
        likelihood = (to_r * log_expit(odds) + (weeks - to_r) * log_expit(-odds)).sum()
        return float(-likelihood + delta @ np.linalg.solve(prior_covariance(0.4), delta) / 2)

    expected = minimize(minus_log, np.zeros(4), tol=1e-10).x
    found = np.zeros(4)
    for _ in range(5):
        found = mode_of_lifts(p, to_r, weeks, region, PLANE, found, 0.4)
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scatter", [0.0, 1.5])
def test_the_posterior_is_that_of_a_quadrature_over_the_spread(scatter: float) -> None:
    random = np.random.default_rng(5)
    root = random.normal(0, 2, (4, 6))
    information = root @ root.T
    observed = 0.7 + scatter * random.normal(size=4)
    # Seen from anywhere, the same log-likelihood gives the same posterior.
    somewhere = random.normal(size=4)
    found = lift_posterior(somewhere, information @ (observed - somewhere), information, PLANE)

    taus = np.linspace(0.01, 4, 2000)
    noise = np.linalg.inv(information)
    log_weight = np.array(
        [multivariate_normal.logpdf(observed, cov=prior_covariance(tau) + noise) - tau**2 / 2 for tau in taus]
    )
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    means, seconds = [], []
    for tau in taus:
        gain = prior_covariance(tau) @ np.linalg.inv(prior_covariance(tau) + noise)
        mean = gain @ observed
        means.append(mean)
        seconds.append(gain @ noise + np.outer(mean, mean))
    mean = weight @ np.array(means)
    covariance = np.tensordot(weight, np.array(seconds), axes=1) - np.outer(mean, mean)
    assert found.mean == pytest.approx(mean, abs=0.01)
    assert found.covariance == pytest.approx(covariance, abs=0.01)
    assert found.spread == pytest.approx(weight @ taus, rel=0.03)


def test_without_active_weeks_the_lifts_are_the_prior() -> None:
    found = lift_posterior(np.zeros(4), np.zeros(4), np.zeros((4, 4)), PLANE)
    assert found.mean == pytest.approx(np.zeros(4))
    # E|N(0, 1)| and E N(0, 1)^2, cut off at 3.
    assert found.spread == pytest.approx(np.sqrt(2 / np.pi), rel=0.03)
    assert np.diag(found.covariance) == pytest.approx(np.diag(prior_covariance(1.0)), rel=0.02)
