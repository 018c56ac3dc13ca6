"""The experiment report as an asset, on a small programme with lists whose next week is known."""

from datetime import date

import dagster as dg
import pytest

from bandicoot_core.contracts import (
    CALL_LIST,
    EXPERIMENT_EFFECTS,
    EXPERIMENT_WEEKS,
    OFF_POLICY_ESTIMATORS,
    OFF_POLICY_VALUES,
)
from bandicoot_core.evaluation.listed_policies import POLICIES
from bandicoot_dagster.assets.experiment import experiment_report
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.resources import build_resources
from tests.dagster.conftest import Programme

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
    for chart in ("effects_chart", "effect_over_weeks", "balance_chart", "policies_chart"):
        assert "data:image/png;base64," in metadata[chart].value, chart
    assert "responsive_weeks" in metadata["effects"].value
    assert "responsive_share_before" in metadata["balance"].value
    assert "doubly_robust" in metadata["off_policy_values"].value
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
