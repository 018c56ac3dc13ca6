"""The cost report counts the runs that Dagster knows of, and shows the month against its limit."""

from datetime import UTC, date, datetime, timedelta

import dagster as dg
import pytest

from bandicoot_core.contracts import SPENDING
from bandicoot_core.costs.prices import load_prices
from bandicoot_dagster.assets.costs import cost_report
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.resources import build_resources
from bandicoot_dagster.run_times import run_times
from tests.small_programme import CALL_DATE, Programme

DAY = date(2026, 11, 15)


@pytest.fixture(scope="module")
def listed(programme: Programme) -> Programme:
    programme.catch_up(CALL_DATE)
    return programme


def test_every_run_counts_with_the_time_it_took(listed: Programme) -> None:
    now = datetime.now(UTC)

    with open_instance(listed.installation) as instance:
        found = run_times(instance, since=now - timedelta(days=1), until=now)
        records = instance.get_run_records()
        none_later = run_times(instance, since=now + timedelta(minutes=1), until=now + timedelta(minutes=2))
        cut_off = run_times(instance, since=now - timedelta(days=1), until=now - timedelta(days=1))

    took = {(r.dagster_run.job_name, (r.end_time or 0) - (r.start_time or 0)) for r in records if r.start_time}
    assert {run.job for run in found} >= {"nightly", "daily_list", "weekly_training"}
    assert {(run.job, round(run.seconds, 3)) for run in found} == {(job, round(took_, 3)) for job, took_ in took}
    assert not none_later
    assert {run.seconds for run in cut_off} == {0}


def test_the_report_says_what_the_month_has_cost_against_its_limit(listed: Programme) -> None:
    stores = listed.installation
    with open_instance(stores) as instance:
        ran = dg.materialize(
            [cost_report], instance=instance, partition_key=DAY.isoformat(), resources=build_resources(stores.settings)
        )
    [materialization] = ran.asset_materializations_for_node("cost_report")
    spending = stores.lake.read(SPENDING, "cost_report", DAY.isoformat())
    components = {row["component"]: row["spent_usd"] for row in spending.to_pylist()}
    facts = stores.lake.require("cost_report", DAY.isoformat()).facts

    assert components["database"] == pytest.approx(load_prices().monthly["database"] / 2)
    assert components["lake"] > 0
    assert facts["spent_usd"] == pytest.approx(sum(components.values()))
    assert facts["share_of_limit"] == pytest.approx(facts["spent_usd"] / 200)
    summary = str(materialization.metadata["summary"].value)
    assert f"{facts['spent_usd']:,.2f} US dollars were spent up to 2026-11-15" in summary
    assert "within the limit" in summary
    assert "data:image/png" in str(materialization.metadata["spending_against_limit"].value)
