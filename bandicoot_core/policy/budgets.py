"""How the calls of a day are shared out: pools of districts, and the slots of a pool that are drawn at random.

A pool is a set of caregivers who compete for the same slots. Who wins a slot belongs to ranking.
"""

from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Protocol

import pyarrow as pa

from bandicoot_core.errors import InvalidSettingError

SHARED_POOL = ""
"""The pool of every district without a budget of its own, and of caregivers whose district is unknown."""

_POOLS_SCHEMA = pa.schema(
    [pa.field("pool", pa.string(), nullable=False), pa.field("budget", pa.int64(), nullable=False)]
)


class BudgetOptions(Protocol):
    """The part of the list options that says how many calls there are."""

    @property
    def budget(self) -> int:
        """Calls on the list of a day."""

    @property
    def district_budgets(self) -> dict[str, int]:
        """Calls reserved for a district, by name."""


def budget_pools(options: BudgetOptions) -> pa.Table:
    """The pools of a day and their budgets: columns pool (string) and budget (calls), sorted by pool.

    A district with a budget of its own is a pool: it gets exactly that many slots. All other districts share the
    pool '' with what is left. Slots that a pool cannot fill stay empty; they do not move to another pool, so that
    a district's budget is a promise in both directions.

    InvalidSettingError when a budget is negative, a district has no name, or more is reserved than there is.
    """
    reserved = dict(options.district_budgets)
    if options.budget < 0:
        raise InvalidSettingError(f"budget is {options.budget}; it must be 0 or more (0 makes an empty list)")
    for district, budget in reserved.items():
        if district == SHARED_POOL:
            raise InvalidSettingError("district_budgets has an entry without a district name; name it or remove it")
        if budget < 0:
            raise InvalidSettingError(f"district_budgets[{district!r}] is {budget}; it must be 0 or more")
    left = options.budget - sum(reserved.values())
    if left < 0:
        raise InvalidSettingError(
            f"district_budgets add up to {sum(reserved.values())}, more than the budget of {options.budget}; "
            "raise the budget or lower a district's"
        )
    budgets = sorted({SHARED_POOL: left, **reserved}.items())
    return pa.table([[pool for pool, _ in budgets], [budget for _, budget in budgets]], schema=_POOLS_SCHEMA)


def with_slots(pools: pa.Table, *, exploration_share: float) -> pa.Table:
    """The pools with n_exploit (slots by rank) and n_explore (slots by draw), which add up to the pool's budget.

    n_explore = floor(exploration_share x budget + 1/2) in decimal arithmetic on the share as written, so that 0.29
    of 50 is 14.5 and makes 15 whatever its binary form; never more than the budget. A pool of fewer than
    1 / (2 x share) slots has none.

    InvalidSettingError when the share lies outside [0, 1].
    """
    if not 0 <= exploration_share <= 1:
        raise InvalidSettingError(f"exploration_share is {exploration_share}; it must lie between 0 and 1")
    share = Decimal(str(exploration_share))
    budgets: list[int] = pools["budget"].to_pylist()
    n_explore = [min(budget, int((share * budget).to_integral_value(ROUND_HALF_UP))) for budget in budgets]
    n_exploit = [budget - explored for budget, explored in zip(budgets, n_explore, strict=True)]
    return pools.append_column("n_exploit", pa.array(n_exploit, pa.int64())).append_column(
        "n_explore", pa.array(n_explore, pa.int64())
    )


def check_districts(named: Mapping[str, int], known: Sequence[str]) -> None:
    """InvalidSettingError when a budget or floor is set for a district that is not among the known, which it lists."""
    unknown = sorted(set(named) - set(known))
    if unknown:
        raise InvalidSettingError(
            f"a budget or floor names {', '.join(map(repr, unknown))}, where no caregiver lives; "
            f"known districts are {', '.join(sorted(known)) or '(none)'}; correct the name or remove it"
        )
