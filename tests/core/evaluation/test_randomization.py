"""The randomization test has its size, finds effects, and is what a brute-force computation says it is."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from bandicoot_core.evaluation.randomization import adjusted_effect, effect_by_randomization, redraws


def blocked_arms(
    rng: np.random.Generator, n_blocks: int, share: float, size: int = 20
) -> tuple[np.ndarray, np.ndarray]:
    """Arms and block numbers of full blocks."""
    slots = rng.permuted(np.tile(np.arange(size), (n_blocks, 1)), axis=1).ravel()
    return slots < round(share * size), np.repeat(np.arange(n_blocks), size)


def regression(y: np.ndarray, z: np.ndarray, block: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """The coefficient of the arm, and its HC1 standard error, by ordinary least squares with a dummy per block."""
    dummies = (block[:, None] == np.unique(block)).astype(float)
    design = np.column_stack([z.astype(float), dummies, x])
    bread = np.linalg.pinv(design.T @ design)
    coefficients = bread @ design.T @ y
    residuals = y - design @ coefficients
    meat = (design * residuals[:, None] ** 2).T @ design
    n, k = design.shape
    return float(coefficients[0]), float(np.sqrt((bread @ meat @ bread)[0, 0] * n / (n - k)))


def test_the_estimate_is_the_coefficient_of_the_arm_in_a_regression_on_arm_blocks_and_covariates() -> None:
    rng = np.random.default_rng(1)
    z, block = blocked_arms(rng, 40, 0.25)
    x = rng.normal(size=(800, 2))
    y = x @ [1.0, -0.5] + 0.3 * z + rng.normal(size=800) * (1 + z) + rng.normal(size=40)[block]
    keep = rng.random(800) < 0.8
    estimate, error = adjusted_effect(y[keep], z[keep], block[keep], covariates=x[keep])
    mixed = np.array([0 < z[keep][block[keep] == b].mean() < 1 for b in block[keep]])
    expected, expected_error = regression(
        *(part[keep][mixed] for part in (y, z, block)),
        x[keep][mixed],  # type: ignore[arg-type]
    )
    assert estimate == pytest.approx(expected, abs=1e-12)
    # The regression takes the covariates out of the arm, the test only out of the outcome: equal up to 1/n.
    assert error == pytest.approx(expected_error, rel=0.01)


def test_without_covariates_the_standard_error_is_that_of_the_regression() -> None:
    rng = np.random.default_rng(2)
    z, block = blocked_arms(rng, 20, 0.5)
    y = rng.normal(size=400) * (1 + 2 * z)
    assert adjusted_effect(y, z, block) == pytest.approx(regression(y, z, block, np.empty((400, 0))), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_the_p_value_is_the_share_of_all_possible_draws_that_are_as_extreme(seed: int) -> None:
    rng = np.random.default_rng(seed)
    block = np.repeat([0, 1, 2], [4, 5, 4])
    z = np.zeros(13, dtype=bool)
    z[[0, 4, 9]] = True
    y = np.exp(rng.normal(size=13)) + 1.5 * z

    def statistic(arms: np.ndarray) -> float:
        estimate, error = regression(y, arms, block, np.empty((13, 0)))
        return abs(estimate / error)

    possible = []
    for chosen in product(range(4), range(4, 9), range(9, 13)):
        arms = np.zeros(13, dtype=bool)
        arms[list(chosen)] = True
        possible.append(statistic(arms))
    exact = np.mean(np.array(possible) >= statistic(z) * (1 - 1e-9))
    found = effect_by_randomization(y, z, block, n_redraws=9_999, seed=4).p_value
    assert len(possible) == 80
    assert abs(found - exact) < 4 * np.sqrt(exact * (1 - exact) / 9_999) + 1e-4


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_it_rejects_a_true_null_as_often_as_it_says_even_with_skewed_outcomes(share: float) -> None:
    n_runs, rejected = 250, 0
    for run in range(n_runs):
        rng = np.random.default_rng([5, run])
        z, block = blocked_arms(rng, 8, share)
        before = rng.exponential(size=160)
        y = np.exp(rng.normal(size=160)) + before
        keep = rng.random(160) < 0.9
        effect = effect_by_randomization(
            y[keep], z[keep], block[keep], covariates=before[keep, None], n_redraws=99, seed=run
        )
        rejected += effect.p_value <= 0.05
    low, high = binom.ppf([0.001, 0.999], n_runs, 0.05)
    assert low <= rejected <= high


def test_the_interval_covers_the_mean_effect_when_effects_and_variances_differ_between_caregivers() -> None:
    n_runs, covered, covered_here = 250, 0, 0
    for run in range(n_runs):
        rng = np.random.default_rng([6, run])
        z, block = blocked_arms(rng, 20, 0.9)
        before = rng.random(400)
        without = 0.5 * before + 0.3 * rng.random(400)
        effects = rng.choice([0.0, 0.0, 0.6], size=400)
        y = without + z * effects
        effect = effect_by_randomization(y, z, block, covariates=before[:, None], n_redraws=199, seed=run)
        covered += effect.low <= 0.2 <= effect.high
        covered_here += effect.low <= effects.mean() <= effect.high
    low, high = binom.ppf([0.001, 0.999], n_runs, 0.95)
    print(f"covered: population {covered / n_runs:.3f}, these caregivers {covered_here / n_runs:.3f}")
    assert low <= covered <= high
    # Of these very caregivers the mean effect is known better than the interval can tell (Neyman 1923).
    assert covered_here >= covered


def test_adjusting_for_the_time_before_narrows_the_interval() -> None:
    rng = np.random.default_rng(7)
    z, block = blocked_arms(rng, 50, 0.5)
    before = rng.random(1000)
    y = before + 0.1 * rng.random(1000) + 0.05 * z
    plain = effect_by_randomization(y, z, block, n_redraws=199, seed=1)
    adjusted = effect_by_randomization(y, z, block, covariates=before[:, None], n_redraws=199, seed=1)
    assert adjusted.high - adjusted.low < 0.2 * (plain.high - plain.low)
    assert adjusted.low < 0.05 < adjusted.high
    assert adjusted.p_value == 1 / 200


@settings(max_examples=25, deadline=None)
@given(shift=st.floats(-3, 3), scale=st.floats(0.1, 10), seed=st.integers(0, 20))
def test_adding_an_effect_moves_the_interval_by_it_and_another_unit_scales_it(
    shift: float, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    z, block = blocked_arms(rng, 5, 0.5)
    y = rng.normal(size=100)
    base = effect_by_randomization(y, z, block, n_redraws=99, seed=1)
    moved = effect_by_randomization(scale * (y + shift * z), z, block, n_redraws=99, seed=1)
    for name in ("estimate", "low", "high"):
        assert getattr(moved, name) == pytest.approx(scale * (getattr(base, name) + shift), abs=1e-5 * scale)


def test_no_effect_lies_outside_the_interval_exactly_when_it_is_rejected() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        z, block = blocked_arms(rng, 5, 0.5)
        effect = effect_by_randomization(rng.normal(size=100) + 0.4 * z, z, block, n_redraws=199, seed=seed)
        assert (effect.p_value <= 0.05) == (not effect.low <= 0 <= effect.high)


def test_a_redraw_permutes_the_arms_within_blocks_and_every_choice_is_equally_likely() -> None:
    block = np.array([5, 7, 5, 7, 5, 9, 7, 7])
    z = np.array([True, False, False, True, False, True, False, False])
    counts: dict[tuple[bool, ...], int] = {}
    for arms in redraws(z, block, n_redraws=12_000, seed=1):
        assert [arms[block == b].sum() for b in (5, 7, 9)] == [1, 1, 1]
        counts[tuple(arms)] = counts.get(tuple(arms), 0) + 1
    assert len(counts) == 3 * 4
    assert max(abs(n - 1000) for n in counts.values()) < 4.5 * np.sqrt(1000)


def test_an_outcome_that_never_differs_has_no_effect_for_certain() -> None:
    z, block = blocked_arms(np.random.default_rng(1), 5, 0.5)
    effect = effect_by_randomization(np.full(100, 0.3), z, block, n_redraws=99, seed=1)
    assert (effect.estimate, effect.p_value, effect.standard_error) == (0, 1, 0)
    assert effect.low == pytest.approx(0, abs=1e-6)
    assert effect.high == pytest.approx(0, abs=1e-6)


def test_too_few_caregivers_to_reject_anything_leave_the_interval_open() -> None:
    effect = effect_by_randomization([1.0, 2.0, 3.0], [True, False, False], [0, 0, 0], n_redraws=99, seed=1)
    assert (effect.low, effect.high) == (-np.inf, np.inf)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="no block has caregivers of both arms"):
        effect_by_randomization([1.0, 2.0], [True, False], [0, 1], seed=1)
    with pytest.raises(ValueError, match=r"outcome \(2,\), is_treatment \(3,\)"):
        effect_by_randomization([1.0, 2.0], [True, False, True], [0, 0, 0], seed=1)
    with pytest.raises(ValueError, match="must be finite"):
        effect_by_randomization([1.0, np.nan], [True, False], [0, 0], seed=1)
    with pytest.raises(ValueError, match="with 10 redraws"):
        effect_by_randomization([1.0, 2.0], [True, False], [0, 0], n_redraws=10, seed=1)
