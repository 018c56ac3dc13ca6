"""Values of other policies from logged propensities: against the truth of a simulation, and by hand."""

import numpy as np
import pytest
from scipy.stats import binom

from bandicoot_core.evaluation.off_policy import ESTIMATORS, overlap, policy_values

N_RUNS = 400
N_ELIGIBLE = 3_000
GROUPS = 4
GAIN = np.array([0.02, 0.1, 0.25, 0.4])
"""True mean reward of a call by group of caregivers."""
LISTED = np.array([0.03, 0.05, 0.08, 0.3])
"""Chance of each group to be listed."""
TARGETS = {
    "random": np.array([0.1, 0.1, 0.1, 0.1]),
    "worst_first": np.array([0.3, 0.1, 0.0, 0.0]),
    "best_first": np.array([0.0, 0.0, 0.1, 0.4]),
}


def simulate(
    seed: int, target: np.ndarray, prediction: np.ndarray
) -> tuple[dict[str, tuple[float, float, float]], float]:
    """(estimate, low, high) by estimator, and the truth, for one set of eligible caregivers and one draw of a list."""
    rng = np.random.default_rng([7, seed])
    group = rng.integers(0, GROUPS, N_ELIGIBLE)
    listed = rng.random(N_ELIGIBLE) < LISTED[group]
    reward = (rng.random(N_ELIGIBLE) < GAIN[group] + 0.3).astype(float) - 0.3
    truth = float(np.sum(target[group] * GAIN[group]) / np.sum(target[group]))
    chosen = group[listed]
    values = policy_values(
        reward[listed],
        LISTED[chosen],
        target[chosen],
        prediction=prediction[chosen],
        total_target=float(target[group].sum()),
        total_prediction=float((target * prediction)[group].sum()),
    )
    return {value.estimator: (value.estimate, value.low, value.high) for value in values}, truth


@pytest.mark.parametrize("policy", TARGETS)
@pytest.mark.parametrize("prediction", [GAIN, np.array([0.3, 0.0, 0.3, 0.0])], ids=["right model", "wrong model"])
def test_every_estimator_finds_the_truth_and_covers_it_as_often_as_it_says(policy: str, prediction: np.ndarray) -> None:
    runs = [simulate(seed, TARGETS[policy], prediction) for seed in range(N_RUNS)]
    for name in ESTIMATORS:
        errors = np.array([values[name][0] - truth for values, truth in runs])
        covered = sum(values[name][1] <= truth <= values[name][2] for values, truth in runs)
        print(f"{policy} {name}: bias {errors.mean():+.4f}, sd {errors.std():.4f}, covered {covered / N_RUNS:.3f}")
        assert abs(errors.mean()) < 4 * errors.std() / np.sqrt(N_RUNS) + 0.005
        assert covered >= binom.ppf(0.001, N_RUNS, 0.93)


def test_a_good_model_makes_the_doubly_robust_estimate_the_least_noisy() -> None:
    spread = {}
    for name in ESTIMATORS:
        runs = [simulate(seed, TARGETS["random"], GAIN) for seed in range(200)]
        spread[name] = np.std([values[name][0] - truth for values, truth in runs])
    assert spread["doubly_robust"] < spread["snips"]
    assert spread["doubly_robust"] < spread["ips"]


def test_two_listed_caregivers_by_hand() -> None:
    ips, snips, robust = policy_values(
        [1.0, 0.0], [0.5, 0.25], [0.5, 0.5], prediction=[0.5, 0.5], total_target=4.0, total_prediction=2.0
    )
    assert ips.estimate == 1 / 4
    assert snips.estimate == 1 / 3
    assert robust.estimate == (2.0 + 0.5 - 1.0) / 4
    assert ips.high - ips.estimate == pytest.approx(1.959964 / 4)
    told = overlap([0.5, 0.25], [0.5, 0.5], total_target=4.0)
    assert (told.overlap, told.n_effective, told.largest_weight) == (3 / 4, 9 / 5, 2)


def test_following_the_lists_themselves_is_worth_their_mean_reward() -> None:
    propensity = np.array([1.0, 0.4, 0.1])
    values = policy_values(
        [0.5, 0.2, -0.1], propensity, propensity, prediction=[0.0] * 3, total_target=3.0, total_prediction=0.0
    )
    assert [value.estimate for value in values] == pytest.approx([0.2] * 3)


def test_a_policy_that_calls_nobody_listed_is_unknown() -> None:
    values = policy_values([0.5], [0.5], [0.0], prediction=[0.1], total_target=2.0, total_prediction=0.2)
    assert all(np.isnan(value.estimate) for value in values)
    assert overlap([0.5], [0.0], total_target=2.0).overlap == 0


def test_impossible_chances_and_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"a propensity lies outside \(0, 1\]"):
        policy_values([1.0], [0.0], [0.5], prediction=[0.0], total_target=1, total_prediction=0)
    with pytest.raises(ValueError, match="shapes disagree"):
        policy_values([1.0], [0.5, 0.5], [0.5], prediction=[0.0], total_target=1, total_prediction=0)
    with pytest.raises(ValueError, match="total_target 0"):
        policy_values([1.0], [0.5], [0.5], prediction=[0.0], total_target=0, total_prediction=0)
