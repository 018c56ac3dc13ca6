"""Beta posteriors of the chance to be responsive next week: a caregiver's own, and the interval around a mean.

Only the arithmetic that clusters, transitions and indices share. Which counts go in, and what is done with the
chances, belongs to those modules. States are ordered [U, R] on the last axis everywhere.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.special import betaincinv, ndtr

FloatArray = npt.NDArray[np.float64]

_EDGE = 1e-12


@dataclass(frozen=True)
class ChancePosterior:
    """Posteriors of chances, each Beta(n m, n (1 - m)); both arrays have one shape."""

    mean: FloatArray
    """m, strictly between 0 and 1."""
    n_effective: FloatArray
    """n, the weeks of evidence the posterior is worth, what the prior counts for included."""
    correlation: FloatArray | None = None
    """Between the two chances on the last axis, passive and active: of the shape of `mean` without it; None is 0."""

    def draws(self, n_draws: int, random: np.random.Generator) -> FloatArray:
        """Draws, (n_draws, ...) before the shape of `mean`; independent but for the correlation.

        With a correlation r the two chances are drawn as quantiles of standard normal numbers that have it (a Gaussian
        copula): each alone is Beta as ever.
        """
        a, b = self.n_effective * self.mean, self.n_effective * (1 - self.mean)
        if self.correlation is None:
            drawn = random.beta(a, b, size=(n_draws, *self.mean.shape))
        else:
            r = self.correlation
            normal = random.standard_normal((n_draws, *self.mean.shape))
            normal[..., 1] = r * normal[..., 0] + np.sqrt(1 - r**2) * normal[..., 1]
            drawn = betaincinv(a, b, ndtr(normal))
        # Beta(a, b) of a tiny parameter may come out as exactly 0 or 1, where log-odds end.
        return np.clip(drawn, _EDGE, 1 - _EDGE)


def passive_evidence(counts: pa.Table) -> tuple[FloatArray, FloatArray]:
    """Passive weeks that led to R, and all passive weeks, by the state they started in.

    `counts` holds n_rr, n_ru, n_ur, n_uu (weeks). Returns two arrays of shape (n_rows, 2), states [U, R].
    """
    n = {name: _float_column(counts, name) for name in ("n_rr", "n_ru", "n_ur", "n_uu")}
    to_r = np.stack([n["n_ur"], n["n_rr"]], axis=-1)
    to_u = np.stack([n["n_uu"], n["n_ru"]], axis=-1)
    return to_r, to_r + to_u


def own_passive_means(counts: pa.Table, *, prior_means: npt.ArrayLike, prior_weight: float) -> FloatArray:
    """Posterior means of a caregiver's own P(next = R | state, passive).

    With n_sR weeks from s to R, n_s weeks from s at all, and a Beta prior of mean m_s that weighs w weeks,

        p_s = (n_sR + w m_s) / (n_s + w).

    Parameters
    ----------
    counts : table with n_rr, n_ru, n_ur, n_uu
        One row per tuple, in weeks.
    prior_means : array of shape (2,) or (n_rows, 2)
        m, states [U, R].
    prior_weight : float
        w, in weeks; above 0.

    Returns
    -------
    ndarray of shape (n_rows, 2)
        States [U, R].

    Raises
    ------
    ValueError
        When prior_weight is not above 0.
    """
    if not prior_weight > 0:
        raise ValueError(f"prior_weight is {prior_weight}; expected a number of weeks above 0")
    to_r, weeks = passive_evidence(counts)
    return (to_r + prior_weight * np.asarray(prior_means, dtype=np.float64)) / (weeks + prior_weight)


def credible_interval(a: npt.ArrayLike, b: npt.ArrayLike, *, interval: float) -> tuple[FloatArray, FloatArray]:
    """Equal-tailed credible interval of Beta(a, b): as much probability below it as above it.

    `interval` is the probability inside, strictly between 0 and 1 (ValueError otherwise).
    """
    if not 0 < interval < 1:
        raise ValueError(f"interval is {interval}; expected a probability strictly between 0 and 1")
    tail = (1 - interval) / 2
    return betaincinv(a, b, tail), betaincinv(a, b, 1 - tail)


def _float_column(table: pa.Table, name: str) -> FloatArray:
    return np.asarray(table[name].to_numpy(), dtype=np.float64)
