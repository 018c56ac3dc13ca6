"""Floors: calls that a district gets at least, and what keeping them costs.

A district that would get fewer calls by the order alone becomes a pool of its own with as many slots as its floor (or
as it has eligible caregivers, if fewer); all others go on competing for the rest. That is the best list that keeps the
floors: the first of a district must be on any such list, and the other slots go to the best of the others. Here: which
districts need a pool, and the price. How pools are filled belongs to ranking, pools as such to budgets.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from bandicoot_core.errors import InvalidSettingError

ByOrder = Callable[[Mapping[str, int]], pa.Table]
"""District budgets -> the list by order alone, without the draw, with columns district and own_index."""


def pools_for_floors(
    floors: Mapping[str, int], n_eligible: Mapping[str, int], by_order: ByOrder
) -> tuple[dict[str, int], float]:
    """The pools that keep the floors, and their price.

    Parameters
    ----------
    floors : mapping of district to calls
    n_eligible : mapping of district to eligible caregivers
        Districts that are missing have none.
    by_order : callable
        Called once for each set of pools that is tried: at most one more than there are floors.

    Returns
    -------
    dict of district to slots
        Of the districts that would fall below their floor otherwise.
    float
        The price: by how much less, in responsive weeks, the calls by order are expected to be worth than without
        floors; the sum of the own indices of the list without floors less that with them. Never below 0 when the list
        is ordered by own index.
    """
    needed = {district: min(floor, n_eligible.get(district, 0)) for district, floor in floors.items()}
    pools: dict[str, int] = {}
    first = listed = by_order(pools)
    # A pool takes slots from the others, so that another district may fall below its floor: at most one round each.
    while short := _short(listed, {d: n for d, n in needed.items() if d not in pools}):
        pools = {**pools, **short}
        listed = by_order(pools)
    return dict(sorted(pools.items())), _worth(first) - _worth(listed)


def check_floors(floors: Mapping[str, int], district_budgets: Mapping[str, int], n_exploit: int) -> None:
    """InvalidSettingError when floors can't be kept: of a district with a budget of its own, or above the slots.

    n_exploit: slots by order that districts without a budget of their own share.
    """
    both = sorted(set(floors) & set(district_budgets))
    if both:
        raise InvalidSettingError(
            f"district_floors and district_budgets both name {', '.join(both)}; a district with a budget of its own "
            "gets exactly that: remove one of the two"
        )
    total = sum(floors.values())
    if total > n_exploit:
        raise InvalidSettingError(
            f"district_floors add up to {total}, but only {n_exploit} calls are shared by order; lower a floor, raise "
            "the budget or lower exploration_share"
        )


def _short(listed: pa.Table, needed: Mapping[str, int]) -> dict[str, int]:
    counted = listed.group_by("district").aggregate([([], "count_all")]).to_pylist()
    n_listed = {row["district"]: row["count_all"] for row in counted}
    return {district: n for district, n in needed.items() if n_listed.get(district, 0) < n}


def _worth(listed: pa.Table) -> float:
    return float(np.sum(listed["own_index"].to_numpy()))
