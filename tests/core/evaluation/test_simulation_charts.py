"""The charts of the simulation: pictures of the size that is shown, the same bytes again, one kind of cohort each."""

import struct

import pyarrow as pa
import pytest

from bandicoot_core.evaluation.cohort_generators import field_cohort, public_cohort
from bandicoot_core.evaluation.cohorts import with_district_shares
from bandicoot_core.evaluation.policy_comparison import call_worth_table, simulation_table
from bandicoot_core.evaluation.simulation_charts import share_of_gain_by_budget, worth_of_one_more_call


def size(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG")
    return struct.unpack(">II", png[16:24])


@pytest.mark.parametrize(("budgets", "n_trials"), [((2, 4, 8), 3), ((4,), 1), ((0,), 2)])
def test_policies_are_drawn_against_budgets_with_and_without_intervals(budgets, n_trials) -> None:
    table = simulation_table([public_cohort(0, n_arms=40, n_weeks=3)], budgets=budgets, n_trials=n_trials, seed=0)
    picture = share_of_gain_by_budget(table)
    assert size(picture) == (612, 306)
    assert picture == share_of_gain_by_budget(table)


def test_the_worth_of_a_call_is_drawn_by_week_or_by_district() -> None:
    cohort = field_cohort(0, n_arms=200, budget=10)
    by_week = worth_of_one_more_call(call_worth_table([cohort]))
    by_district = worth_of_one_more_call(call_worth_table([with_district_shares(cohort)]))
    assert size(by_week) == (612, 306)
    assert size(by_district) == (612, 324)
    assert by_week == worth_of_one_more_call(call_worth_table([cohort]))


def test_two_kinds_of_cohort_do_not_share_a_chart() -> None:
    cohorts = [public_cohort(0, n_arms=20, budget=2, n_weeks=2), field_cohort(0, n_arms=20, budget=2, n_weeks=2)]
    table = simulation_table(cohorts, n_trials=1, seed=0)
    with pytest.raises(ValueError, match="policy_simulation: 2 kinds of cohort"):
        share_of_gain_by_budget(table)
    with pytest.raises(ValueError, match="call_worth: 0 kinds of cohort"):
        worth_of_one_more_call(pa.Table.from_pylist([], schema=call_worth_table(cohorts).schema))
