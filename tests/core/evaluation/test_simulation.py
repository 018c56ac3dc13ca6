"""The simulation: literal cases without chance, exact expectations of tiny cohorts, rules of the random numbers."""

from dataclasses import replace

import numpy as np
import pytest
from small_cohorts import best_responsive_weeks, responsive_weeks_of, small_cohort

from bandicoot_core.evaluation.cohort_generators import field_cohort, public_cohort
from bandicoot_core.evaluation.cohorts import Cohort, with_district_shares
from bandicoot_core.evaluation.policies import POLICIES, Priorities, whittle_caregiver
from bandicoot_core.evaluation.simulation import simulate


def outcome(cohort: Cohort, *policies: str, n_trials: int = 1, seed: int = 0):
    return simulate(cohort, {name: POLICIES[name](cohort) for name in policies}, n_trials=n_trials, seed=seed)


def test_a_call_in_a_week_acts_on_the_next() -> None:
    # Three caregivers who stay as they are unless called; a call makes her responsive. Worst first lifts one a week,
    # and has nobody unresponsive left in the fourth.
    cohort = small_cohort([[0, 1]] * 3, [[1, 1]] * 3, [False] * 3, budget=1, n_weeks=4)
    result = outcome(cohort, "worst_first", "round_robin")
    assert result.n_responsive.tolist() == [[[1, 2, 3, 3]], [[1, 2, 3, 3]]]
    assert result.n_calls.tolist() == [[[1, 1, 1, 1]], [[1, 1, 1, 1]]]
    assert result.n_responsive_without_calls.tolist() == [[0, 0, 0, 0]]
    assert result.expected_without_calls.tolist() == [0.0, 0.0, 0.0, 0.0]
    assert result.gains("worst_first").tolist() == [9.0]


@pytest.mark.parametrize(
    ("cool_down_weeks", "n_calls"), [(0, [2, 2, 2, 2, 2]), (1, [2, 1, 2, 1, 2]), (2, [2, 1, 0, 2, 1])]
)
def test_nobody_is_called_in_the_weeks_of_the_cool_down(cool_down_weeks: int, n_calls: list[int]) -> None:
    # Responsive exactly in the week after a call: the states tell who was called.
    cohort = small_cohort([[0, 0]] * 3, [[1, 1]] * 3, [False] * 3, budget=2, n_weeks=5, cool_down_weeks=cool_down_weeks)
    result = outcome(cohort, *POLICIES)
    for policy in range(len(POLICIES)):
        assert result.n_calls[policy, 0].tolist() == n_calls
        assert result.n_responsive[policy, 0].tolist() == n_calls


def test_round_robin_calls_everybody_once_before_anybody_twice() -> None:
    # Once called she stays responsive: after ceil(10 / 3) weeks all are, which random calls do not manage.
    cohort = small_cohort([[0, 1]] * 10, [[1, 1]] * 10, [False] * 10, budget=3, n_weeks=4)
    result = outcome(cohort, "round_robin", "random", n_trials=50)
    assert (result.n_responsive[0] == [3, 6, 9, 10]).all()
    assert result.n_responsive[1, :, -1].min() < 10


def test_the_highest_priority_is_called_and_ties_go_to_who_has_waited_longest() -> None:
    cohort = small_cohort([[0, 0]] * 4, [[0, 0], [1, 1], [1, 1], [0, 0]], [False] * 4, budget=1, n_weeks=4)
    first = np.zeros((1, 4, 2))
    first[0, 1] = 1.0
    by_week = np.zeros((4, 4, 2))
    by_week[[0, 1, 2, 3], [1, 0, 2, 3]] = 1.0
    result = simulate(
        cohort,
        {"same": Priorities(first, is_longest_waiting_first=True), "weekly": Priorities(by_week, True)},
        n_trials=1,
        seed=0,
    )
    assert result.n_responsive.tolist() == [[[1, 1, 1, 1]], [[1, 0, 1, 0]]]
    # Arms 1 and 2 tie above the others: they take turns, whatever their lots.
    tied = np.zeros((1, 4, 2))
    tied[0, 1:3] = 1.0
    cohort = small_cohort([[0, 1]] * 4, [[0, 1], [1, 1], [1, 1], [0, 1]], [False] * 4, budget=1, n_weeks=2)
    turns = simulate(cohort, {"turns": Priorities(tied, True)}, n_trials=40, seed=0)
    assert (turns.n_responsive == [1, 2]).all()


def test_each_pool_has_its_own_calls_and_what_it_cannot_use_is_lost() -> None:
    cohort = small_cohort(
        [[0, 0]] * 5,
        [[1, 1]] * 5,
        [False] * 5,
        district=np.array([0, 0, 0, 1, 2]),
        district_names=("East", "North", "West"),
        district_budgets={"East": 1, "North": 3},
        budget=6,
        n_weeks=2,
    )
    result = outcome(cohort, *POLICIES, n_trials=3)
    # East 1 of 3; North 1 of its 3 calls; West 1 of the 2 that are shared.
    assert (result.n_calls == 3).all()


def test_calls_never_exceed_the_budget() -> None:
    for cohort in (
        field_cohort(0, n_arms=400, budget=30),
        with_district_shares(public_cohort(0, n_arms=90, budget=13)),
    ):
        result = outcome(cohort, *POLICIES, n_trials=5)
        assert result.n_calls.max() <= cohort.budget
        assert (result.n_calls[:, :, 0] == cohort.budget).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_mean_over_trials_is_the_exact_expectation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cohort = small_cohort(
        rng.random((3, 2)), rng.random((3, 2)), rng.random(3) < 0.5, budget=1, n_weeks=4, cool_down_weeks=seed
    )
    index = whittle_caregiver(cohort).values[0]

    def highest_index(week, arms, awake):
        return tuple(sorted(awake, key=lambda i: -index[i, int(arms[i][0])])[:1])

    exact = responsive_weeks_of(cohort, highest_index)
    result = outcome(cohort, "whittle_caregiver", n_trials=6000, seed=seed)
    gains = result.gains("whittle_caregiver")
    standard_error = gains.std(ddof=1) / np.sqrt(len(gains))
    estimate = result.expected_without_calls.sum() + gains.mean()
    assert abs(estimate - exact) < 4.5 * standard_error
    assert exact <= best_responsive_weeks(cohort) + 1e-12
    without = result.n_responsive_without_calls.mean(axis=0)
    np.testing.assert_allclose(without, result.expected_without_calls, atol=0.06)


def test_no_calls_on_the_same_numbers_take_most_of_the_noise_away() -> None:
    cohort = public_cohort(0)
    result = outcome(cohort, "whittle_caregiver", n_trials=60)
    alone = result.n_responsive[0].sum(axis=1)
    assert result.gains("whittle_caregiver").std() < 0.8 * alone.std()


def test_a_policy_is_not_changed_by_company_and_a_trial_not_by_further_ones() -> None:
    cohort = public_cohort(1)
    few = outcome(cohort, "myopic", "random", n_trials=3, seed=9)
    # More than fit into one block of trials.
    many = outcome(cohort, "random", "whittle_cluster", "myopic", n_trials=40, seed=9)
    np.testing.assert_array_equal(few.n_responsive[0], many.n_responsive[2, :3])
    np.testing.assert_array_equal(few.n_responsive[1], many.n_responsive[0, :3])
    np.testing.assert_array_equal(few.n_responsive_without_calls, many.n_responsive_without_calls[:3])
    other = outcome(cohort, "myopic", n_trials=3, seed=10)
    assert (few.n_responsive[0] != other.n_responsive[0]).any()


def test_random_calls_fall_on_everybody_alike() -> None:
    # Responsive exactly after a call; only the chances of arm 0 differ, so it is seen whenever it is called.
    cohort = small_cohort([[0, 0]] * 5, [[1, 1]] + [[0, 0]] * 4, [False] * 5, budget=2, n_weeks=10)
    n_seen = outcome(cohort, "random", n_trials=400).n_responsive.sum()
    assert abs(n_seen / 4000 - 2 / 5) < 4.5 * np.sqrt(0.24 / 4000)


def test_wrong_priorities_and_trials_are_refused() -> None:
    cohort = small_cohort([[0, 1]] * 3, [[1, 1]] * 3, [False] * 3)
    with pytest.raises(
        ValueError, match=r"policy odd: priorities have the shape \(2, 3, 2\); expected \(3 or 1, 3, 2\)"
    ):
        simulate(cohort, {"odd": Priorities(np.zeros((2, 3, 2)), False)}, n_trials=1, seed=0)
    with pytest.raises(ValueError, match="policy odd: 6 priorities are not a number"):
        simulate(cohort, {"odd": Priorities(np.full((1, 3, 2), np.nan), False)}, n_trials=1, seed=0)
    with pytest.raises(ValueError, match="n_trials is 0; expected 1 or more"):
        simulate(cohort, {}, n_trials=0, seed=0)


def test_a_budget_above_the_cohort_calls_everybody() -> None:
    cohort = replace(small_cohort([[0, 0]] * 3, [[1, 1]] * 3, [False] * 3), budget=50)
    assert (outcome(cohort, *POLICIES).n_calls == 3).all()
