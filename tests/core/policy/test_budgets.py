from types import SimpleNamespace

import pyarrow as pa
import pytest

from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.policy.budgets import budget_pools, check_districts, with_slots
from bandicoot_core.settings import ListOptions


def pool(budget: int) -> pa.Table:
    return budget_pools(ListOptions(budget=budget))


def test_named_districts_get_their_own_pool_and_the_others_share_the_rest():
    pools = budget_pools(ListOptions(budget=100, district_budgets={"Pune": 30, "Nashik": 0}))
    assert pools.to_pylist() == [
        {"pool": "", "budget": 70},
        {"pool": "Nashik", "budget": 0},
        {"pool": "Pune", "budget": 30},
    ]


def test_without_district_budgets_there_is_one_pool():
    assert budget_pools(ListOptions(budget=100)).to_pylist() == [{"pool": "", "budget": 100}]


@pytest.mark.parametrize(
    ("budget", "district_budgets", "message"),
    [
        (-1, {}, "budget is -1; it must be 0 or more"),
        (10, {"Pune": -2}, r"district_budgets\['Pune'\] is -2"),
        (10, {"Pune": 8, "Nashik": 3}, "add up to 11, more than the budget of 10"),
        (10, {"": 3}, "without a district name"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused(budget, district_budgets, message):
    with pytest.raises(InvalidSettingError, match=message):
        budget_pools(SimpleNamespace(budget=budget, district_budgets=district_budgets))


@pytest.mark.parametrize(
    ("budget", "share", "n_explore"),
    [
        (100, 0.05, 5),
        (9, 0.05, 0),  # 0.45
        (10, 0.05, 1),  # 0.5: halves up
        (50, 0.29, 15),  # 14.5, though 0.29 * 50 is 14.499999999999998 in binary
        (50, 0.01, 1),
        (7, 1.0, 7),
        (7, 0.0, 0),
        (0, 0.5, 0),
    ],
)
def test_slots_to_explore_are_the_share_of_the_budget_with_halves_up(budget, share, n_explore):
    slots = with_slots(pool(budget), exploration_share=share)
    assert slots.to_pylist() == [
        {"pool": "", "budget": budget, "n_exploit": budget - n_explore, "n_explore": n_explore}
    ]


def test_an_exploration_share_outside_its_bounds_is_refused():
    with pytest.raises(InvalidSettingError, match=r"exploration_share is -0\.1"):
        with_slots(pool(10), exploration_share=-0.1)


def test_an_unknown_district_is_refused_with_the_known_ones():
    with pytest.raises(
        InvalidSettingError, match="'Puna', where no caregiver lives; known districts are Nashik, Pune;"
    ):
        check_districts({"Puna": 3, "Pune": 2}, ["Pune", "Nashik"])


def test_known_districts_pass():
    check_districts({"Pune": 2}, ["Pune", "Nashik"])
    check_districts({}, [])
