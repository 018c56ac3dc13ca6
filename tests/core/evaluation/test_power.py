"""Sample sizes and detectable effects against published values and a simulated test."""

import numpy as np
import pytest
from scipy.stats import norm

from bandicoot_core.evaluation.power import detectable_effect, sample_size


def test_two_equal_arms_need_the_textbook_number() -> None:
    # (1.95996 + 0.84162)^2 * 2 * 0.25 / 0.1^2 = 392.4 an arm.
    assert sample_size(0.1, base_rate=0.5) == 785
    # Twenty sixths of a standard deviation squared: 16 / (delta / sigma)^2 an arm, Lehr's rule, within 2 %.
    assert sample_size(0.25, base_rate=0.5) / 2 == pytest.approx(16 * 4, rel=0.02)


def test_a_tenth_in_one_arm_needs_more_caregivers_by_the_harmonic_mean() -> None:
    assert sample_size(0.1, base_rate=0.5, rollout_share=0.9) == pytest.approx(785 * 0.25 / 0.09, rel=1e-3)


def test_weeks_count_as_new_caregivers_only_when_they_are_uncorrelated() -> None:
    one = detectable_effect(500, 500, base_rate=0.3)
    assert detectable_effect(500, 500, base_rate=0.3, n_weeks=9, intra_caregiver_correlation=0) == pytest.approx(
        one / 3
    )
    assert detectable_effect(500, 500, base_rate=0.3, n_weeks=9, intra_caregiver_correlation=1) == pytest.approx(one)
    assert detectable_effect(500, 500, base_rate=0.3, n_weeks=9, intra_caregiver_correlation=0.25) == pytest.approx(
        one * np.sqrt((1 + 8 * 0.25) / 9)
    )


def test_a_baseline_that_explains_three_quarters_halves_the_detectable_effect() -> None:
    assert detectable_effect(100, 100, base_rate=0.4, r_squared=0.75) == pytest.approx(
        detectable_effect(100, 100, base_rate=0.4) / 2
    )


def test_size_and_effect_are_inverse_to_each_other() -> None:
    options = {"base_rate": 0.35, "n_weeks": 12, "intra_caregiver_correlation": 0.4, "r_squared": 0.3, "power": 0.9}
    n = sample_size(0.02, rollout_share=0.75, **options)  # type: ignore[arg-type]
    effect = detectable_effect(round(0.75 * n), n - round(0.75 * n), **options)  # type: ignore[arg-type]
    assert effect == pytest.approx(0.02, rel=1e-3)


def test_a_simulated_comparison_finds_the_detectable_effect_four_times_out_of_five() -> None:
    rng = np.random.default_rng(1)
    n, weeks, correlation, base = 400, 8, 0.3, 0.4
    effect = detectable_effect(n, n, base_rate=base, n_weeks=weeks, intra_caregiver_correlation=correlation)
    # Beta-distributed personal rates give weekly outcomes with this intra-caregiver correlation.
    precision = 1 / correlation - 1
    found = 0
    for _ in range(400):
        rates = rng.beta(base * precision, (1 - base) * precision, size=2 * n)
        means = rng.binomial(weeks, rates) / weeks
        means[:n] += effect
        error = np.sqrt(means[:n].var() / n + means[n:].var() / n)
        found += abs(means[:n].mean() - means[n:].mean()) / error > norm.ppf(0.975)
    assert abs(found / 400 - 0.8) < 3.5 * np.sqrt(0.8 * 0.2 / 400)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_rate": 0.0}, "base_rate is 0.0"),
        ({"base_rate": 0.5, "alpha": 1.0}, "alpha is 1.0"),
        ({"base_rate": 0.5, "n_weeks": 0}, "found 0 weeks"),
        ({"base_rate": 0.5, "rollout_share": 1.0}, "so that both arms exist"),
        ({"base_rate": 0.5, "effect": 0}, "effect is 0"),
    ],
)
def test_arguments_out_of_bounds_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_size(**({"effect": 0.1} | options))  # type: ignore[arg-type]
