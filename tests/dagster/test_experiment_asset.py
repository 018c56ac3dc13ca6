"""The experiment report as an asset, on a small programme with lists whose next week is known."""

from datetime import date, timedelta

import dagster as dg
import pandas as pd
import pytest

from bandicoot_core.contracts import (
    CALL_LIST,
    CAREGIVER_STATES,
    CLUSTER_ASSIGNMENTS,
    ENGAGEMENT_HISTORY,
    EXPERIMENT_EFFECTS,
    EXPERIMENT_WEEKS,
    OFF_POLICY_ESTIMATORS,
    OFF_POLICY_VALUES,
    WHITTLE_INDICES,
)
from bandicoot_core.evaluation.listed_policies import POLICIES
from bandicoot_dagster.assets.experiment import experiment_report
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.resources import build_resources
from tests.small_programme import Programme

WEEK = date(2026, 11, 8)
LISTS = (date(2026, 11, 4), date(2026, 11, 6))


@pytest.fixture(scope="module")
def report(programme: Programme) -> dg.ExecuteInProcessResult:
    """The run that made the report of WEEK, after two lists of the week before."""
    for call_date in LISTS:
        programme.catch_up(call_date, budget=60, exploration_share=0.5)
    stores = programme.installation
    with open_instance(stores) as instance:
        return dg.materialize(
            [experiment_report],
            instance=instance,
            partition_key=WEEK.isoformat(),
            resources=build_resources(stores.settings, programme.clock),
        )


def test_the_report_shows_its_charts_and_tables(report: dg.ExecuteInProcessResult) -> None:
    (event,) = report.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    for chart in ("effects_with_intervals", "effect_over_weeks", "balance_of_the_arms", "values_of_other_policies"):
        assert "data:image/png;base64," in metadata[chart].value, chart
    assert "responsive_weeks" in metadata["table_of_effects"].value
    assert "responsive_share_before" in metadata["table_of_balance"].value
    assert "doubly_robust" in metadata["table_of_other_policies"].value
    assert metadata["rollout_share"].value == 0.9
    assert metadata["in_force_at"].value == "2026-03-25T18:30:00+00:00"


def test_the_programme_with_few_calls_has_no_effect_that_could_be_found(
    programme: Programme, report: dg.ExecuteInProcessResult
) -> None:
    effects = programme.installation.lake.read(EXPERIMENT_EFFECTS, "experiment_report", WEEK.isoformat())
    rows = {row["outcome"]: row for row in effects.to_pylist()}
    assert set(rows) == {"responsive_weeks", "doses_on_time"}
    assert rows["responsive_weeks"]["low"] < rows["responsive_weeks"]["estimate"] < rows["responsive_weeks"]["high"]
    assert abs(rows["responsive_weeks"]["estimate"]) < rows["responsive_weeks"]["detectable_effect"]
    assert rows["responsive_weeks"]["n_treatment"] > 8 * rows["responsive_weeks"]["n_control"]
    weeks = programme.installation.lake.read(EXPERIMENT_WEEKS, "experiment_report", WEEK.isoformat(), "weeks")
    assert weeks.num_rows == 10


def test_other_policies_are_valued_from_the_lists_whose_next_week_is_known(
    programme: Programme, report: dg.ExecuteInProcessResult
) -> None:
    lake = programme.installation.lake
    values = lake.read(OFF_POLICY_VALUES, "experiment_report", WEEK.isoformat(), "off_policy").to_pylist()
    assert {(row["policy"], row["estimator"]) for row in values} == {
        (policy, estimator) for policy in POLICIES for estimator in OFF_POLICY_ESTIMATORS
    }
    n_listed = sum(lake.read(CALL_LIST, "call_list", day.isoformat()).num_rows for day in LISTS)
    assert {row["n_listed"] for row in values} == {n_listed}
    by_policy = {row["policy"]: row for row in values if row["estimator"] == "snips"}
    print({name: [round(row[c], 3) for c in ("value", "low", "high", "overlap")] for name, row in by_policy.items()})
    for name in ("random", "worst_first"):
        # Everybody eligible may be drawn, so that the weights add up to the calls of the policy but for chance.
        assert 0.6 < by_policy[name]["overlap"] < 1.5
        # The demo answers no list: nobody was called for being listed, and listing changed nothing.
        assert by_policy[name]["low"] < 0 < by_policy[name]["high"]


def test_who_could_have_been_called_and_what_became_of_the_controls_is_what_the_tables_say(
    programme: Programme, report: dg.ExecuteInProcessResult
) -> None:
    lake = programme.installation.lake
    history = lake.read(ENGAGEMENT_HISTORY, "engagement_history", WEEK.isoformat()).to_pandas()
    history = history[history["observed_weeks"] // 2**9 % 2 == 1]  # WEEK, the last of ten, follows the lists
    history["is_responsive"] = history["opened_weeks"] // 2**9 % 2 == 1
    waiting: set[int] = set()
    candidates, listed = [], []
    for day in LISTS:
        made = lake.read(CALL_LIST, "call_list", day.isoformat()).to_pandas()
        version = made["model_version"].iloc[0]
        assignments = lake.read(CLUSTER_ASSIGNMENTS, "model_bundles", version, "assignments").to_pandas()
        states = lake.read(CAREGIVER_STATES, "caregiver_states", (day - timedelta(days=1)).isoformat()).to_pandas()
        rows = states.merge(assignments[["caregiver_key", "cluster_id"]]).merge(history)
        rows = rows[(rows["status"] == "active") & (rows["warm_up_end_date"] <= day)]
        rests = rows["last_call_date"].notna() & (rows["last_call_date"].fillna(date.min) >= day - timedelta(days=14))
        is_control = rows["ab_arm"] == "control"
        is_eligible = ~is_control & ~rests & ~rows["caregiver_key"].isin(waiting)
        rows = rows.assign(is_control=is_control, is_eligible=is_eligible)[is_control | is_eligible]
        listed.append(made.merge(history).assign(target=len(made) / is_eligible.sum()))
        candidates.append(rows.assign(target=len(made) / is_eligible.sum()))
        waiting |= set(made["caregiver_key"])
    everybody, chosen = pd.concat(candidates), pd.concat(listed)
    eligible = everybody[everybody["is_eligible"]]
    calls = eligible.groupby(["cluster_id", "state"])["target"].sum()
    controls = everybody[everybody["is_control"]].groupby(["cluster_id", "state"])["is_responsive"].mean()
    # Where no control is, the model stands for them; the champion made both lists.
    model = lake.read(WHITTLE_INDICES, "model_bundles", version, "indices").to_pandas()
    model = model.set_index(["cluster_id", "state"])["p_passive"]
    controls = controls.reindex(calls.index).fillna(model)
    values = lake.read(OFF_POLICY_VALUES, "experiment_report", WEEK.isoformat(), "off_policy").to_pylist()
    (found,) = (row for row in values if (row["policy"], row["estimator"]) == ("random", "ips"))
    called = (chosen["target"] / chosen["propensity"] * chosen["is_responsive"]).sum() / calls.sum()
    assert found["p_responsive_called"] == pytest.approx(called)
    assert found["p_responsive_control"] == pytest.approx((calls * controls).sum() / calls.sum())
