"""Floors of districts: who gets a pool, the best list that keeps them, and the price."""

from collections.abc import Mapping
from itertools import combinations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.policy.floors import ByOrder, check_floors, pools_for_floors

Caregivers = list[tuple[str, float]]
"""District and index."""


def list_maker(caregivers: Caregivers, budget: int) -> ByOrder:
    """The list by order as ranking makes it: the first of each pool, the rest to all others."""

    def by_order(pools: Mapping[str, int]) -> pa.Table:
        ranked = sorted(caregivers, key=lambda c: -c[1])
        listed = [c for d, n in pools.items() for c in [c for c in ranked if c[0] == d][:n]]
        shared = [c for c in ranked if c[0] not in pools][: budget - sum(pools.values())]
        rows = listed + shared
        return pa.table({"district": [d for d, _ in rows], "own_index": pa.array([i for _, i in rows], pa.float64())})

    return by_order


def counts(caregivers: Caregivers) -> dict[str, int]:
    return {d: sum(c[0] == d for c in caregivers) for d in {c[0] for c in caregivers}}


CAREGIVERS = [("Patna", 0.9), ("Patna", 0.8), ("Patna", 0.7), ("Gaya", 0.6), ("Gaya", 0.5), ("Nashik", 0.1)]


def test_a_district_that_gets_its_floor_anyway_needs_no_pool_and_costs_nothing() -> None:
    assert pools_for_floors({"Patna": 2}, counts(CAREGIVERS), list_maker(CAREGIVERS, 3)) == ({}, 0.0)


def test_a_district_below_its_floor_gets_a_pool_at_the_price_of_whom_it_displaces() -> None:
    pools, price = pools_for_floors({"Nashik": 1}, counts(CAREGIVERS), list_maker(CAREGIVERS, 3))
    assert pools == {"Nashik": 1}
    assert price == pytest.approx(0.7 - 0.1)


def test_a_pool_that_takes_slots_may_put_another_district_below_its_floor() -> None:
    floors = {"Nashik": 1, "Gaya": 1}
    pools, price = pools_for_floors(floors, counts(CAREGIVERS), list_maker(CAREGIVERS, 4))
    assert pools == {"Gaya": 1, "Nashik": 1}
    assert price == pytest.approx(0.7 - 0.1)


def test_a_floor_above_the_eligible_holds_no_slot_empty() -> None:
    pools, _ = pools_for_floors({"Nashik": 3}, counts(CAREGIVERS), list_maker(CAREGIVERS, 4))
    assert pools == {"Nashik": 1}
    assert list_maker(CAREGIVERS, 4)(pools).num_rows == 4


def test_a_district_without_eligible_caregivers_gets_nothing() -> None:
    assert pools_for_floors({"Wardha": 2}, counts(CAREGIVERS), list_maker(CAREGIVERS, 3)) == ({}, 0.0)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(0, 50).map(lambda n: n / 10)), min_size=1, max_size=9, unique=True
    ),
    st.integers(1, 6),
    st.dictionaries(st.sampled_from("ABC"), st.integers(0, 3)),
)
def test_no_list_that_keeps_the_floors_is_worth_more(
    caregivers: Caregivers, budget: int, floors: dict[str, int]
) -> None:
    if sum(floors.values()) > budget:
        return
    by_order, n_eligible = list_maker(caregivers, budget), counts(caregivers)
    pools, price = pools_for_floors(floors, n_eligible, by_order)
    listed = by_order(pools)
    needed = {d: min(n, n_eligible.get(d, 0)) for d, n in floors.items()}
    found = listed["district"].to_pylist()
    assert all(found.count(d) >= n for d, n in needed.items())
    n_slots = min(budget, len(caregivers))
    best = max(
        sum(index for _, index in some)
        for some in combinations(caregivers, n_slots)
        if all(sum(d == district for d, _ in some) >= n for district, n in needed.items())
    )
    assert sum(listed["own_index"].to_pylist()) == pytest.approx(best)
    free = sum(sorted((index for _, index in caregivers), reverse=True)[:n_slots])
    assert price == pytest.approx(free - best)


def test_floors_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(InvalidSettingError, match="both name Gaya"):
        check_floors({"Gaya": 1}, {"Gaya": 2}, 10)
    with pytest.raises(InvalidSettingError, match="add up to 11, but only 10 calls"):
        check_floors({"Gaya": 5, "Patna": 6}, {}, 10)
    check_floors({"Gaya": 4, "Patna": 6}, {"Pune": 2}, 10)
