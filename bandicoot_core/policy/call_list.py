"""One day's call list from end to end, and the answer to why a caregiver is or is not on it.

Only composition belongs here: the criteria are in eligibility, the order and the draw in ranking, the slots in
budgets, the floors of districts in floors. Reading partitions, looking up public ids and publishing belong to stores
and orchestration.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import ACTIVE_STATUS, STATES
from bandicoot_core.errors import InvalidInputError, InvalidSettingError
from bandicoot_core.policy.budgets import SHARED_POOL, budget_pools, check_districts, with_slots
from bandicoot_core.policy.eligibility import eligibility_funnel, eligible_only, with_eligibility
from bandicoot_core.policy.floors import check_floors, pools_for_floors
from bandicoot_core.policy.ranking import (
    candidates,
    first_by_order,
    make_call_list,
    propensities,
    same_standing,
    standings,
    with_pool,
)
from bandicoot_core.policy.top_k import IndexPosterior, alike, p_top_k
from bandicoot_core.settings import ListOptions

CaregiverIds: TypeAlias = Mapping[int, str] | pa.Table
"""Public ids by caregiver_key: a mapping, or a table (caregiver_key, caregiver_id)."""


@dataclass(frozen=True)
class ListInputs:
    """The tables a list is made from, as expressions on one engine."""

    states: ibis.Table
    """CAREGIVER_STATES at the end of the day before the list."""
    assignments: ibis.Table
    """CLUSTER_ASSIGNMENTS of the champion model."""
    pending: ibis.Table
    """caregiver_key of everyone on an earlier list of the pending days who has no outcome yet."""
    indices: ibis.Table
    """WHITTLE_INDICES of the champion model."""
    tuple_indices: ibis.Table
    """TUPLE_INDICES of the champion model."""
    index_posterior: IndexPosterior
    """How well the champion model knows its indices."""


@dataclass(frozen=True)
class DrawnList:
    """The list of a day and the numbers that its readers and its checks want beside it."""

    call_list: pa.Table
    """CALL_LIST."""
    funnel: pa.Table
    """position, step, n_caregivers: how many remain after each criterion."""
    state_counts: dict[str, int]
    """Caregivers of active status in each state."""
    n_eligible: dict[str, int]
    """Eligible caregivers in each pool; the pool of districts without a budget of their own is ''."""
    n_candidates: int
    """Rows that left the engine to have their ties settled."""
    options: ListOptions
    """The options with the budgets of districts that needed a pool to keep their floor."""
    floor_price: float
    """What the floors cost, in responsive weeks; 0 without any."""


def draw_call_list(
    inputs: ListInputs,
    look_up_ids: Callable[[pa.Array], CaregiverIds],
    *,
    call_date: date,
    options: ListOptions,
    model_version: str,
    lookback_days: int,
) -> DrawnList:
    """The list of `call_date` from the states of the day before and the champion's tables.

    look_up_ids: the public ids of the given caregiver keys (int64 array); asked once, for the candidates only.
    lookback_days: how many days back `states` knows opens and calls.

    InvalidSettingError for a district without caregivers, or a cool-down longer than the lookback, which would let
    calls slip out of sight; InvalidInputError when tables do not belong together.
    """
    if options.cool_down_days > lookback_days:
        raise InvalidSettingError(
            f"cool_down_days is {options.cool_down_days}, but calls are known for {lookback_days} days only; "
            "lower it or raise lookback_days"
        )
    eligibility = with_eligibility(
        inputs.states,
        inputs.assignments,
        inputs.pending,
        call_date=call_date,
        cool_down_days=options.cool_down_days,
    )
    with eligibility.cache() as known:
        if options.district_budgets or options.district_floors:
            check_districts({**options.district_budgets, **options.district_floors}, _districts(known))
        options, floor_price = _with_floors(known, inputs, look_up_ids, call_date=call_date, options=options)
        pools = budget_pools(options)
        rows = candidates(
            eligible_only(known),
            inputs.indices,
            inputs.tuple_indices,
            pools,
            call_date=call_date,
            exploration_share=options.exploration_share,
            index_level=options.index_level,
        ).to_pyarrow()
        groups = alike(eligible_only(known), options.index_level).to_pyarrow()
        funnel = eligibility_funnel(known).to_pyarrow()
        state_counts = dict.fromkeys(STATES, 0) | _counts(known.filter(known.status == ACTIVE_STATUS), "state")
        pooled = with_pool(eligible_only(known), pools)
        n_eligible = dict.fromkeys(pools["pool"].to_pylist(), 0) | _counts(pooled, "pool")
    ids = look_up_ids(rows["caregiver_key"].combine_chunks())
    call_list = make_call_list(
        rows,
        ids,
        call_date=call_date,
        model_version=model_version,
        lookback_days=lookback_days,
        index_level=options.index_level,
        p_top_k=p_top_k(rows, groups, inputs.index_posterior, k=options.budget, index_level=options.index_level),
    )
    return DrawnList(call_list, funnel, state_counts, n_eligible, rows.num_rows, options, floor_price)


def _with_floors(
    known: ibis.Table,
    inputs: ListInputs,
    look_up_ids: Callable[[pa.Array], CaregiverIds],
    *,
    call_date: date,
    options: ListOptions,
) -> tuple[ListOptions, float]:
    """The options with a budget for every district that would fall below its floor, and the price of the floors."""
    if not options.district_floors:
        return options, 0.0
    shared = with_slots(budget_pools(options), exploration_share=options.exploration_share)
    n_exploit = shared.filter(pc.equal(shared["pool"], SHARED_POOL))["n_exploit"][0].as_py()
    check_floors(options.district_floors, options.district_budgets, n_exploit)
    eligible = eligible_only(known)

    def by_order(pools_of_floors: Mapping[str, int]) -> pa.Table:
        budgets = {**options.district_budgets, **pools_of_floors}
        pools = budget_pools(options.model_copy(update={"district_budgets": budgets}))
        slots = with_slots(pools, exploration_share=options.exploration_share)
        pools = pools.set_column(1, "budget", slots["n_exploit"])
        rows = candidates(
            eligible,
            inputs.indices,
            inputs.tuple_indices,
            pools,
            call_date=call_date,
            exploration_share=0.0,
            index_level=options.index_level,
        ).to_pyarrow()
        return first_by_order(
            rows,
            look_up_ids(rows["caregiver_key"].combine_chunks()),
            call_date=call_date,
            index_level=options.index_level,
        )

    n_eligible = _counts(eligible.filter(eligible.district.notnull()), "district")
    pools_of_floors, price = pools_for_floors(options.district_floors, n_eligible, by_order)
    budgets = {**options.district_budgets, **pools_of_floors}
    return options.model_copy(update={"district_budgets": budgets}), price


def explain(
    eligibility: ibis.Table,
    indices: ibis.Table,
    tuple_indices: ibis.Table,
    *,
    caregiver_key: int,
    options: ListOptions,
) -> pa.Table:
    """Why a caregiver is or is not on the list: one row, in the words of the ranking rule.

    eligibility: what with_eligibility returns for the day. Columns: caregiver_key, excluded_by (null when eligible),
    standing (a sentence), district, pool, state, cluster_id, whittle_index, own_index, last_call_date, n_ahead,
    n_tied, n_eligible, n_exploit, n_explore and propensity (0 when excluded). Her own hash, which decides within a
    tie and in the draw, is not looked at: the list says how it fell.

    InvalidInputError when `eligibility` has no such caregiver.
    """
    pools = budget_pools(options)
    slots = ibis.memtable(with_slots(pools, exploration_share=options.exploration_share))
    pooled = with_pool(eligibility, pools)
    standing = standings(eligible_only(pooled), indices, tuple_indices, slots, index_level=options.index_level)
    hers = pooled.filter(pooled.caregiver_key == caregiver_key, pooled.excluded_by.isnull())
    ranked = hers.inner_join(standing, same_standing(hers, standing), rname="standing_{name}").select(
        "caregiver_key", *_STANDING_COLUMNS
    )
    row = (
        pooled.filter(pooled.caregiver_key == caregiver_key)
        .left_join(ranked, "caregiver_key", rname="ranked_{name}")
        .select(*_CAREGIVER_COLUMNS, *_STANDING_COLUMNS)
        .to_pyarrow()
    )
    if row.num_rows == 0:
        raise InvalidInputError(
            f"caregiver_states: no caregiver has the key {caregiver_key}; check the key and the day"
        )
    if row["excluded_by"][0].is_valid:
        chance, sentence = 0.0, f"excluded: {row['excluded_by'][0]}"
    else:
        chance, sentence = float(propensities(row)[0]), _standing(row)
    return row.append_column("propensity", pa.array([chance])).append_column("standing", pa.array([sentence]))


_CAREGIVER_COLUMNS = (
    "caregiver_key",
    "excluded_by",
    "district",
    "pool",
    "state",
    "cluster_id",
    "last_call_date",
)
_STANDING_COLUMNS = ("whittle_index", "own_index", "n_ahead", "n_tied", "n_eligible", "n_exploit", "n_explore")


def _standing(row: pa.Table) -> str:
    n_ahead, n_tied, n_eligible, n_exploit, n_explore = (
        row[name][0].as_py() for name in ("n_ahead", "n_tied", "n_eligible", "n_exploit", "n_explore")
    )
    slots = "1 slot" if n_exploit == 1 else f"{n_exploit} slots"
    draw = f"the draw of {n_explore} among the other {n_eligible - n_exploit}"
    if n_ahead + n_tied <= n_exploit:
        return f"on the list: at most {n_ahead + n_tied - 1} of {n_eligible} are ahead for {slots}"
    if n_ahead < n_exploit:
        last = "slot" if n_exploit - n_ahead == 1 else f"{n_exploit - n_ahead} slots"
        return f"tied: {n_tied} caregivers are equal for the last {last}; then {draw}"
    return f"behind: {n_ahead} of {n_eligible} are ahead for {slots}; only {draw} can list her"


def _districts(table: ibis.Table) -> list[str]:
    districts: list[str] = pc.drop_null(table.select("district").distinct().to_pyarrow()["district"]).to_pylist()
    return districts


def _counts(table: ibis.Table, column: str) -> dict[str, int]:
    counts = table.group_by(column).agg(n=ibis._.count()).to_pyarrow()
    return dict(sorted(zip(counts[column].to_pylist(), counts["n"].to_pylist(), strict=True)))
