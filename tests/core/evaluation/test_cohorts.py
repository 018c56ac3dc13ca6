"""Cohorts: what the generators promise, what a policy may believe, and what is refused."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from small_cohorts import small_cohort

from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.evaluation.cohort_generators import (
    UNKNOWN_DISTRICT,
    field_cohort,
    fitted_cohort,
    public_cohort,
)
from bandicoot_core.evaluation.cohorts import with_budget, with_district_shares
from bandicoot_core.evaluation.simulation import simulate

TRANSITIONS = pa.table(
    {
        "cluster_id": [0] * 4 + [1] * 4,
        "state": ["R", "R", "U", "U"] * 2,
        "action": ["active", "passive"] * 4,
        "n_to_r": [8] * 8,
        "n_to_u": [2] * 8,
        "p_next_r": [0.9, 0.6, 0.5, 0.1, 0.8, 0.7, 0.3, 0.2],
        "p_low": [0.0] * 8,
        "p_high": [1.0] * 8,
        "n_effective": [12.0] * 8,
        "correlation": [0.0] * 8,
    }
)
GROUPS = pa.table(
    {
        "cluster_id": [0, 1, 1],
        "state": ["U", "R", "U"],
        "district": ["Pune", None, "Nashik"],
        "n_caregivers": [2, 1, 3],
    }
)


def test_the_public_cohort_is_drawn_within_its_bounds_and_half_engaged() -> None:
    cohort = public_cohort(0, n_arms=20_000)
    for chances, low, high in (
        (cohort.p_passive[:, 0], 0.0, 0.5),
        (cohort.p_active[:, 0], 0.5, 1.0),
        (cohort.p_passive[:, 1], 0.0, 0.7),
        (cohort.p_active[:, 1], 0.8, 0.999),
    ):
        assert low <= chances.min() < low + 0.01
        assert high - 0.01 < chances.max() <= high
        assert chances.mean() == pytest.approx((low + high) / 2, abs=0.01)
    assert cohort.is_responsive.sum() == 10_000
    standard = public_cohort(0)
    assert (standard.n_arms, standard.budget, standard.n_weeks) == (500, 60, 12)
    assert (standard.cool_down_weeks, standard.discount) == (0, 0.99)
    assert np.bincount(standard.cluster_id).tolist() == [25] * 20


def test_the_field_cohort_has_the_field_study_s_size_and_calls_that_never_harm() -> None:
    cohort = field_cohort(0)
    assert (cohort.n_arms, cohort.budget, cohort.n_weeks, cohort.cool_down_weeks) == (7668, 225, 7, 3)
    assert len(cohort.cluster_p_passive) == 40
    lift = cohort.p_active - cohort.p_passive
    assert (lift >= 0.0).all()
    hardly = (lift < 0.03).mean()
    assert 0.4 < hardly < 0.8


@pytest.mark.parametrize("generate", [public_cohort, field_cohort])
def test_a_seed_gives_one_cohort_and_beliefs_at_cluster_level_are_the_members_means(generate) -> None:
    cohort, again, other = generate(3, n_arms=200), generate(3, n_arms=200), generate(4, n_arms=200)
    np.testing.assert_array_equal(cohort.p_passive, again.p_passive)
    np.testing.assert_array_equal(cohort.district, again.district)
    assert (cohort.p_passive != other.p_passive).any()
    for believed, truth in zip(cohort.beliefs("cluster"), (cohort.p_passive, cohort.p_active), strict=True):
        for cluster in np.unique(cohort.cluster_id):
            members = cohort.cluster_id == cluster
            np.testing.assert_allclose(believed[members], truth[members].mean(axis=0)[None].repeat(members.sum(), 0))
    assert cohort.beliefs("caregiver")[0] is cohort.p_passive
    np.testing.assert_array_equal(cohort.as_believed("cluster").p_active, cohort.beliefs("cluster")[1])
    with pytest.raises(ValueError, match="level is 'arm'; expected one of cluster, caregiver"):
        cohort.beliefs("arm")


def test_chances_and_trials_with_the_same_seed_are_drawn_apart() -> None:
    # Were they drawn from one stream, the first trial's numbers would be twice the chances P(R | U, passive).
    cohort = public_cohort(7, n_arms=4000)
    result = simulate(cohort, {}, n_trials=1, seed=7)
    assert result.n_responsive_without_calls[0, 0] == pytest.approx(result.expected_without_calls[0], abs=5 * 30)


def test_a_fitted_cohort_has_the_model_s_chances_for_its_caregivers() -> None:
    cohort = fitted_cohort(TRANSITIONS, GROUPS, budget=2, n_weeks=4, district_budgets={"Pune": 1})
    assert cohort.cluster_id.tolist() == [0, 0, 1, 1, 1, 1]
    assert cohort.is_responsive.tolist() == [False, False, True, False, False, False]
    assert [cohort.district_names[code] for code in cohort.district] == ["Pune"] * 2 + [UNKNOWN_DISTRICT] + [
        "Nashik"
    ] * 3
    np.testing.assert_allclose(cohort.p_passive, [[0.1, 0.6]] * 2 + [[0.2, 0.7]] * 4)
    np.testing.assert_allclose(cohort.p_active, [[0.5, 0.9]] * 2 + [[0.3, 0.8]] * 4)
    np.testing.assert_array_equal(cohort.beliefs("cluster")[0], cohort.p_passive)
    names, budgets, pool_of_arm = cohort.pools()
    assert (names, budgets.tolist(), pool_of_arm.tolist()) == (("", "Pune"), [1, 1], [1, 1, 0, 0, 0, 0])


def test_own_chances_of_a_fitted_cohort_are_the_truth_and_clusters_only_a_belief() -> None:
    own = {"p_passive_u": [0.0, 0.3, 0.4], "p_passive_r": [0.5] * 3, "p_active_u": [0.6] * 3, "p_active_r": [0.7] * 3}
    groups = pa.table({**{name: GROUPS[name] for name in GROUPS.column_names}, **own})
    cohort = fitted_cohort(TRANSITIONS, groups, budget=2, n_weeks=4)
    np.testing.assert_allclose(cohort.p_passive[:, 0], [0.0, 0.0, 0.3, 0.4, 0.4, 0.4])
    np.testing.assert_array_equal(cohort.beliefs("caregiver")[0], cohort.p_passive)
    np.testing.assert_allclose(cohort.beliefs("cluster")[0][:, 0], [0.1, 0.1, 0.2, 0.2, 0.2, 0.2])
    with pytest.raises(ValueError, match="either all or none"):
        fitted_cohort(TRANSITIONS, groups.drop_columns(["p_active_r"]), budget=2, n_weeks=4)


def test_groups_that_do_not_fit_the_model_are_refused() -> None:
    with pytest.raises(ValueError, match="cluster_id runs from 0 to 5; expected 0 to 1"):
        fitted_cohort(TRANSITIONS, GROUPS.set_column(0, "cluster_id", pa.array([0, 5, 1])), budget=2, n_weeks=4)
    with pytest.raises(ValueError, match=r"groups.state holds \['R', 'X'\]; expected U or R"):
        fitted_cohort(TRANSITIONS, GROUPS.set_column(1, "state", pa.array(["X", "R", "R"])), budget=2, n_weeks=4)


def test_district_shares_add_up_to_the_budget_by_the_largest_remainder() -> None:
    cohort = small_cohort(
        [[0, 1]] * 7,
        [[1, 1]] * 7,
        [False] * 7,
        district=np.array([0, 0, 0, 1, 1, 2, 2]),
        district_names=("A", "B", "C", "D"),
        budget=5,
    )
    # 15/7, 10/7, 10/7 and 0: two whole calls, one and one; the fifth goes to the first of the larger remainders.
    assert with_district_shares(cohort).district_budgets == {"A": 2, "B": 2, "C": 1, "D": 0}
    assert with_budget(cohort, 9).budget == 9


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"p_passive": np.array([[0.1, 1.2]] * 2)},
            ValueError,
            r"small, p_passive and p_active: p_passive\[0, 1\] is 1.2",
        ),
        ({"p_active": np.array([[0.1, 0.2]])}, ValueError, r"p_passive has shape \(2, 2\) and p_active \(1, 2\)"),
        ({"is_responsive": np.array([True])}, ValueError, "is_responsive has 1 rows; expected one for each of the 2"),
        ({"cluster_id": np.array([0, 1])}, ValueError, "cluster_id runs from 0 to 1; expected 0 to 0"),
        ({"n_weeks": 0}, ValueError, "n_weeks is 0; expected 1 or more"),
        ({"cool_down_weeks": -1}, ValueError, "weeks is -1"),
        ({"discount": 1.0}, ValueError, "discount is 1.0"),
        ({"budget": -1}, InvalidSettingError, "budget is -1"),
        ({"district_budgets": {"Oz": 1}}, InvalidSettingError, "a budget or floor names 'Oz'"),
    ],
)
def test_a_cohort_that_does_not_hold_together_is_refused(changes, error, message: str) -> None:
    with pytest.raises(error, match=message):
        replace(small_cohort([[0, 1]] * 2, [[1, 1]] * 2, [False] * 2), **changes)


def test_a_generator_needs_at_least_one_of_everything() -> None:
    with pytest.raises(ValueError, match="n_arms is 0; expected 1 or more"):
        public_cohort(0, n_arms=0)
    with pytest.raises(ValueError, match="n_clusters is 0; expected 1 or more"):
        field_cohort(0, n_clusters=0)
