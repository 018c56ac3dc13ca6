"""Intervals that stay valid however often one looks: an asymptotic confidence sequence for an effect.

Only the boundary, for estimates and standard errors that come from elsewhere (randomization.adjusted_effect). A plain
interval looked at every week misses the truth in some week far more often than it promises.

The interval. With I = 1 / SE^2 the information of a look and eta > 0 fixed beforehand, it is

    estimate +- sqrt((I + eta) log((I + eta) / (eta alpha^2))) / I,

the normal-mixture boundary of Robbins (1970, Annals of Mathematical Statistics 41, 1397-1409), in the two-sided form of
Howard, Ramdas, McAuliffe and Sekhon (2021, Annals of Statistics 49, 1055-1080, section 3.2). That it holds
asymptotically for estimates with estimated standard errors is Theorem 2.2 of Waudby-Smith, Arbour, Sinha, Kennedy and
Ramdas (2024, Annals of Statistics 52, 2613-2640), with t observations of variance s^2 and rho^2 = 1 / (eta s^2).

What is assumed beyond large numbers: I times the estimate gains independent increments from look to look. New
caregivers do that by themselves; more weeks of the same caregivers do it when their weekly outcomes are exchangeable
(cov(mean of w weeks, mean of w' > w weeks) = var(mean of w' weeks)), and nearly so for the chains of this programme,
which the tests measure.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import lambertw

FloatArray = npt.NDArray[np.float64]


def confidence_sequence(
    estimates: npt.ArrayLike, standard_errors: npt.ArrayLike, *, level: float = 0.95, tuned_for: float
) -> tuple[FloatArray, FloatArray]:
    """Lower and upper ends, shape (n_looks,), that all cover at once with chance `level`, at least.

    estimates, standard_errors: shape (n_looks,), in order of the looks. tuned_for: the information (1 / SE^2) at which
    the interval is to be tightest; it must not depend on the estimates. A look without a finite, positive standard
    error has the ends -inf and inf. ValueError when shapes disagree or an argument is out of bounds.
    """
    centre, error = np.asarray(estimates, dtype=np.float64), np.asarray(standard_errors, dtype=np.float64)
    if centre.ndim != 1 or centre.shape != error.shape:
        raise ValueError(f"estimates have shape {centre.shape}, standard errors {error.shape}; expected one and (n,)")
    eta = mixture_precision(tuned_for, level=level)
    is_known = np.isfinite(error) & (error > 0)
    information = np.divide(1, error**2, out=np.ones_like(error), where=is_known)
    alpha = 1 - level
    total = information + eta
    half = np.where(is_known, np.sqrt(total * np.log(total / (eta * alpha**2))) / information, np.inf)
    centre = np.where(is_known, centre, 0.0)
    return centre - half, centre + half


def mixture_precision(tuned_for: float, *, level: float = 0.95) -> float:
    """The eta with which the boundary is tightest at the information `tuned_for`.

    eta = tuned_for / (-1 - W(-alpha^2 / e)) with W the lower branch of Lambert's function: Howard et al. (2021),
    Proposition 3. ValueError unless tuned_for is positive and the level in (0, 1).
    """
    if not (tuned_for > 0 and np.isfinite(tuned_for) and 0 < level < 1):
        raise ValueError(f"tuned_for is {tuned_for} and level {level}; expected above 0, and a level in (0, 1)")
    return float(tuned_for / (-1 - lambertw(-((1 - level) ** 2) / np.e, k=-1).real))
