"""Who may be called on a day, and for everyone else the first reason why not.

Pure table expressions over states that are already known. How a state comes about belongs to engagement; who of the
eligible gets a slot, to ranking.
"""

from datetime import date, timedelta

import ibis

from bandicoot_core.contracts import ACTIVE_STATUS, ACTIVE_TUPLE, CONTROL_ARM, PASSIVE_TUPLE

NOT_ACTIVE = "not active"
IN_WARM_UP = "warm-up"
WITHOUT_CLUSTER = "no cluster"
IN_CONTROL_ARM = "control arm"
IN_COOL_DOWN = "cool-down"
AWAITING_OUTCOME = "waiting for outcome"

EXCLUSIONS = (NOT_ACTIVE, IN_WARM_UP, WITHOUT_CLUSTER, IN_CONTROL_ARM, IN_COOL_DOWN, AWAITING_OUTCOME)
"""The criteria in the order in which they are applied; `excluded_by` names the first that fails."""

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
    clusters = assignments.select("caregiver_key", "cluster_id", "assigned_by", *PASSIVE_TUPLE, *ACTIVE_TUPLE)
    waiting = pending.select("caregiver_key").distinct().mutate(is_waiting=ibis.literal(True))
    joined = (
        states.left_join(clusters, "caregiver_key")
        .drop("caregiver_key_right")
        .left_join(waiting, "caregiver_key")
        .drop("caregiver_key_right")
    )
    first_free_call_date = call_date - timedelta(days=cool_down_days)
    excluded_by = ibis.cases(
        (joined.status != ACTIVE_STATUS, NOT_ACTIVE),
        (joined.warm_up_end_date > ibis.literal(call_date), IN_WARM_UP),
        (joined.cluster_id.isnull(), WITHOUT_CLUSTER),
        (joined.ab_arm == CONTROL_ARM, IN_CONTROL_ARM),
        (joined.last_call_date >= ibis.literal(first_free_call_date), IN_COOL_DOWN),
        (joined.is_waiting.notnull(), AWAITING_OUTCOME),
        else_=ibis.null(str),
    )
    return joined.mutate(excluded_by=excluded_by).drop("is_waiting")


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
