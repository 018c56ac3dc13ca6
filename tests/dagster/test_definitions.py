"""What the definitions promise: every asset described, the clock in India, one list a day."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph
from dagster_cloud_cli.config.models import load_dagster_cloud_yaml

from bandicoot_core.settings import ListOptions, ModelOptions, Settings
from bandicoot_dagster.config import CallListConfig, Training
from bandicoot_dagster.definitions import ALL_ASSETS, build_definitions
from bandicoot_dagster.sensors import all_sensors, list_after_nightly

ROOT = Path(__file__).parents[2]
DESIGNED = {
    "caregivers": "source",
    "sms_events": "source",
    "vaccinations": "source",
    "calls": "source",
    "caregiver_states": "engagement",
    "engagement_history": "engagement",
    "passive_counts": "model",
    "clusters": "model",
    "cluster_assignments": "model",
    "features_only_mapper": "model",
    "transition_models": "model",
    "whittle_indices": "model",
    "model_version": "model",
    "call_list": "call_list",
    "published_call_list": "call_list",
    "index_cache": "call_list",
    "coverage_report": "evaluation",
    "estimation_report": "evaluation",
    "policy_simulation": "evaluation",
    "model_backtest": "evaluation",
    "experiment_report": "evaluation",
    "cost_report": "operation",
    "why_listed": "analysis",
    "what_if_call_list": "analysis",
    "model_comparison": "analysis",
}
WITHOUT_TABLE = {"features_only_mapper", "model_version", "index_cache", "why_listed", "model_comparison"}


def definitions(now: datetime | None = None) -> dg.Definitions:
    return build_definitions(Settings(), clock=lambda: now or datetime(2026, 11, 19, tzinfo=UTC))


@pytest.fixture(scope="module")
def graph() -> AssetGraph:
    return definitions().resolve_asset_graph()


def test_every_designed_asset_is_there_in_its_group(graph: AssetGraph) -> None:
    made = {key.to_user_string(): graph.get(key).group_name for key in graph.materializable_asset_keys}
    assert made == DESIGNED


def test_every_asset_says_what_it_is_who_owns_it_and_what_it_holds(graph: AssetGraph) -> None:
    for key in graph.materializable_asset_keys:
        node, name = graph.get(key), key.to_user_string()
        assert len(node.description or "") > 40, name
        assert node.owners, name
        assert node.kinds, name
        assert node.code_version, name
        if name not in WITHOUT_TABLE:
            schema = node.metadata["dagster/column_schema"]
            assert all(column.description for column in schema.columns), name


def test_the_programmes_tables_and_what_is_told_are_external_upstreams(graph: AssetGraph) -> None:
    external = {key.to_user_string() for key in graph.external_asset_keys}
    assert external == {
        "suvita_production/caregivers",
        "suvita_production/sms_logs",
        "suvita_production/vaccinations",
        "bandicoot/call_outcomes",
        "received_events",
    }


def test_the_list_depends_on_the_states_of_the_day_before(graph: AssetGraph) -> None:
    mapping = graph.get(dg.AssetKey("call_list")).partition_mappings[dg.AssetKey("caregiver_states")]
    upstream = mapping.get_upstream_mapped_partitions_result_for_partitions(
        downstream_partitions_subset=graph.get(dg.AssetKey("call_list")).partitions_def.subset_with_partition_keys(
            ["2026-11-19"]
        ),
        downstream_partitions_def=graph.get(dg.AssetKey("call_list")).partitions_def,
        upstream_partitions_def=graph.get(dg.AssetKey("caregiver_states")).partitions_def,
        current_time=datetime(2026, 11, 19, 12, tzinfo=UTC),
    )
    assert list(upstream.partitions_subset.get_partition_keys()) == ["2026-11-18"]


@pytest.mark.parametrize(
    ("schedule", "tick", "partition"),
    [
        ("nightly_schedule", "2026-11-18T19:30:00+00:00", "2026-11-18"),
        ("nightly_schedule", "2024-02-29T19:30:00+00:00", "2024-02-29"),
        ("nightly_schedule", "2025-12-31T19:30:00+00:00", "2025-12-31"),
        ("weekly_training_schedule", "2026-11-14T20:30:00+00:00", "2026-11-08"),
    ],
)
def test_a_tick_in_india_addresses_the_period_that_has_just_ended(schedule: str, tick: str, partition: str) -> None:
    defined = definitions().resolve_schedule_def(schedule)
    assert defined.execution_timezone == "Asia/Kolkata"
    context = dg.build_schedule_context(scheduled_execution_time=datetime.fromisoformat(tick))
    requests = defined.evaluate_tick(context).run_requests
    assert [request.partition_key for request in requests or []] == [partition]


def test_the_schedules_run_at_one_every_night_and_at_two_on_sunday() -> None:
    assert definitions().resolve_schedule_def("nightly_schedule").cron_schedule == "0 1 * * *"
    assert definitions().resolve_schedule_def("weekly_training_schedule").cron_schedule == "0 2 * * 0"


def test_housekeeping_runs_on_sunday_at_five_in_india() -> None:
    schedule = definitions().resolve_schedule_def("housekeeping_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 5 * * 0", "Asia/Kolkata")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING


def sensed(partition: str | None, now: datetime) -> dg.RunRequest | dg.SkipReason:
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {"dagster/partition": partition} if partition else {}
        run = dg.DagsterRun(job_name="nightly", run_id="6b1f", status=dg.DagsterRunStatus.SUCCESS, tags=tags)
        event = dg.DagsterEvent("PIPELINE_SUCCESS", "nightly")
        context = dg.build_run_status_sensor_context("list_after_nightly", event, instance, run)
        return list_after_nightly(context, clock=lambda: now)


def test_the_list_of_today_follows_the_night_that_closed_yesterday() -> None:
    request = sensed("2026-11-18", datetime(2026, 11, 18, 19, 45, tzinfo=UTC))
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == "2026-11-19"
    assert request.run_key == "6b1f"


def test_no_list_is_made_late_or_for_a_backfill() -> None:
    late = sensed("2026-11-17", datetime(2026, 11, 18, 19, 45, tzinfo=UTC))
    backfill = sensed(None, datetime(2026, 11, 18, 19, 45, tzinfo=UTC))
    assert isinstance(late, dg.SkipReason)
    assert isinstance(backfill, dg.SkipReason)


def evaluated(sensor: str, partition: str | None, run_config: dict[str, object]) -> dg.RunRequest | dg.SkipReason:
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {"dagster/partition": partition} if partition else {}
        run = dg.DagsterRun(job_name="weekly_training", run_id="7c20", tags=tags, run_config=run_config)
        event = dg.DagsterEvent("PIPELINE_SUCCESS", "weekly_training")
        [defined] = [made for made in all_sensors if made.name == sensor]
        return defined(dg.build_run_status_sensor_context(sensor, event, instance, run))


@pytest.mark.parametrize("sensor", ["evaluation_after_training", "evaluation_after_refusal"])
def test_evaluation_follows_the_training_of_a_week_with_the_options_it_had(sensor: str) -> None:
    options = {"config": {"n_clusters": 6}}
    request = evaluated(sensor, "2026-11-08", {"resources": {"training": options}})
    assert isinstance(request, dg.RunRequest)
    assert (request.partition_key, request.run_key) == ("2026-11-08", "7c20")
    assert request.run_config == {"resources": {"training": options}}
    without = evaluated(sensor, "2026-11-08", {})
    assert isinstance(without, dg.RunRequest)
    assert without.run_config == {}
    assert isinstance(evaluated(sensor, None, {}), dg.SkipReason)


def test_neither_a_promotion_nor_a_list_waits_for_evaluation(graph: AssetGraph) -> None:
    assert graph.get(dg.AssetKey("model_backtest")).child_keys == set()
    trained = definitions().resolve_job_def("weekly_training").asset_layer.selected_asset_keys
    assert dg.AssetKey("model_version") in trained
    assert dg.AssetKey("model_backtest") not in trained


def test_the_launchpad_offers_every_option_with_its_bounds() -> None:
    assert set(ListOptions.model_fields) | {"as_of_date"} == set(CallListConfig.model_fields)
    assert set(ModelOptions.model_fields) <= set(Training.model_fields)
    assert "at least 0" in (CallListConfig.model_fields["budget"].description or "")
    assert "below 1" in (Training.model_fields["discount"].description or "")
    assert CallListConfig().options() == ListOptions()
    assert Training().options() == ModelOptions()


def test_the_code_location_files_name_this_project() -> None:
    cloud = load_dagster_cloud_yaml((ROOT / "dagster_cloud.yaml").read_text())
    assert cloud.locations[0].code_source.module_name == "bandicoot_dagster.definitions"
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    assert workspace["load_from"][0]["python_module"]["module_name"] == "bandicoot_dagster.definitions"


def test_a_partition_key_names_a_day_in_india() -> None:
    from bandicoot_dagster.partitions import daily, list_days, weekly

    just_after_midnight = datetime(2026, 11, 18, 18, 31, tzinfo=UTC)
    newest = {
        name: partitions.get_partition_keys(current_time=just_after_midnight)[-1]
        for name, partitions in (("daily", daily), ("list_days", list_days), ("weekly", weekly))
    }
    assert newest == {"daily": "2026-11-18", "list_days": "2026-11-19", "weekly": "2026-11-08"}


def test_every_asset_is_in_a_pool_that_lets_one_run_through_at_a_time() -> None:
    instance = yaml.safe_load((ROOT / "bandicoot_dagster" / "dagster.yaml").read_text())
    assert instance["concurrency"]["pools"] == {"default_limit": 1, "granularity": "run"}
    without = [asset.key for asset in ALL_ASSETS if isinstance(asset, dg.AssetsDefinition) and asset.op.pool is None]
    assert not without


def test_the_list_is_due_at_two_and_the_model_on_sunday_at_six_in_india(graph: AssetGraph) -> None:
    policies = {key.to_user_string(): graph.get(key).freshness_policy for key in graph.materializable_asset_keys}
    assert {name: policy for name, policy in policies.items() if policy is not None} == {
        name: dg.FreshnessPolicy.cron(cron, timedelta(hours=hours), timezone="Asia/Kolkata")
        for name, cron, hours in (
            ("call_list", "0 2 * * *", 2),
            ("published_call_list", "0 2 * * *", 2),
            ("model_version", "0 6 * * 0", 6),
        )
    }


def test_a_run_that_hangs_is_ended_after_the_time_its_job_may_take() -> None:
    jobs = ("nightly", "daily_list", "weekly_training", "evaluation")
    limits = [definitions().resolve_job_def(job).run_tags["dagster/max_runtime"] for job in jobs]
    assert limits == ["3600", "1800", "7200", "7200"]


def test_the_definitions_load_as_one_repository() -> None:
    dg.Definitions.validate_loadable(definitions())
