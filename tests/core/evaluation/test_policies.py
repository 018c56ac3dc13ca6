"""Policies as tables of priorities: what each knows and how it breaks ties."""

from dataclasses import replace

import numpy as np
import pytest
from small_cohorts import small_cohort

from bandicoot_core.evaluation.bound import fluid_bound
from bandicoot_core.evaluation.cohort_generators import field_cohort, public_cohort
from bandicoot_core.evaluation.lookalike_indices import never_versus_always, separate_subsidy
from bandicoot_core.evaluation.policies import NO_CALLS, POLICIES, fluid_lp, priorities_at_prices
from bandicoot_core.model.whittle import sleeping_indices, two_state_indices


def test_the_policies_are_the_designed_ones() -> None:
    assert set(POLICIES) == {
        "random",
        "round_robin",
        "worst_first",
        "myopic",
        "whittle_caregiver",
        "whittle_cluster",
        "fluid_lp",
        "never_versus_always",
        "separate_subsidy",
    }
    assert NO_CALLS not in POLICIES


def test_indices_are_taken_from_what_the_policy_may_believe() -> None:
    cohort = field_cohort(0, n_arms=300, budget=12)
    own, of_cluster = cohort.beliefs("caregiver"), cohort.beliefs("cluster")
    expected = {
        "myopic": own[1] - own[0],
        "whittle_caregiver": sleeping_indices(*own, weeks=3),
        "whittle_cluster": sleeping_indices(*of_cluster, weeks=3),
        "never_versus_always": never_versus_always(*own),
        "separate_subsidy": separate_subsidy(*own),
    }
    for name, index in expected.items():
        np.testing.assert_array_equal(POLICIES[name](cohort).values, index[None])
    at_once = POLICIES["whittle_caregiver"](replace(cohort, cool_down_weeks=0)).values[0]
    np.testing.assert_allclose(at_once, two_state_indices(*own), atol=1e-12)


def test_no_policy_sees_a_truth_that_is_not_believed() -> None:
    cohort = public_cohort(0, n_arms=40, budget=5, n_weeks=3)
    mistaken = replace(
        cohort,
        p_passive=cohort.p_passive[::-1].copy(),
        p_active=cohort.p_active[::-1].copy(),
        is_responsive=cohort.is_responsive,
    )
    for name, maker in POLICIES.items():
        np.testing.assert_allclose(maker(mistaken).values, maker(cohort).values, atol=1e-9, err_msg=name)


def test_unresponsive_caregivers_are_the_worst() -> None:
    cohort = small_cohort([[0, 1]] * 2, [[1, 1]] * 2, [False] * 2)
    worst_first = POLICIES["worst_first"](cohort)
    assert (worst_first.values[..., 0] > worst_first.values[..., 1]).all()
    assert not worst_first.is_longest_waiting_first
    assert POLICIES["round_robin"](cohort).is_longest_waiting_first
    assert not POLICIES["random"](cohort).is_longest_waiting_first


@pytest.mark.parametrize("cool_down_weeks", [0, 2])
def test_the_fluid_program_calls_where_its_index_exceeds_the_price_and_only_there(cool_down_weeks: int) -> None:
    cohort = replace(public_cohort(2, n_arms=80, budget=10, n_weeks=5), cool_down_weeks=cool_down_weeks)
    bound = fluid_bound(cohort)
    index = fluid_lp(cohort).values
    np.testing.assert_allclose(index, priorities_at_prices(cohort, bound).values, atol=1e-9)
    first_member = np.unique(bound.class_of_arm, return_index=True)[1]
    above = index[:, first_member] - bound.prices[:, bound.pool_of_arm[first_member], None]
    called, left = bound.occupation[..., 1], bound.occupation[..., 0]
    assert (called[above < -1e-5] < 1e-5).all()
    assert (left[above > 1e-5] < 1e-5).all()
