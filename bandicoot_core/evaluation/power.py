"""How large an experiment must be: the effect it can detect, and how many caregivers an effect needs.

Only the planning arithmetic for shares (of responsive weeks, or of doses on time). What an experiment has shown
belongs to randomization.

Each caregiver contributes the mean of w weekly yes-or-no outcomes with base rate b whose intra-caregiver correlation
is rho, so that her mean has the variance (Kish 1965, section 5.4: the design effect 1 + (w - 1) rho)

    sigma^2 = b (1 - b) (1 + (w - 1) rho) / w,

times 1 - R^2 when a baseline explains the share R^2 of it. With n_T and n_C caregivers per arm a two-sided test at
alpha has the power P for the effect (Bloom 1995, Evaluation Review 19, 547-556)

    delta = (z_{1 - alpha/2} + z_P) sigma sqrt(1/n_T + 1/n_C).
"""

from math import ceil, sqrt

from scipy.stats import norm


def detectable_effect(
    n_treatment: int,
    n_control: int,
    *,
    base_rate: float,
    n_weeks: int = 1,
    intra_caregiver_correlation: float = 1.0,
    r_squared: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest effect, in units of the share, that is found with chance `power`; ValueError out of bounds.

    One week, or a correlation of 1, is a plain comparison of two shares.
    """
    if n_treatment < 1 or n_control < 1:
        raise ValueError(f"found {n_treatment} treated and {n_control} controls; expected at least 1 of each")
    sigma = _sigma(base_rate, n_weeks, intra_caregiver_correlation, r_squared)
    return _multiplier(alpha, power) * sigma * sqrt(1 / n_treatment + 1 / n_control)


def sample_size(
    effect: float,
    *,
    rollout_share: float = 0.5,
    base_rate: float,
    n_weeks: int = 1,
    intra_caregiver_correlation: float = 1.0,
    r_squared: float = 0.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """Caregivers of both arms together that an effect needs to be found with chance `power`; ValueError out of bounds.

    n = (multiplier sigma / effect)^2 / (f (1 - f)) with f the rollout share.
    """
    if effect == 0:
        raise ValueError("effect is 0; no number of caregivers detects nothing: give the smallest effect that matters")
    if not 0 < rollout_share < 1:
        raise ValueError(f"rollout_share is {rollout_share}; expected a share in (0, 1), so that both arms exist")
    sigma = _sigma(base_rate, n_weeks, intra_caregiver_correlation, r_squared)
    return ceil((_multiplier(alpha, power) * sigma / effect) ** 2 / (rollout_share * (1 - rollout_share)))


def effect_of_standard_error(standard_error: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The effect that an estimate with this standard error finds with chance `power`; ValueError out of bounds."""
    return _multiplier(alpha, power) * standard_error


def _multiplier(alpha: float, power: float) -> float:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ValueError(f"alpha is {alpha} and power {power}; expected both in (0, 1)")
    return float(norm.ppf(1 - alpha / 2) + norm.ppf(power))


def _sigma(base_rate: float, n_weeks: int, intra_caregiver_correlation: float, r_squared: float) -> float:
    if not 0 < base_rate < 1:
        raise ValueError(f"base_rate is {base_rate}; expected a share in (0, 1)")
    if n_weeks < 1 or not 0 <= intra_caregiver_correlation <= 1 or not 0 <= r_squared < 1:
        raise ValueError(
            f"found {n_weeks} weeks, correlation {intra_caregiver_correlation} and r_squared {r_squared}; expected at "
            "least 1 week, a correlation in [0, 1] and an r_squared in [0, 1)"
        )
    design_effect = (1 + (n_weeks - 1) * intra_caregiver_correlation) / n_weeks
    return sqrt(base_rate * (1 - base_rate) * design_effect * (1 - r_squared))
