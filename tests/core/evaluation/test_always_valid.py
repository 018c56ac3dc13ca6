"""The always-valid interval covers at every look together, where plain intervals do not."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binom, norm

from bandicoot_core.evaluation.always_valid import confidence_sequence, mixture_precision
from bandicoot_core.evaluation.randomization import adjusted_effect

N_RUNS = 300


def looks_at_chains(seed: int, n_caregivers: int = 400, n_weeks: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and standard errors, week by week, of arms that do nothing, on two-state chains that differ by type."""
    rng = np.random.default_rng([1, seed])
    p_u, p_r = rng.choice([0.05, 0.2, 0.5], n_caregivers), rng.choice([0.5, 0.8, 0.95], n_caregivers)
    state = rng.random(n_caregivers) < p_u / (1 - p_r + p_u)
    arms = rng.permuted(np.tile(np.arange(20) < 10, (n_caregivers // 20, 1)), axis=1).ravel()
    block = np.repeat(np.arange(n_caregivers // 20), 20)
    n_responsive = np.zeros(n_caregivers)
    looks = []
    for week in range(1, n_weeks + 1):
        n_responsive += state
        looks.append(adjusted_effect(n_responsive / week, arms, block))
        state = rng.random(n_caregivers) < np.where(state, p_r, p_u)
    estimates, errors = np.array(looks).T
    return estimates, errors


def test_no_look_in_twenty_weeks_misses_the_truth_more_often_than_promised_while_plain_intervals_do() -> None:
    n_missed = n_missed_by_plain = 0
    for seed in range(N_RUNS):
        estimates, errors = looks_at_chains(seed)
        low, high = confidence_sequence(estimates, errors, tuned_for=2 / errors[0] ** 2)
        n_missed += bool(((low > 0) | (high < 0)).any())
        n_missed_by_plain += bool((np.abs(estimates) > norm.ppf(0.975) * errors).any())
    print(f"missed at any look: always valid {n_missed / N_RUNS:.3f}, plain {n_missed_by_plain / N_RUNS:.3f}")
    assert n_missed <= binom.ppf(0.999, N_RUNS, 0.05)
    assert n_missed_by_plain > binom.ppf(0.999, N_RUNS, 0.05)


def test_new_observations_of_any_number_are_covered_together() -> None:
    rng = np.random.default_rng(2)
    n = np.arange(50, 3001, 50)
    n_missed = 0
    for _ in range(N_RUNS):
        draws = rng.exponential(size=3000)
        sums, squares = np.cumsum(draws)[n - 1], np.cumsum(draws**2)[n - 1]
        means = sums / n
        errors = np.sqrt((squares / n - means**2) / n)
        low, high = confidence_sequence(means, errors, tuned_for=500)
        n_missed += bool(((low > 1) | (high < 1)).any())
    assert n_missed <= binom.ppf(0.999, N_RUNS, 0.05)


def test_the_half_width_is_the_formula() -> None:
    eta = mixture_precision(100.0)
    low, high = confidence_sequence([0.3], [0.1], tuned_for=100.0)
    half = np.sqrt((100 + eta) * np.log((100 + eta) / (eta * 0.05**2))) / 100
    assert (low[0], high[0]) == pytest.approx((0.3 - half, 0.3 + half))
    # At the information it is tuned for, the price of looking every week is half the width again.
    assert 1.4 < half / (norm.ppf(0.975) * 0.1) < 1.6


@pytest.mark.parametrize("information", [3.0, 400.0])
def test_the_interval_is_tightest_at_the_information_it_is_tuned_for(information: float) -> None:
    def half_width(log_eta: float) -> float:
        total = information + np.exp(log_eta)
        return float(np.sqrt(total * np.log(total / (np.exp(log_eta) * 0.05**2))))

    best = np.exp(minimize_scalar(half_width, bounds=(-8, 9), method="bounded").x)
    assert mixture_precision(information) == pytest.approx(best, rel=1e-4)


def test_a_look_without_an_error_says_nothing() -> None:
    low, high = confidence_sequence([0.1, 0.1, 0.1], [np.nan, 0.0, 0.05], tuned_for=10)
    assert low[:2].tolist() == [-np.inf] * 2
    assert high[:2].tolist() == [np.inf] * 2
    assert np.isfinite([low[2], high[2]]).all()


def test_arguments_out_of_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"estimates have shape \(1,\), standard errors \(2,\)"):
        confidence_sequence([0.1], [0.1, 0.2], tuned_for=10)
    with pytest.raises(ValueError, match="tuned_for is 0"):
        mixture_precision(0)
