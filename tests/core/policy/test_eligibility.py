import ibis
import policy_tables as given
import pytest
from ibis.backends.duckdb import Backend
from policy_tables import CALL_DATE, days_ago

from bandicoot_core.policy.eligibility import (
    OUTSIDE_DISTRICTS,
    eligibility_funnel,
    eligible_only,
    explain_eligibility,
    with_eligibility,
)


def judged(states, assignments, pending, *, cool_down_days: int = 14) -> ibis.Table:
    return with_eligibility(
        ibis.memtable(states),
        ibis.memtable(assignments),
        ibis.memtable(pending),
        call_date=CALL_DATE,
        cool_down_days=cool_down_days,
    )


def reason_by_key(engine: Backend, table: ibis.Table) -> dict[int, str | None]:
    rows = engine.to_pyarrow(table)
    return dict(zip(rows["caregiver_key"].to_pylist(), rows["excluded_by"].to_pylist(), strict=True))


EVERY_CASE = given.states(
    {"caregiver_key": 1},
    {"caregiver_key": 2, "status": "moved"},
    {"caregiver_key": 3, "warm_up_end_date": days_ago(-1)},
    {"caregiver_key": 4},
    {"caregiver_key": 5, "ab_arm": "control"},
    {"caregiver_key": 6, "last_call_date": days_ago(3)},
    {"caregiver_key": 7},
    {"caregiver_key": 8, "warm_up_end_date": CALL_DATE},
)
ALL_BUT_4 = given.assignments(*({"caregiver_key": key} for key in (1, 2, 3, 5, 6, 7, 8)))


def test_each_criterion_excludes_and_is_named(engine):
    assert reason_by_key(engine, judged(EVERY_CASE, ALL_BUT_4, given.pending(7))) == {
        1: None,
        2: "not active",
        3: "warm-up",
        4: "no cluster",
        5: "control arm",
        6: "cool-down",
        7: "waiting for outcome",
        8: None,  # the warm-up's end is the first day on which she may be called
    }


def test_only_the_first_failing_criterion_is_named(engine):
    fails = [
        {"status": "moved"},
        {"warm_up_end_date": days_ago(-1)},
        {},
        {"ab_arm": "control"},
        {"last_call_date": days_ago(3)},
        {},
    ]
    # Caregiver k passes the criteria before the k-th and fails all from there on.
    rows = [{"caregiver_key": k + 1} | {c: v for fail in fails[k:] for c, v in fail.items()} for k in range(6)]
    with_cluster = given.assignments({"caregiver_key": 4}, {"caregiver_key": 5}, {"caregiver_key": 6})
    reasons = reason_by_key(engine, judged(given.states(*rows), with_cluster, given.pending(*range(1, 7))))
    assert [reasons[key] for key in range(1, 7)] == [
        "not active",
        "warm-up",
        "no cluster",
        "control arm",
        "cool-down",
        "waiting for outcome",
    ]


@pytest.mark.parametrize(
    ("n_days_since_call", "cool_down_days", "is_blocked"),
    [(1, 14, True), (14, 14, True), (15, 14, False), (1, 1, True), (2, 1, False), (1, 0, False)],
)
def test_a_call_blocks_exactly_the_days_of_the_cool_down(engine, n_days_since_call, cool_down_days, is_blocked):
    called = given.states({"caregiver_key": 1, "last_call_date": days_ago(n_days_since_call)})
    table = judged(called, ALL_BUT_4, given.pending(), cool_down_days=cool_down_days)
    assert reason_by_key(engine, table) == {1: "cool-down" if is_blocked else None}


def test_a_caregiver_on_several_pending_lists_stays_one_row(engine):
    rows = engine.to_pyarrow(judged(EVERY_CASE, ALL_BUT_4, given.pending(7, 7, 7, 99)))
    assert sorted(rows["caregiver_key"].to_pylist()) == list(range(1, 9))


def test_cluster_and_counts_come_with_the_states(engine):
    counts = {name: number for number, name in enumerate(given.NO_WEEKS, start=5)}
    assignments = given.assignments({"caregiver_key": 1, "cluster_id": 4, "assigned_by": "features", **counts})
    states = given.states({"caregiver_key": 1, "district": None}, {"caregiver_key": 2})
    rows = engine.to_pyarrow(judged(states, assignments, given.pending()).order_by("caregiver_key"))
    columns = ["caregiver_key", "district", "cluster_id", "assigned_by", *counts]
    assert rows.column_names == [*states.column_names, *columns[2:], "excluded_by"]
    assert [list(row.values()) for row in rows.select(columns).to_pylist()] == [
        [1, None, 4, "features", 5, 6, 7, 8, 9, 10, 11, 12],
        [2, "Pune", *[None] * 10],
    ]


def test_eligible_only_keeps_whom_nothing_excludes(engine):
    rows = engine.to_pyarrow(eligible_only(judged(EVERY_CASE, ALL_BUT_4, given.pending(7))))
    assert sorted(rows["caregiver_key"].to_pylist()) == [1, 8]


def test_the_funnel_counts_who_remains_after_each_criterion(engine):
    funnel = engine.to_pyarrow(eligibility_funnel(judged(EVERY_CASE, ALL_BUT_4, given.pending(7))))
    assert funnel.column_names == ["position", "step", "n_caregivers"]
    assert list(zip(funnel["step"].to_pylist(), funnel["n_caregivers"].to_pylist(), strict=True)) == [
        ("all caregivers", 8),
        ("status is active", 7),
        ("warm-up is over", 6),
        ("has a cluster", 5),
        ("not in the control arm", 4),
        ("cool-down is over", 3),
        ("eligible: no listed call waits for its outcome", 2),
    ]


def test_the_funnel_of_nobody_is_all_zeros(engine):
    funnel = engine.to_pyarrow(eligibility_funnel(judged(EVERY_CASE.slice(0, 0), ALL_BUT_4, given.pending())))
    assert funnel["n_caregivers"].to_pylist() == [0] * 7
    assert funnel["position"].to_pylist() == list(range(7))


@pytest.mark.parametrize(
    ("district", "only_districts", "is_met"),
    [("Patna", ("Patna",), True), ("Gaya", ("Patna",), False), (None, ("Patna",), False), (None, (), True)],
)
def test_a_list_of_some_districts_leaves_out_who_lives_elsewhere_or_nobody_knows_where(
    engine: Backend, district: str | None, only_districts: tuple[str, ...], is_met: bool
) -> None:
    rules = explain_eligibility(
        engine.create_table("their_states", given.states({"caregiver_key": 1, "district": district}), temp=True),
        engine.create_table("their_clusters", given.assignments({"caregiver_key": 1}), temp=True),
        engine.create_table("who_waits", given.pending(), temp=True),
        caregiver_key=1,
        call_date=CALL_DATE,
        cool_down_days=14,
        only_districts=only_districts,
    ).to_pylist()

    assert [rule["is_met"] for rule in rules if rule["criterion"] == OUTSIDE_DISTRICTS] == [is_met]
