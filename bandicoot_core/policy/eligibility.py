"""Who may be called on a day, and for everyone else the first reason why not.

Pure table expressions over states that are already known. How a state comes about belongs to engagement; who of the
eligible gets a slot, to ranking.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import ibis
import pyarrow as pa

from bandicoot_core.contracts import ACTIVE_STATUS, ACTIVE_TUPLE, CONTROL_ARM, EXCLUSIONS, PASSIVE_TUPLE
from bandicoot_core.errors import InvalidInputError

OUTSIDE_DISTRICTS = "outside the districts of the list"
"""Why a caregiver is not considered at all when a list is limited to some districts."""

FUNNEL_STEPS = (
    "all caregivers",
    "status is active",
    "warm-up is over",
    "has a cluster",
    "not in the control arm",
    "cool-down is over",
    "eligible: no listed call waits for its outcome",
)
"""What the remaining caregivers have passed: everyone, then one step for each of EXCLUSIONS."""


def with_eligibility(
    states: ibis.Table,
    assignments: ibis.Table,
    pending: ibis.Table,
    *,
    call_date: date,
    cool_down_days: int,
) -> ibis.Table:
    """Every caregiver of `states` with her cluster, her counts and `excluded_by`, null when eligible.

    states: CAREGIVER_STATES at the end of the day before `call_date`. assignments: CLUSTER_ASSIGNMENTS.
    pending: caregiver_key of everyone who is on an earlier list of the last pending days and has no outcome yet;
    a key may occur more than once. The list of `call_date` itself must not be among those lists, or a repeated
    run would exclude the very caregivers it chose before.

    Criteria, in order (EXCLUSIONS):
    not active: the registry's status is not 'active'; warm-up: call_date < warm_up_end_date; no cluster: absent from
    `assignments`; control arm: ab_arm is 'control'; cool-down: a call attempted on day X blocks the days X + 1 to
    X + cool_down_days, both included (with 14 days, a call on the 1st blocks up to the 15th, and she may be called
    again on the 16th); waiting for outcome: her key is in `pending`.

    The cool-down can look no further back than `states` does: its lookback must be at least `cool_down_days`.
    """
    joined = _with_facts(states, assignments, pending)
    failures = _failures(joined, call_date, cool_down_days)
    excluded_by = ibis.cases(*zip(failures, EXCLUSIONS, strict=True), else_=ibis.null(str))
    return joined.mutate(excluded_by=excluded_by).drop("is_waiting")


def lives_in(states: ibis.Table, only_districts: Sequence[str]) -> ibis.Value:
    """Whether each caregiver lives where a list is limited to; never null.

    Without districts everybody does; with some, nobody whose district is unknown.
    """
    return states.district.isin(only_districts).fill_null(False) if only_districts else ibis.literal(True)


def explain_eligibility(
    states: ibis.Table,
    assignments: ibis.Table,
    pending: ibis.Table,
    *,
    caregiver_key: int,
    call_date: date,
    cool_down_days: int,
    only_districts: Sequence[str] = (),
) -> pa.Table:
    """What each criterion says of one caregiver; arguments as for with_eligibility, `states` of every district.

    Columns: criterion (OUTSIDE_DISTRICTS, then EXCLUSIONS in their order), rule, value (hers), limit (what the rule
    asks for), is_met. She may be called when all are met; the first that is not says why she may not.

    InvalidInputError when `states` has no such caregiver.
    """
    joined = _with_facts(states, assignments, pending)
    joined = joined.filter(joined.caregiver_key == caregiver_key)
    lives_elsewhere = lives_in(joined, only_districts) == ibis.literal(False)
    failures = (lives_elsewhere, *_failures(joined, call_date, cool_down_days))
    names = [f"is_failed_{position}" for position in range(len(failures))]
    found = joined.mutate(**dict(zip(names, failures, strict=True))).to_pyarrow().to_pylist()
    if not found:
        raise InvalidInputError(
            f"caregiver_states: no caregiver has the key {caregiver_key}; check the key and the day"
        )
    hers = found[0]
    by_rule = (
        (hers["district"], " or ".join(only_districts) or "every district"),
        (hers["status"], ACTIVE_STATUS),
        (hers["warm_up_end_date"], f"{call_date} or before"),
        (hers["cluster_id"], "any cluster"),
        (hers["ab_arm"], f"not {CONTROL_ARM}"),
        (hers["last_call_date"], f"before {_first_blocking_day(call_date, cool_down_days)}"),
        ("waits" if hers["is_waiting"] else "does not wait", "does not wait"),
    )
    return pa.table(
        {
            "criterion": [OUTSIDE_DISTRICTS, *EXCLUSIONS],
            "rule": ["lives in a district of the list", *(step.split(": ")[-1] for step in FUNNEL_STEPS[1:])],
            "value": ["none" if value is None else str(value) for value, _ in by_rule],
            "limit": [limit for _, limit in by_rule],
            # A criterion whose fact is unknown does not exclude, as in with_eligibility.
            "is_met": [hers[name] is not True for name in names],
        }
    )


def eligible_only(table: ibis.Table) -> ibis.Table:
    """The rows of with_eligibility's result that may be called."""
    return table.filter(table.excluded_by.isnull())


def eligibility_funnel(table: ibis.Table) -> ibis.Table:
    """How many caregivers remain after each criterion: columns position, step, n_caregivers, ordered by position.

    table: the result of with_eligibility. The first step counts everyone, the last the eligible; the difference
    between neighbours is what one criterion excludes.
    """
    steps = ibis.memtable(
        {"position": list(range(len(FUNNEL_STEPS))), "step": list(FUNNEL_STEPS)},
        schema=ibis.schema({"position": "int64", "step": "string"}),
    )
    passed = ibis.cases(
        *((table.excluded_by == exclusion, passed) for passed, exclusion in enumerate(EXCLUSIONS)),
        else_=len(EXCLUSIONS),
    )
    by_passed = table.select(n_passed=passed.cast("int64")).group_by("n_passed").agg(n=ibis._.count())
    return (
        steps.left_join(by_passed, by_passed.n_passed >= steps.position)
        .group_by("position", "step")
        .agg(n_caregivers=ibis._.n.sum().fill_null(0).cast("int64"))
        .order_by("position")
    )


def _with_facts(states: ibis.Table, assignments: ibis.Table, pending: ibis.Table) -> ibis.Table:
    """The states with cluster, counts and is_waiting, null for who does not wait."""
    clusters = assignments.select("caregiver_key", "cluster_id", "assigned_by", *PASSIVE_TUPLE, *ACTIVE_TUPLE)
    waiting = pending.select("caregiver_key").distinct().mutate(is_waiting=ibis.literal(True))
    return (
        states.left_join(clusters, "caregiver_key")
        .drop("caregiver_key_right")
        .left_join(waiting, "caregiver_key")
        .drop("caregiver_key_right")
    )


def _failures(joined: ibis.Table, call_date: date, cool_down_days: int) -> tuple[ibis.Value, ...]:
    """Whether each of EXCLUSIONS holds, in their order, for rows of _with_facts."""
    return (
        joined.status != ACTIVE_STATUS,
        joined.warm_up_end_date > ibis.literal(call_date),
        joined.cluster_id.isnull(),
        joined.ab_arm == CONTROL_ARM,
        joined.last_call_date >= ibis.literal(_first_blocking_day(call_date, cool_down_days)),
        joined.is_waiting.notnull(),
    )


def _first_blocking_day(call_date: date, cool_down_days: int) -> date:
    """The earliest day of a call that still keeps her off the list."""
    return call_date - timedelta(days=cool_down_days)
