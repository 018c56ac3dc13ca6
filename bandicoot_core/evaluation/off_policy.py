"""What other ways of choosing whom to call would have been worth, from lists whose chances were recorded.

Only the estimators, as arrays. Which policies are compared, and how listed caregivers and chances come out of the lake,
belongs to listed_policies.

On each day every eligible caregiver i was listed with a known chance mu_i. A policy would have listed her with the
chance pi_i, and gained r_i where it did; the reward is known of the listed. The value of the policy is its reward per
call it makes, over the eligible of those days,

    V = sum_i pi_i E[r_i] / Pi,     Pi = sum_i pi_i.

With w_i = pi_i / mu_i and q_i a prediction of r_i made without it, the sums over the listed L and the eligible give

    IPS    sum_L w r / Pi                                   (Horvitz and Thompson 1952)
    SNIPS  sum_L w r / sum_L w                              (Swaminathan and Joachims 2015, section 4)
    DR     (sum_i pi_i q_i + sum_L w (r - q)) / Pi          (Dudik, Erhan, Langford and Li 2014, section 3)

IPS is unbiased; SNIPS trades a bias that vanishes with size for less variance; DR is unbiased whatever q is, and the
better q, the less variance it has. Standard errors are sqrt(sum_L e^2) over the same denominator, with e = w r, e =
w (r - V) and e = w (r - q): they take listings as independent, which overstates them for lists of fixed length and for
caregivers listed for certain. Intervals are normal.

None of them can tell what a policy would gain from caregivers whom the lists never chose (mu = 0 where pi > 0): then
sum_L w / Pi, the `overlap`, lies well below 1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from bandicoot_core.contracts import OFF_POLICY_ESTIMATORS

FloatArray = npt.NDArray[np.float64]

ESTIMATORS = OFF_POLICY_ESTIMATORS


@dataclass(frozen=True)
class PolicyValue:
    """The value of a policy by one estimator, in units of the reward per call."""

    estimator: str
    estimate: float
    low: float
    high: float
    standard_error: float


@dataclass(frozen=True)
class Overlap:
    """How much the listed say about a policy."""

    overlap: float
    """sum_L w / Pi: near 1 when the lists chose, with some chance, everybody the policy would."""
    n_effective: float
    """(sum w)^2 / sum w^2: listed caregivers that an unweighted mean of the same precision would need."""
    largest_weight: float


def policy_values(
    reward: npt.ArrayLike,
    propensity: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    prediction: npt.ArrayLike,
    total_target: float,
    total_prediction: float,
    level: float = 0.95,
) -> tuple[PolicyValue, ...]:
    """The value of a policy by each of ESTIMATORS, nan where the listed say nothing about it.

    Of each listed caregiver, shape (n_listed,): reward r, propensity mu with which she was listed, target pi with which
    the policy would list her, prediction q. Over all eligible: total_target Pi and total_prediction, the sum of pi q.
    ValueError when shapes disagree, a chance lies outside (0, 1] or [0, 1], or total_target is not positive.
    """
    r, w, q = _weighted(reward, propensity, target, prediction)
    if not (0 < level < 1 and total_target > 0):
        raise ValueError(f"level is {level}, total_target {total_target}; expected a level in (0, 1) and above 0")
    z = float(norm.ppf((1 + level) / 2))
    total_weight = float(w.sum())
    ips = float(w @ r) / total_target
    snips = float(w @ r) / total_weight if total_weight > 0 else float("nan")
    robust = (total_prediction + float(w @ (r - q))) / total_target
    errors = (
        float(np.sqrt(np.sum((w * r) ** 2))) / total_target,
        float(np.sqrt(np.sum((w * (r - snips)) ** 2))) / total_weight if total_weight > 0 else float("nan"),
        float(np.sqrt(np.sum((w * (r - q)) ** 2))) / total_target,
    )
    known = total_weight > 0
    return tuple(
        PolicyValue(name, value, value - z * error, value + z * error, error)
        if known
        else PolicyValue(name, *[float("nan")] * 4)
        for name, value, error in zip(ESTIMATORS, (ips, snips, robust), errors, strict=True)
    )


def overlap(propensity: npt.ArrayLike, target: npt.ArrayLike, *, total_target: float) -> Overlap:
    """How much the listed say about a policy; parameters as of policy_values."""
    propensities = np.asarray(propensity, dtype=np.float64)
    _, w, _ = _weighted(np.zeros_like(propensities), propensities, target, np.zeros_like(propensities))
    square = float(w @ w)
    return Overlap(
        overlap=float(w.sum()) / total_target,
        n_effective=float(w.sum()) ** 2 / square if square > 0 else 0.0,
        largest_weight=float(w.max(initial=0)),
    )


def _weighted(
    reward: npt.ArrayLike, propensity: npt.ArrayLike, target: npt.ArrayLike, prediction: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Rewards, weights and predictions, checked."""
    r, mu, pi, q = (np.asarray(values, dtype=np.float64) for values in (reward, propensity, target, prediction))
    if r.ndim != 1 or not r.shape == mu.shape == pi.shape == q.shape:
        raise ValueError(
            f"shapes disagree: reward {r.shape}, propensity {mu.shape}, target {pi.shape}, prediction {q.shape}; "
            "expected (n_listed,) of each"
        )
    if not (np.all((mu > 0) & (mu <= 1)) and np.all((pi >= 0) & (pi <= 1))):
        raise ValueError(
            "a propensity lies outside (0, 1] or a target outside [0, 1]; a listed caregiver was listed with some "
            "chance: check the recorded propensities"
        )
    return r, pi / mu, q
