"""Estimators of what a call does, side by side: from pooled active weeks of clusters to posteriors of their chances.

Here: the candidates that need nothing but n_R and n_U per cluster and state, each a pure function on arrays, and the
names by which one is chosen. Not here: the one that looks at all weeks of all caregivers at once (`call_effects`), the
passive chances (`empirical_bayes`), how candidates compare (evaluation.estimation), and the table they end in
(`transitions`).

Arrays have shape (n_clusters, 2), states [U, R]; counts are caregiver-weeks and may be weighted.
"""

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import betaln, expit, logit

from bandicoot_core.model.posterior import ChancePosterior, FloatArray

Estimator = Literal["joint", "common_lift", "beta_likelihood", "beta_moments", "laplace"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
"""Names of the estimators of active chances."""

_FEWEST_WEEKS, _MOST_WEEKS = 0.5, 5000.0
"""Bounds of what a fitted prior may count for, in weeks."""
_LIFT_SPREAD = 2.0
"""Standard deviation of the prior of a common lift, in log-odds."""
_WEEKS_GUESS, _WEEKS_FACTOR = 20.0, 8.0
"""Prior of a fitted prior's weight: log-normal around so many weeks, one standard deviation being this factor."""


def laplace(n_to_r: npt.ArrayLike, n_to_u: npt.ArrayLike) -> ChancePosterior:
    """Every cell alone, Beta(1, 1) before its weeks: mean (1 + n_R) / (2 + n)."""
    to_r, to_u = _counts(n_to_r, n_to_u)
    n = to_r + to_u + 2
    return ChancePosterior((to_r + 1) / n, n)


def beta_by_moments(n_to_r: npt.ArrayLike, n_to_u: npt.ArrayLike) -> ChancePosterior:
    """Per state one Beta(w m, w (1 - m)) over the clusters, by the method of moments (Kleinman 1973, JASA 68).

    With y_c = n_R / n over the clusters with weeks, m is the pooled share and S the variance of y_c around it, both
    weighted by n_c. For a prior of variance t, E[S] = m (1 - m) (k - 1) / N + t (N - sum n^2 / N) / N with N = sum n;
    t follows from S, and w = m (1 - m) / t - 1, held between 0.5 and 5,000 weeks. Posterior mean (w m + n_R) / (w + n).
    """
    to_r, to_u = _counts(n_to_r, n_to_u)
    n = to_r + to_u
    m, w = np.full(2, 0.5), np.full(2, 2.0)
    for s in range(2):
        total = n[:, s].sum()
        if not total:
            continue
        m[s] = (to_r[:, s].sum() + 1) / (total + 2)
        y = np.divide(to_r[:, s], n[:, s], out=np.full(len(n), m[s]), where=n[:, s] > 0)
        scatter = n[:, s] @ (y - m[s]) ** 2 / total
        by_chance = m[s] * (1 - m[s]) * ((n[:, s] > 0).sum() - 1) / total
        spread = (total - n[:, s] @ n[:, s] / total) / total
        excess = (scatter - by_chance) / spread if spread > 0 else 0.0
        w[s] = m[s] * (1 - m[s]) / excess - 1 if excess > 0 else _MOST_WEEKS
    w = np.clip(w, _FEWEST_WEEKS, _MOST_WEEKS)
    return ChancePosterior((w * m + to_r) / (w + n), w + n)


def beta_by_likelihood(n_to_r: npt.ArrayLike, n_to_u: npt.ArrayLike) -> ChancePosterior:
    """Per state one Beta(w m, w (1 - m)) over the clusters, by marginal likelihood of the beta-binomial counts.

    (m, w) maximize sum_c log B(w m + n_R, w (1 - m) + n_U) - log B(w m, w (1 - m)), with a weak log-normal prior on w.
    """
    to_r, to_u = _counts(n_to_r, n_to_u)
    m, w = np.empty(2), np.empty(2)
    for s in range(2):
        start = logit((to_r[:, s].sum() + 1) / (to_r[:, s].sum() + to_u[:, s].sum() + 2))

        def loss(x: FloatArray, s: int = s) -> float:
            mean, weight = expit(x[0]), np.exp(x[1])
            return _beta_binomial_loss(to_r[:, s], to_u[:, s], np.full(len(to_r), mean), weight)

        found = minimize(loss, [start, np.log(_WEEKS_GUESS)], method="L-BFGS-B", bounds=[(-8, 8), _WEEKS_BOUNDS])
        m[s], w[s] = expit(found.x[0]), np.exp(found.x[1])
    n = to_r + to_u
    return ChancePosterior((w * m + to_r) / (w + n), w + n)


def common_lift(n_to_r: npt.ArrayLike, n_to_u: npt.ArrayLike, p_passive: npt.ArrayLike) -> ChancePosterior:
    """Per state one lift in log-odds for all clusters, from which a cluster departs as far as its own weeks say.

    The prior of cluster c is Beta with mean m_c = expit(logit p_c + delta_s) and weight w_s; (delta_s, w_s) maximize
    the beta-binomial marginal likelihood with weak priors on both. Posterior mean (w m_c + n_R) / (w + n). `p_passive`
    (n_clusters, 2) lies strictly between 0 and 1.
    """
    to_r, to_u = _counts(n_to_r, n_to_u)
    p = np.asarray(p_passive, dtype=np.float64)
    mean, weight = np.empty(p.shape), np.empty(2)
    for s in range(2):

        def loss(x: FloatArray, s: int = s) -> float:
            center = expit(logit(p[:, s]) + x[0])
            return 0.5 * (x[0] / _LIFT_SPREAD) ** 2 + _beta_binomial_loss(to_r[:, s], to_u[:, s], center, np.exp(x[1]))

        found = minimize(loss, [0.0, np.log(_WEEKS_GUESS)], method="L-BFGS-B", bounds=[(-8, 8), _WEEKS_BOUNDS])
        mean[:, s], weight[s] = expit(logit(p[:, s]) + found.x[0]), np.exp(found.x[1])
    n = to_r + to_u
    return ChancePosterior((weight * mean + to_r) / (weight + n), weight + n)


_WEEKS_BOUNDS = (np.log(_FEWEST_WEEKS), np.log(_MOST_WEEKS))


def _beta_binomial_loss(to_r: FloatArray, to_u: FloatArray, mean: FloatArray, weight: float) -> float:
    a, b = weight * mean, weight * (1 - mean)
    unlikely = ((np.log(weight) - np.log(_WEEKS_GUESS)) / np.log(_WEEKS_FACTOR)) ** 2 / 2
    return float(unlikely - (betaln(a + to_r, b + to_u) - betaln(a, b)).sum())


def _counts(n_to_r: npt.ArrayLike, n_to_u: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    to_r, to_u = np.asarray(n_to_r, dtype=np.float64), np.asarray(n_to_u, dtype=np.float64)
    if to_r.shape != to_u.shape or to_r.shape[1:] != (2,):
        raise ValueError(f"counts have shapes {to_r.shape} and {to_u.shape}; expected (n_clusters, 2) twice")
    if not ((to_r >= 0) & (to_u >= 0)).all():
        raise ValueError(f"counts go down to {min(to_r.min(), to_u.min())}; expected 0 or more weeks")
    return to_r, to_u
