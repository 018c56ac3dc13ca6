from dataclasses import replace

import policy_tables as given
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend
from policy_tables import CALL_DATE, LOOKBACK_DAYS, days_ago, public_id

from bandicoot_core.errors import InvalidInputError, InvalidSettingError
from bandicoot_core.policy.call_list import DrawnList, ListInputs, draw_call_list, explain
from bandicoot_core.policy.checks import list_checks
from bandicoot_core.policy.eligibility import with_eligibility
from bandicoot_core.settings import ListOptions

STATES = given.states(
    {"caregiver_key": 1},
    {"caregiver_key": 2, "state": "R", "days_since_last_open": 2},
    {"caregiver_key": 3, "status": "moved"},
    {"caregiver_key": 4, "district": "Nashik"},
    {"caregiver_key": 5, "ab_arm": "control"},
    {"caregiver_key": 6, "last_call_date": days_ago(20)},
    {"caregiver_key": 7},
    {"caregiver_key": 8, "state": "R", "days_since_last_open": 3},
)
ASSIGNMENTS = given.assignments(*({"caregiver_key": key} for key in range(1, 9)))
INDICES = given.indices({(0, "U"): 0.5, (0, "R"): 0.2})
TUPLE_INDICES = given.tuple_indices({(0, 0, "U"): 0.4, (0, 0, "R"): 0.3})


@pytest.fixture
def inputs(engine: Backend) -> ListInputs:
    return ListInputs(
        states=engine.create_table("states", STATES),
        assignments=engine.create_table("assignments", ASSIGNMENTS),
        pending=engine.create_table("pending", given.pending(7)),
        indices=engine.create_table("indices", INDICES),
        tuple_indices=engine.create_table("tuple_indices", TUPLE_INDICES),
        index_posterior=given.index_posterior(),
    )


def tie_hash(key: int) -> str:
    return given.md5(f"{public_id(key)}|2026-11-20")


def drawn(inputs: ListInputs, options: ListOptions) -> DrawnList:
    return draw_call_list(
        inputs,
        lambda keys: {key: public_id(key) for key in keys.to_pylist()},
        call_date=CALL_DATE,
        options=options,
        model_version="m-1",
        lookback_days=LOOKBACK_DAYS,
    )


def test_a_list_is_drawn_from_end_to_end(inputs):
    options = ListOptions(budget=4, district_budgets={"Nashik": 1}, exploration_share=0)
    result = drawn(inputs, options)
    first_two = sorted([1, 4], key=tie_hash)
    assert result.call_list["caregiver_key"].to_pylist() == [*first_two, 6, min(2, 8, key=tie_hash)]
    assert result.call_list["reason"][0].as_py() == (
        "Unresponsive for 12 days; a call lifts the chance of an open next week from 12% to 38% for families like this"
    )
    assert result.funnel["n_caregivers"].to_pylist() == [8, 7, 7, 7, 6, 6, 5]
    assert result.state_counts == {"U": 5, "R": 2}
    assert result.n_eligible == {"": 4, "Nashik": 1}
    assert result.n_candidates == 5


def test_each_level_of_the_index_tells_its_own_chance_to_be_among_the_top(inputs):
    # Four of the five eligible get a slot: the four in U, whose index is higher beyond doubt, against one in R.
    sure = replace(inputs, index_posterior=given.index_posterior(n_effective=1e6))
    for index_level in ("caregiver", "cluster"):
        listed = drawn(sure, ListOptions(budget=4, exploration_share=0, index_level=index_level)).call_list
        by_state = dict(zip(listed["state"].to_pylist(), listed["p_top_k"].to_pylist(), strict=True))
        n_u = 3  # caregivers 1, 4 and 6; 2 and 8 are in R
        assert by_state["U"] == pytest.approx(1.0)
        assert by_state["R"] == pytest.approx((4 - n_u) / 2)


def test_a_drawn_list_passes_its_checks(inputs):
    options = ListOptions(budget=3, district_budgets={"Nashik": 1}, exploration_share=0.5)
    result = drawn(inputs, options)
    outcomes = list_checks(
        result.call_list,
        state_counts=result.state_counts,
        n_eligible=result.n_eligible,
        control_keys=[5],
        options=options,
        call_date=CALL_DATE,
    )
    assert [outcome.name for outcome in outcomes if not outcome.is_passed] == []


def test_public_ids_are_asked_for_candidates_only(inputs):
    asked: list[int] = []

    def look_up(keys: pa.Array) -> pa.Table:
        asked.extend(keys.to_pylist())
        return pa.table({"caregiver_key": keys, "caregiver_id": [public_id(key) for key in keys.to_pylist()]})

    options = ListOptions(budget=1, exploration_share=0)
    draw_call_list(
        inputs, look_up, call_date=CALL_DATE, options=options, model_version="m-1", lookback_days=LOOKBACK_DAYS
    )
    assert sorted(asked) == [1, 4]


def test_a_district_without_caregivers_is_refused(inputs):
    with pytest.raises(InvalidSettingError, match="'Puna', where no caregiver lives; known districts are Nashik, Pune"):
        drawn(inputs, ListOptions(budget=4, district_budgets={"Puna": 1}))


def test_a_cool_down_beyond_the_lookback_is_refused(inputs):
    with pytest.raises(InvalidSettingError, match="cool_down_days is 85, but calls are known for 84 days only"):
        drawn(inputs, ListOptions(cool_down_days=85))


def test_nothing_is_left_behind_in_the_engine_even_after_a_refusal(engine, inputs):
    drawn(inputs, ListOptions(budget=3))
    with pytest.raises(InvalidSettingError) as refusal:
        drawn(inputs, ListOptions(budget=3, district_budgets={"Puna": 1}))
    assert refusal.tb is not None  # the frames of the refused draw are still alive
    assert [name for name in engine.list_tables() if "cached" in name] == []


def explained(inputs: ListInputs, caregiver_key: int, options: ListOptions) -> dict[str, object]:
    eligibility = with_eligibility(
        inputs.states, inputs.assignments, inputs.pending, call_date=CALL_DATE, cool_down_days=options.cool_down_days
    )
    table = explain(eligibility, inputs.indices, inputs.tuple_indices, caregiver_key=caregiver_key, options=options)
    assert table.num_rows == 1
    return dict(table.to_pylist()[0])


def test_an_excluded_caregiver_is_told_the_first_reason(inputs):
    row = explained(inputs, 5, ListOptions(budget=3))
    assert row["standing"] == "excluded: control arm"
    assert row["excluded_by"] == "control arm"
    assert row["propensity"] == 0
    assert row["n_ahead"] is None


def test_an_eligible_caregiver_is_told_where_she_stands(inputs):
    options = ListOptions(budget=2, exploration_share=0.5)  # one slot by order, one drawn
    tied = explained(inputs, 1, options)
    assert tied["standing"] == ("tied: 2 caregivers are equal for the last slot; then the draw of 1 among the other 4")
    assert tied["propensity"] == 0.5 + 0.5 * 0.25
    behind = explained(inputs, 6, options)
    assert behind["standing"] == (
        "behind: 2 of 5 are ahead for 1 slot; only the draw of 1 among the other 4 can list her"
    )
    assert (behind["n_ahead"], behind["n_tied"], behind["propensity"]) == (2, 1, 0.25)
    assert behind["last_call_date"] == days_ago(20)
    certain = explained(inputs, 6, ListOptions(budget=3, exploration_share=0))
    assert certain["standing"] == "on the list: at most 2 of 5 are ahead for 3 slots"
    assert certain["propensity"] == 1


def test_a_caregiver_competes_in_the_pool_of_her_district(inputs):
    row = explained(inputs, 4, ListOptions(budget=3, district_budgets={"Nashik": 1}, exploration_share=0))
    assert (row["pool"], row["n_eligible"], row["n_exploit"], row["propensity"]) == ("Nashik", 1, 1, 1)


def test_propensities_told_and_listed_agree(inputs):
    options = ListOptions(budget=3, exploration_share=1 / 3)
    listed = drawn(inputs, options).call_list
    for key, propensity in zip(listed["caregiver_key"].to_pylist(), listed["propensity"].to_pylist(), strict=True):
        assert explained(inputs, key, options)["propensity"] == propensity


def test_an_unknown_caregiver_cannot_be_explained(inputs):
    with pytest.raises(InvalidInputError, match="no caregiver has the key 99"):
        explained(inputs, 99, ListOptions(budget=3))


@pytest.mark.parametrize("index_level", ["caregiver", "cluster"])
def test_a_floor_reserves_a_slot_for_a_district_that_would_get_none(inputs, index_level):
    options = ListOptions(budget=2, exploration_share=0, index_level=index_level, district_floors={"Nashik": 1})
    states = inputs.states.mutate(state=(inputs.states.caregiver_key == 4).ifelse("R", inputs.states.state))
    with_floor = drawn(replace(inputs, states=states), options)
    assert with_floor.call_list["caregiver_key"].to_pylist() == [1, 4]
    assert with_floor.options.district_budgets == {"Nashik": 1}
    assert with_floor.n_eligible == {"": 4, "Nashik": 1}
    assert with_floor.floor_price == pytest.approx(0.4 - 0.3)
    without = drawn(replace(inputs, states=states), options.model_copy(update={"district_floors": {}}))
    assert without.call_list["caregiver_key"].to_pylist() == [1, 6]
    outcomes = {
        name: next(
            outcome.is_passed
            for outcome in list_checks(
                made.call_list,
                state_counts=made.state_counts,
                n_eligible=made.n_eligible,
                control_keys=[5],
                options=options,
                call_date=CALL_DATE,
            )
            if outcome.name == "floors_are_kept"
        )
        for name, made in (("with floor", with_floor), ("without", without))
    }
    assert outcomes == {"with floor": True, "without": False}


def test_a_floor_of_an_unknown_district_is_refused(inputs):
    with pytest.raises(InvalidSettingError, match=r"Atlantis.*Nashik"):
        drawn(inputs, ListOptions(budget=2, district_floors={"Atlantis": 1}))
