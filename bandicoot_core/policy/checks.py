"""What a call list must satisfy before anybody sees it.

Each check looks at the finished list and at facts that were not derived from it. How the list is made belongs to
ranking; what happens after a failure, to whoever publishes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.checks import CheckOutcome, Fact, first_at_fault
from bandicoot_core.contracts import RESPONSIVE, STATES
from bandicoot_core.policy.budgets import SHARED_POOL, budget_pools
from bandicoot_core.settings import ListOptions

LIST_CHECKS = {
    "keys_are_unique": "A caregiver is at most once on the list of a day",
    "ranks_are_complete": "Ranks run from 1 to the length of the list, each once",
    "states_are_valid": "Every state is R or U",
    "everyone_has_a_cluster": "Every listed caregiver has a cluster",
    "indices_are_finite": "Every index, her own included, and both ends of its interval are finite numbers",
    "propensities_are_chances": "Every propensity is above 0 and at most 1, every p_top_k between 0 and 1",
    "is_one_list": "All rows are for one day and from one model version",
    "budget_is_respected": "The list is no longer than the budget, in each district and in all",
    "floors_are_kept": "Every district has at least its floor, or all its eligible caregivers",
    "nobody_is_in_control": "Nobody on the list is in the experiment's control arm",
    "cool_down_is_respected": "Nobody on the list was called within the cool-down",
    "engagement_is_plausible": "The share of responsive caregivers lies within its bounds",
    "list_is_not_empty": "Somebody is on the list whenever there is a budget and somebody is eligible",
    "budget_is_used": "Every slot of the budget is filled",
}
"""Names of the checks in their order, and what each demands."""

WARNING_ONLY = ("budget_is_used",)
"""Checks that warn and do not stop publication."""


def list_checks(
    call_list: pa.Table,
    *,
    state_counts: Mapping[str, int],
    n_eligible: Mapping[str, int],
    control_keys: Sequence[int] | np.ndarray | pa.Array,
    options: ListOptions,
    call_date: date,
) -> tuple[CheckOutcome, ...]:
    """All checks of the list of `call_date` [columns of CALL_LIST], always the same ones in the same order.

    state_counts: caregivers of active status in each state on the day before. n_eligible: eligible caregivers by
    pool ('' for districts without a budget of their own). control_keys: keys of the control arm, read from the
    registry's own table rather than from the list; those of the listed caregivers suffice.
    All block publication but `budget_is_used`, which only warns. The list need not keep its contract: nulls fail
    the check they concern.
    """
    return (
        _keys_are_unique(call_list),
        _ranks_are_complete(call_list),
        _states_are_valid(call_list),
        _everyone_has_a_cluster(call_list),
        _indices_are_finite(call_list),
        _propensities_are_chances(call_list),
        _is_one_list(call_list, call_date),
        _budget_is_respected(call_list, options),
        _floors_are_kept(call_list, n_eligible, options),
        _nobody_is_in_control(call_list, control_keys),
        _cool_down_is_respected(call_list, options, call_date),
        _engagement_is_plausible(state_counts, options),
        _list_is_not_empty(call_list, n_eligible, options),
        _budget_is_used(call_list, n_eligible, options),
    )


def _outcome(
    name: str,
    is_passed: bool,
    expected: str,
    *,
    otherwise: str,
    is_blocking: bool = True,
    rows: pa.Table | None = None,
    **facts: Fact,
) -> CheckOutcome:
    description = expected if is_passed else f"{expected} {otherwise}"
    return CheckOutcome(name, is_passed, is_blocking, description, facts, None if is_passed else rows)


def _at_fault(rows: pa.Table, *columns: str) -> pa.Table | None:
    return first_at_fault(rows, ("rank", "caregiver_key", "district", *columns))


def _first(table: pa.Table, column: str = "caregiver_key") -> str:
    return f"{column}={table[column][0].as_py()}" if table.num_rows else "none"


def _failing(call_list: pa.Table, is_good: pa.ChunkedArray) -> pa.Table:
    """The rows for which a condition is false or unknown."""
    return call_list.filter(pc.invert(pc.fill_null(is_good, False)))


def _keys_are_unique(call_list: pa.Table) -> CheckOutcome:
    counts = call_list.group_by(["call_date", "caregiver_key"]).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))
    return _outcome(
        "keys_are_unique",
        repeated.num_rows == 0,
        "A caregiver is at most once on the list of a day.",
        otherwise=f"{repeated.num_rows} are listed more than once (first: {_first(repeated)}): look for repeated "
        "keys in caregiver_states and cluster_assignments.",
        rows=_at_fault(call_list.filter(pc.is_in(call_list["caregiver_key"], value_set=repeated["caregiver_key"]))),
        n_repeated=repeated.num_rows,
    )


def _ranks_are_complete(call_list: pa.Table) -> CheckOutcome:
    ranks = np.sort(call_list["rank"].drop_null().to_numpy())
    is_complete = np.array_equal(ranks, np.arange(1, call_list.num_rows + 1))
    return _outcome(
        "ranks_are_complete",
        is_complete,
        f"Ranks run from 1 to {call_list.num_rows}, each once.",
        otherwise=f"Found {len(np.unique(ranks))} different ranks from {ranks.min(initial=0)} to "
        f"{ranks.max(initial=0)}: make the list again.",
        rows=_at_fault(call_list.filter(_is_repeated_or_beyond(call_list["rank"]))),
        n_listed=call_list.num_rows,
        n_distinct_ranks=len(np.unique(ranks)),
    )


def _is_repeated_or_beyond(ranks: pa.ChunkedArray) -> pa.Array:
    """Which ranks occur more than once, lie outside 1 to their number, or are missing."""
    counted = Counter(ranks.to_pylist())
    return pa.array(
        [rank is None or counted[rank] > 1 or not 1 <= rank <= len(ranks) for rank in ranks.to_pylist()], pa.bool_()
    )


def _states_are_valid(call_list: pa.Table) -> CheckOutcome:
    invalid = _failing(call_list, pc.is_in(call_list["state"], value_set=pa.array(STATES)))
    return _outcome(
        "states_are_valid",
        invalid.num_rows == 0,
        f"Every state is one of {', '.join(STATES)}.",
        otherwise=f"{invalid.num_rows} rows have another (first: {_first(invalid)}): materialize caregiver_states "
        "again.",
        rows=_at_fault(invalid, "state"),
        n_invalid=invalid.num_rows,
    )


def _everyone_has_a_cluster(call_list: pa.Table) -> CheckOutcome:
    without = _failing(call_list, pc.greater_equal(call_list["cluster_id"], 0))
    return _outcome(
        "everyone_has_a_cluster",
        without.num_rows == 0,
        "Every listed caregiver has a cluster.",
        otherwise=f"{without.num_rows} have none (first: {_first(without)}): materialize cluster_assignments again.",
        rows=_at_fault(without, "cluster_id"),
        n_without_cluster=without.num_rows,
    )


def _indices_are_finite(call_list: pa.Table) -> CheckOutcome:
    columns = ("whittle_index", "index_low", "index_high", "own_index")
    finite = [pc.fill_null(pc.is_finite(call_list[name]), False) for name in columns]
    infinite = _failing(call_list, reduce(pc.and_, finite))
    return _outcome(
        "indices_are_finite",
        infinite.num_rows == 0,
        "Every index, her own included, and both ends of its interval are finite numbers.",
        otherwise=f"{infinite.num_rows} rows have one that is not (first: {_first(infinite)}): look at "
        "whittle_indices of the champion model.",
        rows=_at_fault(infinite, "cluster_id", "state", *columns),
        n_not_finite=infinite.num_rows,
    )


def _propensities_are_chances(call_list: pa.Table) -> CheckOutcome:
    propensity, p_top_k = call_list["propensity"], call_list["p_top_k"]
    is_propensity = pc.and_(pc.greater(propensity, 0), pc.less_equal(propensity, 1))
    is_chance = pc.and_(pc.greater_equal(p_top_k, 0), pc.less_equal(p_top_k, 1))
    invalid = _failing(call_list, pc.and_(is_propensity, is_chance))
    return _outcome(
        "propensities_are_chances",
        invalid.num_rows == 0,
        "Every propensity is above 0 and at most 1, every p_top_k between 0 and 1.",
        otherwise=f"{invalid.num_rows} are not (first: {_first(invalid)}); effects could not be estimated from this "
        "list: make it again.",
        rows=_at_fault(invalid, "propensity", "p_top_k"),
        n_invalid=invalid.num_rows,
    )


def _is_one_list(call_list: pa.Table, call_date: date) -> CheckOutcome:
    other_date = _failing(call_list, pc.equal(call_list["call_date"], pa.scalar(call_date, pa.date32())))
    versions = sorted(str(version) for version in pc.unique(call_list["model_version"]).to_pylist())
    return _outcome(
        "is_one_list",
        other_date.num_rows == 0 and len(versions) <= 1,
        f"All rows are for {call_date} and from one model version.",
        otherwise=f"{other_date.num_rows} rows are for another day and the model versions are {versions}: make the "
        "list again.",
        rows=_at_fault(other_date, "call_date", "model_version"),
        n_other_dates=other_date.num_rows,
        n_model_versions=len(versions),
        model_version=versions[0] if len(versions) == 1 else ", ".join(versions),
    )


def _listed_by_pool(call_list: pa.Table, options: ListOptions) -> dict[str, int]:
    own_pools = pa.array(list(options.district_budgets), pa.string())
    has_own = pc.is_in(call_list["district"], value_set=own_pools)
    counted = pc.value_counts(pc.if_else(has_own, call_list["district"], SHARED_POOL)).to_pylist()
    return {item["values"]: item["counts"] for item in counted}


def _pool_budgets(options: ListOptions) -> dict[str, int]:
    pools = budget_pools(options)
    return dict(zip(pools["pool"].to_pylist(), pools["budget"].to_pylist(), strict=True))


def _pool_name(pool: str) -> str:
    return pool or "other districts"


def _budget_is_respected(call_list: pa.Table, options: ListOptions) -> CheckOutcome:
    listed = _listed_by_pool(call_list, options)
    over = {pool: n for pool, n in _pool_budgets(options).items() if listed.get(pool, 0) > n}
    details = "; ".join(f"{_pool_name(pool)}: {listed[pool]} of {budget}" for pool, budget in over.items())
    return _outcome(
        "budget_is_respected",
        not over and call_list.num_rows <= options.budget,
        f"At most {options.budget} are listed, and in each district no more than its own budget.",
        otherwise=f"{call_list.num_rows} are listed ({details or 'districts within theirs'}): make the list again "
        "with the present budget.",
        n_listed=call_list.num_rows,
        budget=options.budget,
        n_pools_over=len(over),
    )


def _floors_are_kept(call_list: pa.Table, n_eligible: Mapping[str, int], options: ListOptions) -> CheckOutcome:
    counted = call_list.group_by("district").aggregate([([], "count_all")]).to_pylist()
    n_listed = {row["district"]: row["count_all"] for row in counted}
    # A district below its floor is a pool of its own, whose eligible caregivers are known.
    below = sorted(
        district
        for district, floor in options.district_floors.items()
        if n_listed.get(district, 0) < min(floor, n_eligible.get(district, floor))
    )
    details = "; ".join(f"{name}: {n_listed.get(name, 0)} of {options.district_floors[name]}" for name in below)
    return _outcome(
        "floors_are_kept",
        not below,
        "Every district has at least its floor, or all its eligible caregivers.",
        otherwise=f"{len(below)} have not ({details}): make the list again.",
        n_floors=len(options.district_floors),
        n_below=len(below),
    )


def _nobody_is_in_control(call_list: pa.Table, control_keys: Sequence[int] | np.ndarray | pa.Array) -> CheckOutcome:
    keys = control_keys if isinstance(control_keys, pa.Array | pa.ChunkedArray) else pa.array(control_keys, pa.int64())
    controls = call_list.filter(pc.is_in(call_list["caregiver_key"], value_set=keys))
    return _outcome(
        "nobody_is_in_control",
        controls.num_rows == 0,
        "Nobody on the list is in the experiment's control arm.",
        otherwise=f"{controls.num_rows} are (first: {_first(controls)}): calling them would spoil the experiment; "
        "materialize caregiver_states and the list again.",
        rows=_at_fault(controls, "ab_arm"),
        n_controls=controls.num_rows,
    )


def _cool_down_is_respected(call_list: pa.Table, options: ListOptions, call_date: date) -> CheckOutcome:
    first_blocking_date = pa.scalar(call_date - timedelta(days=options.cool_down_days), pa.date32())
    is_free = pc.fill_null(pc.less(call_list["last_call_date"], first_blocking_date), True)
    recent = _failing(call_list, is_free)
    return _outcome(
        "cool_down_is_respected",
        recent.num_rows == 0,
        f"No listed caregiver was called in the {options.cool_down_days} days before {call_date}.",
        otherwise=f"{recent.num_rows} were (first: {_first(recent)}): make the list again.",
        rows=_at_fault(recent, "last_call_date"),
        n_in_cool_down=recent.num_rows,
        cool_down_days=options.cool_down_days,
    )


def _engagement_is_plausible(state_counts: Mapping[str, int], options: ListOptions) -> CheckOutcome:
    n_active = sum(state_counts.values())
    share = state_counts.get(RESPONSIVE, 0) / n_active if n_active else 0.0
    return _outcome(
        "engagement_is_plausible",
        n_active > 0 and options.min_engagement <= share <= options.max_engagement,
        f"{share:.1%} of {n_active} active caregivers are responsive; between {options.min_engagement:.1%} and "
        f"{options.max_engagement:.1%} is expected.",
        otherwise="Events or caregivers may be missing or counted twice: look at the row counts of sms_events and "
        "caregivers of the last 7 days and materialize what is short; if the share is real, move min_engagement or "
        "max_engagement.",
        rows=pa.table({"state": list(state_counts), "n_caregivers": list(state_counts.values())}),
        engagement_share=share,
        n_active_caregivers=n_active,
        min_engagement=options.min_engagement,
        max_engagement=options.max_engagement,
    )


def _list_is_not_empty(call_list: pa.Table, n_eligible: Mapping[str, int], options: ListOptions) -> CheckOutcome:
    budgets = _pool_budgets(options)
    n_callable = sum(n for pool, n in n_eligible.items() if budgets.get(pool, 0) > 0)
    return _outcome(
        "list_is_not_empty",
        call_list.num_rows > 0 or n_callable == 0,
        "Somebody is on the list whenever there is a budget and somebody is eligible for it.",
        otherwise=f"The list is empty while {n_callable} are eligible: make it again.",
        n_listed=call_list.num_rows,
        n_eligible=sum(n_eligible.values()),
    )


def _budget_is_used(call_list: pa.Table, n_eligible: Mapping[str, int], options: ListOptions) -> CheckOutcome:
    listed = _listed_by_pool(call_list, options)
    short = {pool: n for pool, n in _pool_budgets(options).items() if listed.get(pool, 0) < n}
    details = "; ".join(
        f"{_pool_name(pool)}: {listed.get(pool, 0)} of {budget}, {n_eligible.get(pool, 0)} eligible"
        for pool, budget in short.items()
    )
    return _outcome(
        "budget_is_used",
        not short,
        "Every slot of the budget is filled.",
        otherwise=f"Slots stay empty ({details}): look at the eligibility funnel, or move budget between districts.",
        is_blocking=False,
        n_empty_slots=options.budget - call_list.num_rows,
        n_pools_short=len(short),
    )
