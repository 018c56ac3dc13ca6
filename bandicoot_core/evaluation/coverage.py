"""Whom the calls reach, by district, parity and age band: how many were called, what a call is worth, who waits.

One table expression over the registry, the states of a day, its calls and the champion's indices; engine-neutral. What
a district is guaranteed, and what that costs, belongs to policy.
"""

from collections.abc import Sequence
from datetime import date, timedelta

import ibis

from bandicoot_core.calendar import end_of_day, start_of_day
from bandicoot_core.contracts import ACTIVE_STATUS, CONTROL_ARM, COVERAGE_DIMENSIONS, RESPONSIVE

UNKNOWN_GROUP = "(unknown)"
_AGE_BANDS = ((20, "19 and under"), (25, "20 to 24"), (30, "25 to 29"), (35, "30 to 34"))
_OLDEST_BAND = "35 and over"
_LARGEST_PARITY = 4


def coverage(
    states: ibis.Table,
    caregivers: ibis.Table,
    calls: ibis.Table,
    assignments: ibis.Table,
    indices: ibis.Table,
    *,
    day: date,
    window_days: int,
    lookback_days: int,
) -> ibis.Table:
    """Coverage of each group at the end of an Asia/Kolkata day [COVERAGE].

    Counted are caregivers whom a call could have reached: active status, warm-up over on `day`, not in the control arm.

    Parameters
    ----------
    states, caregivers : CAREGIVER_STATES and CAREGIVERS
        Of `day`.
    calls : CALLS
        At least those attempted on the `window_days` days that end with `day`; others are left out.
    assignments, indices : CLUSTER_ASSIGNMENTS and WHITTLE_INDICES
        Of one model. A caregiver without a cluster has no index and does not count in its quantiles.
    day : date
    window_days : int
        Days in which calls are counted.
    lookback_days : int
        Days that `states` looks back for the last call: a longer wait is known only to be at least as long.

    Returns
    -------
    table of COVERAGE
        One row a group, and the dimension 'all' with the one group 'everyone'. Quantiles are exact and interpolate
        linearly between neighbours where the engine has exact ones.

    Raises
    ------
    ValueError
        When a number of days is below 1.
    """
    if window_days < 1 or lookback_days < 1:
        raise ValueError(f"window_days is {window_days}, lookback_days is {lookback_days}; both must be 1 or more")
    reachable = _reachable(states, caregivers, day, lookback_days)
    called = _calls_of(calls, day, window_days)
    clusters = assignments.select("caregiver_key", "cluster_id")
    worth = indices.select("cluster_id", "state", "whittle_index")
    known = (
        reachable.left_join(called, "caregiver_key")
        .drop("caregiver_key_right")
        .left_join(clusters, "caregiver_key")
        .drop("caregiver_key_right")
        .left_join(worth, ["cluster_id", "state"], rname="worth_{name}")
    )
    known = known.mutate(n_calls=known.n_calls.fill_null(0))
    by_dimension = [_by_group(known, dimension) for dimension in COVERAGE_DIMENSIONS]
    return ibis.union(*by_dimension).order_by("dimension", "group")


def age_band(age: ibis.Value) -> ibis.Value:
    """The band of an age in years, '(unknown)' for null."""
    bands = [(age < limit, name) for limit, name in _AGE_BANDS]
    return ibis.cases((age.isnull(), UNKNOWN_GROUP), *bands, else_=_OLDEST_BAND)


def parity_band(parity: ibis.Value) -> ibis.Value:
    """Children born as a text, the last one '4 or more', '(unknown)' for null."""
    return ibis.cases(
        (parity.isnull(), UNKNOWN_GROUP),
        (parity >= _LARGEST_PARITY, f"{_LARGEST_PARITY} or more"),
        else_=parity.cast("string"),
    )


def _reachable(states: ibis.Table, caregivers: ibis.Table, day: date, lookback_days: int) -> ibis.Table:
    """caregiver_key, state, the groups she is in, days waited, and whether no call of hers is known."""
    features = caregivers.select("caregiver_key", "age", "parity")
    joined = states.inner_join(features, "caregiver_key", rname="registry_{name}")
    reachable = joined.filter(
        joined.status == ACTIVE_STATUS,
        joined.warm_up_end_date <= ibis.literal(day),
        joined.ab_arm != CONTROL_ARM,
    )
    earliest = ibis.literal(day - timedelta(days=lookback_days))
    free_since = ibis.greatest(reachable.warm_up_end_date, earliest)
    waiting_since = reachable.last_call_date.coalesce(free_since)
    return reachable.select(
        "caregiver_key",
        "state",
        all=ibis.literal("everyone"),
        district=reachable.district.fill_null(UNKNOWN_GROUP),
        parity=parity_band(reachable.parity),
        age_band=age_band(reachable.age),
        wait_days=ibis.literal(day).delta(waiting_since, unit="day"),
        is_never_called=reachable.last_call_date.isnull(),
    )


def _calls_of(calls: ibis.Table, day: date, window_days: int) -> ibis.Table:
    start, end = start_of_day(day - timedelta(days=window_days - 1)), end_of_day(day)
    attempted = calls.filter(calls.attempted_at >= start, calls.attempted_at < end)
    return attempted.group_by("caregiver_key").agg(n_calls=attempted.count())


def _by_group(known: ibis.Table, dimension: str) -> ibis.Table:
    column = dimension.replace(" ", "_")
    grouped = known.group_by(group=known[column]).agg(
        n_caregivers=known.count(),
        n_responsive=known.count(where=known.state == RESPONSIVE),
        n_called=known.count(where=known.n_calls > 0),
        n_calls=known.n_calls.sum().cast("int64"),
        index_p10=known.whittle_index.quantile(0.1),
        index_p50=known.whittle_index.quantile(0.5),
        index_p90=known.whittle_index.quantile(0.9),
        longest_wait_days=known.wait_days.max().cast("int64"),
        n_waiting_longest=known.count(where=known.is_never_called),
    )
    everyone = ibis.window()
    return grouped.select(
        "group",
        *_COUNTED,
        dimension=ibis.literal(dimension),
        share_called=grouped.n_called / grouped.n_caregivers,
        share_of_calls=grouped.n_calls / ibis.greatest(grouped.n_calls.sum().over(everyone), 1),
        share_of_caregivers=grouped.n_caregivers / grouped.n_caregivers.sum().over(everyone),
    ).select(*_ORDER)


_COUNTED: Sequence[str] = (
    "n_caregivers",
    "n_responsive",
    "n_called",
    "n_calls",
    "index_p10",
    "index_p50",
    "index_p90",
    "longest_wait_days",
    "n_waiting_longest",
)
_ORDER: Sequence[str] = ("dimension", "group", *_COUNTED, "share_called", "share_of_calls", "share_of_caregivers")
