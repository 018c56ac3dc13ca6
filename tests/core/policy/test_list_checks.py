from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pytest
from policy_tables import CALL_DATE, days_ago, table

from bandicoot_core.checks import CheckOutcome, blocking_failures
from bandicoot_core.contracts import CALL_LIST
from bandicoot_core.policy.checks import list_checks
from bandicoot_core.settings import ListOptions

ROW = {
    "call_date": CALL_DATE,
    "district": "Wardha",
    "state": "U",
    "cluster_id": 0,
    "whittle_index": 0.5,
    "index_low": 0.4,
    "index_high": 0.6,
    "reason": "Unresponsive for 12 days",
    "days_since_last_open": 12,
    "last_call_date": None,
    "ab_arm": "treatment",
    "propensity": 1.0,
    "model_version": "m-1",
    "own_index": 0.7,
    "p_top_k": 0.25,
}


def call_list(*changes: Mapping[str, Any]) -> pa.Table:
    """Three good rows, changed in what each says; nulls are let through."""
    rows = [{"caregiver_key": n, "rank": n, **change} for n, change in enumerate(changes or ({}, {}, {}), start=1)]
    return table(CALL_LIST, ROW, rows)


def outcomes(listed: pa.Table, **changes: Any) -> dict[str, CheckOutcome]:
    arguments: dict[str, Any] = {
        "state_counts": {"U": 600, "R": 400},
        "n_eligible": {"": 500},
        "control_keys": [901, 902],
        "options": ListOptions(budget=3),
        "call_date": CALL_DATE,
        **changes,
    }
    return {outcome.name: outcome for outcome in list_checks(listed, **arguments)}


def failed(listed: pa.Table, **changes: Any) -> list[str]:
    return [name for name, outcome in outcomes(listed, **changes).items() if not outcome.is_passed]


def test_a_failed_check_carries_the_first_ten_rows_at_fault():
    many = call_list(*({"state": "X"} for _ in range(12)), {})
    at_fault = outcomes(many)["states_are_valid"].rows
    assert at_fault is not None
    assert at_fault.column_names == ["rank", "caregiver_key", "district", "state"]
    assert at_fault["caregiver_key"].to_pylist() == list(range(1, 11))
    listed_twice = outcomes(call_list({"caregiver_key": 5}, {"caregiver_key": 5}, {}))["keys_are_unique"].rows
    assert listed_twice is not None
    assert listed_twice["rank"].to_pylist() == [1, 2]
    ranked_twice = outcomes(call_list({"rank": 2}, {}, {"rank": 7}))["ranks_are_complete"].rows
    assert ranked_twice is not None
    assert ranked_twice["caregiver_key"].to_pylist() == [1, 2, 3]


def test_a_check_that_passes_carries_no_rows():
    assert [name for name, outcome in outcomes(call_list()).items() if outcome.rows is not None] == []


def test_a_good_list_passes_everything():
    assert failed(call_list()) == []
    assert blocking_failures(tuple(outcomes(call_list()).values())) == ()


@pytest.mark.parametrize(
    ("changes", "check"),
    [
        ([{}, {"caregiver_key": 1}, {}], "keys_are_unique"),
        ([{}, {"rank": 1}, {}], "ranks_are_complete"),
        ([{}, {"rank": 4}, {}], "ranks_are_complete"),
        ([{}, {"rank": None}, {}], "ranks_are_complete"),
        ([{}, {"state": "S"}, {}], "states_are_valid"),
        ([{}, {"state": None}, {}], "states_are_valid"),
        ([{}, {"cluster_id": None}, {}], "everyone_has_a_cluster"),
        ([{}, {"whittle_index": float("nan")}, {}], "indices_are_finite"),
        ([{}, {"index_low": float("-inf")}, {}], "indices_are_finite"),
        ([{}, {"index_high": None}, {}], "indices_are_finite"),
        ([{}, {"propensity": 0.0}, {}], "propensities_are_chances"),
        ([{}, {"propensity": 1.01}, {}], "propensities_are_chances"),
        ([{}, {"propensity": float("nan")}, {}], "propensities_are_chances"),
        ([{}, {"own_index": float("inf")}, {}], "indices_are_finite"),
        ([{}, {"p_top_k": 1.01}, {}], "propensities_are_chances"),
        ([{}, {"p_top_k": None}, {}], "propensities_are_chances"),
        ([{}, {"model_version": "m-2"}, {}], "is_one_list"),
        ([{}, {"call_date": days_ago(1)}, {}], "is_one_list"),
        ([{}, {"caregiver_key": 902}, {}], "nobody_is_in_control"),
        ([{}, {"last_call_date": days_ago(14)}, {}], "cool_down_is_respected"),
        ([{}, {}, {}, {}], "budget_is_respected"),
    ],
)
def test_each_fault_fails_its_check_alone_and_blocks(changes, check):
    listed = call_list(*changes)
    assert failed(listed) == [check]
    assert [outcome.name for outcome in blocking_failures(tuple(outcomes(listed).values()))] == [check]


def test_a_call_just_before_the_cool_down_is_allowed():
    assert failed(call_list({}, {"last_call_date": days_ago(15)}, {})) == []


def test_each_district_keeps_to_its_own_budget():
    options = ListOptions(budget=3, district_budgets={"Pune": 1})
    assert failed(call_list({"district": "Pune"}, {}, {"district": None}), options=options) == []
    too_many = outcomes(call_list({"district": "Pune"}, {}, {"district": "Pune"}), options=options)
    assert not too_many["budget_is_respected"].is_passed
    assert "Pune: 2 of 1" in too_many["budget_is_respected"].description
    others = outcomes(call_list({}, {}, {}), options=options)
    assert "other districts: 3 of 2" in others["budget_is_respected"].description


@pytest.mark.parametrize(
    ("n_responsive", "is_passed"), [(49, False), (50, True), (500, True), (950, True), (951, False), (0, False)]
)
def test_the_share_of_responsive_caregivers_must_be_plausible(n_responsive, is_passed):
    state_counts = {"U": 1000 - n_responsive, "R": n_responsive}
    outcome = outcomes(call_list(), state_counts=state_counts)["engagement_is_plausible"]
    assert outcome.is_passed is is_passed
    assert outcome.is_blocking
    assert outcome.facts["engagement_share"] == n_responsive / 1000
    assert f"{n_responsive / 1000:.1%} of 1000 active caregivers" in outcome.description
    assert ("sms_events" in outcome.description) is not is_passed


def test_a_programme_without_active_caregivers_is_not_plausible():
    options = ListOptions(budget=3, min_engagement=0)
    assert failed(call_list(), state_counts={"U": 0, "R": 0}, options=options) == ["engagement_is_plausible"]


def test_an_empty_list_is_refused_only_when_somebody_could_be_called():
    empty = CALL_LIST.empty()
    outcome = outcomes(empty)["list_is_not_empty"]
    assert (outcome.is_passed, outcome.is_blocking) == (False, True)
    assert failed(empty, options=ListOptions(budget=0)) == []
    assert failed(empty, n_eligible={"": 0}) == ["budget_is_used"]
    nowhere_to_call = ListOptions(budget=3, district_budgets={"Pune": 3})
    assert failed(empty, options=nowhere_to_call, n_eligible={"": 9, "Pune": 0}) == ["budget_is_used"]


def test_unused_budget_warns_without_blocking():
    outcome = outcomes(call_list(), options=ListOptions(budget=5), n_eligible={"": 3})["budget_is_used"]
    assert (outcome.is_passed, outcome.is_blocking) == (False, False)
    assert outcome.facts["n_empty_slots"] == 2
    assert "other districts: 3 of 5, 3 eligible" in outcome.description


def test_a_failure_names_a_row_and_what_to_do():
    outcome = outcomes(call_list({}, {"caregiver_key": 902}, {}))["nobody_is_in_control"]
    assert outcome.facts == {"n_controls": 1}
    assert "caregiver_key=902" in outcome.description
    assert "materialize caregiver_states" in outcome.description
