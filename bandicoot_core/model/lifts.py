"""Lifts of a call over clusters: their prior, their mode in one step of a fit, and their posterior.

Here: the arithmetic of the normal prior and of its unknown spread, for one state. Not here: the likelihood of
caregivers' weeks, which decides how much the weeks say (`call_effects`).

With delta_k the lift in log-odds of cluster k, and x_k = (1, (logit c_kU - mean) / 2, (logit c_kR - mean) / 2) from its
centroid c_k:

    delta_k ~ N(x_k . beta, tau^2),   beta ~ N(0, diag(2, 0.5, 0.5)^2),   tau ~ |N(0, 1)|,

so that delta ~ N(0, S(tau)) with S(tau) = tau^2 I + X B X'. Lifts are thereby shrunk towards a plane over the clusters
as far as the weeks with calls do not speak against it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, logit, softmax

from bandicoot_core.model.posterior import FloatArray

_INTERCEPT_SPREAD, _SLOPE_SPREAD = 2.0, 0.5
"""Standard deviations of the prior of beta: how far, in log-odds, calls move chances on average, and how that bends."""
_SPREADS = np.geomspace(0.01, 3.0, 30)
"""tau on a grid of equal steps in its logarithm."""
_LARGEST_STEP = 1.0
_N_NEWTON_STEPS = 4
_EDGE = 1e-3


@dataclass(frozen=True)
class LiftPosterior:
    """What is known of the lifts of one state."""

    mean: FloatArray
    """(n_regions,)."""
    covariance: FloatArray
    """(n_regions, n_regions), what tau may be included."""
    spread: float
    """Posterior mean of tau."""


def plane_of(centroids: FloatArray) -> FloatArray:
    """X, (n_regions, 3), from centroids (n_regions, 2) of P(R|U) and P(R|R) without calls."""
    position = logit(np.clip(centroids, _EDGE, 1 - _EDGE))
    return np.concatenate([np.ones((len(centroids), 1)), (position - position.mean(axis=0)) / 2], axis=1)


def mode_of_lifts(
    p: FloatArray,
    to_r: FloatArray,
    weeks: FloatArray,
    region: npt.NDArray[np.int64],
    plane: FloatArray,
    delta: FloatArray,
    spread: float,
) -> FloatArray:
    """Newton steps from delta (n_regions,) towards the lifts that make active weeks and the prior likeliest together.

    p, to_r, weeks: the passive chance of each type, its active weeks to R and in all, (n_types,); region: (n_types,).
    """
    n_regions = len(delta)
    precision = np.linalg.inv(_prior_covariance(plane, spread))
    for _ in range(_N_NEWTON_STEPS):
        q = expit(logit(p) + delta[region])
        slope = np.bincount(region, to_r - weeks * q, n_regions) - precision @ delta
        curvature = np.diag(np.bincount(region, weeks * q * (1 - q), n_regions)) + precision
        delta = delta + np.clip(np.linalg.solve(curvature, slope), -_LARGEST_STEP, _LARGEST_STEP)
    return delta


def lift_posterior(delta: FloatArray, slope: FloatArray, information: FloatArray, plane: FloatArray) -> LiftPosterior:
    """Mean and covariance of the lifts over what tau may be, from the log-likelihood l around delta.

    With l(x) = b.x - x'Jx / 2 up to a constant, b = slope + J delta (Laplace's approximation), the lifts given tau are
    normal with precision J + S(tau)^-1, and the likelihood of tau is

        log m(tau) = -log det(I + S(tau) J) / 2 + b' (J + S(tau)^-1)^-1 b / 2.

    It is weighted with the prior of tau on a grid and not maximized: with few active weeks it is flat, and the tau of
    its top would promise that lifts hardly differ (Gelman 2006, Bayesian Analysis 1, on priors of such spreads).

    Parameters
    ----------
    delta, slope : ndarray of shape (n_regions,)
        Where l was looked at, and its derivative there.
    information : ndarray of shape (n_regions, n_regions)
        J, the negative second derivative of l.
    plane : ndarray of shape (n_regions, 3)
    """
    b = slope + information @ delta
    identity = np.eye(len(delta))
    means, covariances, logarithms = [], [], []
    for tau in _SPREADS:
        prior = _prior_covariance(plane, tau)
        factor = cho_factor(np.linalg.inv(prior) + information)
        covariance = cho_solve(factor, identity)
        mean = covariance @ b
        _, log_determinant = np.linalg.slogdet(identity + prior @ information)
        means.append(mean)
        covariances.append(covariance)
        # On a grid of logarithms a density in tau weighs tau times itself.
        logarithms.append(b @ mean / 2 - log_determinant / 2 - tau**2 / 2 + np.log(tau))
    weight = softmax(np.array(logarithms))
    of_tau = np.stack(means)
    mean = weight @ of_tau
    around = of_tau - mean
    covariance = np.tensordot(weight, np.stack(covariances), axes=1) + (weight[:, None] * around).T @ around
    return LiftPosterior(mean, covariance, float(weight @ _SPREADS))


def _prior_covariance(plane: FloatArray, spread: float) -> FloatArray:
    scaled = plane * np.array([_INTERCEPT_SPREAD, *[_SLOPE_SPREAD] * (plane.shape[1] - 1)])
    return spread**2 * np.eye(len(plane)) + scaled @ scaled.T
