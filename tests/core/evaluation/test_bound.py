"""The fluid bound, against dynamic programming over all joint states, closed forms, and finite differences."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cohorts import best_responsive_weeks, small_cohort

from bandicoot_core.evaluation.bound import fluid_bound
from bandicoot_core.evaluation.cohort_generators import field_cohort, public_cohort
from bandicoot_core.evaluation.cohorts import Cohort, with_budget, with_district_shares
from bandicoot_core.evaluation.policies import fluid_lp
from bandicoot_core.evaluation.priced_calls import worth_at_prices
from bandicoot_core.evaluation.simulation import simulate

EFFORT = settings(max_examples=80, deadline=None, derandomize=True)
CHANCE = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.0, 0.5, 1.0]))


@st.composite
def tiny_cohorts(draw: st.DrawFn, max_arms: int = 3) -> Cohort:
    n_arms = draw(st.integers(1, max_arms))
    p, q = (draw(st.lists(st.tuples(CHANCE, CHANCE), min_size=n_arms, max_size=n_arms)) for _ in range(2))
    cohort = small_cohort(
        p,
        q,
        draw(st.lists(st.booleans(), min_size=n_arms, max_size=n_arms)),
        budget=draw(st.integers(0, 2)),
        n_weeks=draw(st.integers(1, 4 if n_arms < 3 else 3)),
        cool_down_weeks=draw(st.integers(0, 2)),
        district=np.arange(n_arms) % 2,
        district_names=("East", "West"),
    )
    if draw(st.booleans()):
        return replace(cohort, district_budgets={"West": draw(st.integers(0, cohort.budget))})
    return cohort


@EFFORT
@given(tiny_cohorts())
def test_no_policy_whatever_it_knows_exceeds_the_bound(cohort: Cohort) -> None:
    assert fluid_bound(cohort).responsive_weeks >= best_responsive_weeks(cohort) - 1e-9


@EFFORT
@given(tiny_cohorts(max_arms=1))
def test_for_one_caregiver_the_bound_is_the_optimum(cohort: Cohort) -> None:
    cohort = replace(cohort, budget=1, district_budgets={})
    assert fluid_bound(cohort).responsive_weeks == pytest.approx(best_responsive_weeks(cohort), abs=1e-6)


@EFFORT
@given(tiny_cohorts())
def test_with_calls_for_everybody_the_bound_is_the_optimum(cohort: Cohort) -> None:
    cohort = replace(cohort, budget=cohort.n_arms, district_budgets={})
    assert fluid_bound(cohort).responsive_weeks == pytest.approx(best_responsive_weeks(cohort), abs=1e-6)


@EFFORT
@given(tiny_cohorts())
def test_without_calls_nothing_is_gained(cohort: Cohort) -> None:
    bound = fluid_bound(replace(cohort, budget=0, district_budgets={}))
    assert bound.gain == pytest.approx(0.0, abs=1e-7)
    assert bound.responsive_weeks == pytest.approx(
        best_responsive_weeks(replace(cohort, budget=0, district_budgets={})), abs=1e-7
    )


@EFFORT
@given(tiny_cohorts())
def test_the_occupation_keeps_budgets_and_adds_up_to_the_caregivers(cohort: Cohort) -> None:
    bound = fluid_bound(cohort)
    assert (bound.occupation >= -1e-7).all()
    assert (bound.calls <= bound.pool_budgets + 1e-6).all()
    n_members = np.bincount(bound.class_of_arm)
    calls = bound.occupation[..., 1].sum(axis=2)
    for week in range(cohort.n_weeks):
        asleep = calls[max(week - cohort.cool_down_weeks, 0) : week].sum(axis=0)
        np.testing.assert_allclose(bound.occupation[week].sum(axis=(1, 2)) + asleep, n_members, atol=1e-6)


def test_a_case_that_can_be_checked_by_eye() -> None:
    # Two alike caregivers who stay as they are unless called; one call a week, two weeks: one is responsive in weeks 1
    # and 2, the other in week 2.
    bound = fluid_bound(small_cohort([[0, 1]] * 2, [[1, 1]] * 2, [False, False], budget=1, n_weeks=2))
    assert bound.without_calls == 0.0
    assert bound.gain == pytest.approx(3.0)
    np.testing.assert_allclose(bound.calls[:, 0], [1.0, 1.0], atol=1e-7)
    np.testing.assert_allclose(bound.occupation[1, 0], [[0.0, 1.0], [1.0, 0.0]], atol=1e-7)
    # In week 1 a call more is worth nothing and one fewer costs one; in week 0 they are worth one and two.
    assert -1e-7 <= bound.prices[1, 0] <= 1.0 + 1e-7
    assert 1.0 - 1e-7 <= bound.prices[0, 0] <= 2.0 + 1e-7


def test_sleeping_weeks_keep_calls_from_being_made() -> None:
    # One caregiver who falls back at once: four weeks of calls without cool-down, two with one week of it.
    cohort = small_cohort([[0, 0]], [[1, 1]], [False], budget=1, n_weeks=4)
    assert fluid_bound(cohort).gain == pytest.approx(4.0)
    assert fluid_bound(replace(cohort, cool_down_weeks=1)).gain == pytest.approx(2.0)
    assert fluid_bound(replace(cohort, cool_down_weeks=9)).gain == pytest.approx(1.0)


@pytest.mark.parametrize("cool_down_weeks", [0, 2])
def test_prices_are_the_slopes_of_the_bound(cool_down_weeks: int) -> None:
    cohort = replace(public_cohort(3, n_arms=60, budget=8, n_weeks=5), cool_down_weeks=cool_down_weeks)
    bound = fluid_bound(cohort)
    slope = bound.prices.sum()
    more, fewer = (fluid_bound(with_budget(cohort, budget)).gain - bound.gain for budget in (9, 7))
    assert more - 1e-6 <= slope <= -fewer + 1e-6
    assert more > 0.9 * slope


def test_a_district_price_is_the_slope_in_its_own_budget() -> None:
    cohort = with_district_shares(public_cohort(4, n_arms=80, budget=10, n_weeks=4, n_districts=2))
    bound = fluid_bound(cohort)
    for district, n_calls in cohort.district_budgets.items():
        slope = bound.prices[:, bound.pool_names.index(district)].sum()
        changed = [
            fluid_bound(
                replace(
                    cohort,
                    budget=cohort.budget + step,
                    district_budgets=cohort.district_budgets | {district: n_calls + step},
                )
            ).gain
            - bound.gain
            for step in (1, -1)
        ]
        assert changed[0] - 1e-6 <= slope <= -changed[1] + 1e-6


def test_own_budgets_for_districts_never_raise_the_bound() -> None:
    cohort = field_cohort(1, n_arms=500, budget=20)
    assert fluid_bound(with_district_shares(cohort)).gain <= fluid_bound(cohort).gain + 1e-6


def test_any_prices_give_a_valid_bound_and_the_solved_ones_the_best() -> None:
    cohort = public_cohort(5, n_arms=50, budget=6, n_weeks=4)
    bound = fluid_bound(cohort)
    rng = np.random.default_rng(0)
    state = cohort.is_responsive.astype(int)
    for _ in range(50):
        prices = np.maximum(0.0, bound.prices[:, 0] + rng.normal(0.0, 0.1, cohort.n_weeks))
        of_arms = np.repeat(prices[:, None], cohort.n_arms, axis=1)
        _, worth = worth_at_prices(cohort.p_passive, cohort.p_active, of_arms, 0)
        assert worth[np.arange(cohort.n_arms), state].sum() + prices.sum() * cohort.budget >= bound.gain - 1e-6


def test_the_order_of_the_caregivers_does_not_matter() -> None:
    cohort = field_cohort(2, n_arms=300, budget=12)
    order = np.random.default_rng(0).permutation(cohort.n_arms)
    names = ("p_passive", "p_active", "own_p_passive", "own_p_active", "is_responsive", "cluster_id", "district")
    shuffled = replace(cohort, **{name: getattr(cohort, name)[order] for name in names})
    assert fluid_bound(shuffled).gain == pytest.approx(fluid_bound(cohort).gain, rel=1e-9)


def test_the_bound_is_nearly_reached_in_a_large_cohort() -> None:
    cohort = replace(field_cohort(0, n_arms=20_000, budget=600, n_clusters=6), cool_down_weeks=1)
    gains = simulate(cohort, {"fluid_lp": fluid_lp(cohort)}, n_trials=20, seed=3).gains("fluid_lp")
    assert gains.mean() / fluid_bound(cohort).gain == pytest.approx(1.0, abs=0.02)
