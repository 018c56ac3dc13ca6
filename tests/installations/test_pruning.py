"""Pruning Dagster's storage: less is stored, and everything that Dagster decides by is as it was before."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest
from click.testing import CliRunner
from dagster._core.definitions.asset_checks.asset_check_spec import AssetCheckKey
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.loader import LoadingContextForTest
from dagster._core.scheduler.instigation import TickData, TickStatus
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value
from psycopg.conninfo import conninfo_to_dict

from bandicoot_core.errors import CheckFailedError
from bandicoot_core.settings import load_list_options
from bandicoot_dagster.cli import main
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from bandicoot_dagster.launch import execute_step
from bandicoot_dagster.plan import Step
from bandicoot_dagster.pruning import Pruned, libpq_url, prune, prune_instance
from tests.installations.conftest import Ran
from tests.installations.site import BUDGET, CALL_DATE, Site, clock_of
from tests.operations_guide import storage_blocks

DAY = CALL_DATE.isoformat()
SENSOR = "sensor that skips"


@pytest.fixture(scope="module")
def lived(embedded_run: Ran) -> Iterator[tuple[Site, dg.DagsterInstance]]:
    """A programme some of whose partitions were made again, and whose last list was refused; with a sensor's ticks."""
    site = embedded_run.site
    definitions = build_definitions(site.pipeline.settings, clock_of(CALL_DATE))
    night = (CALL_DATE - timedelta(days=1)).isoformat()
    with open_instance(site.pipeline) as instance:
        for _ in range(2):
            execute_step(definitions, instance, Step("nightly", night, night, why="test"))
        options = load_list_options(budget=BUDGET, min_engagement=0.94)
        config = {"ops": {"call_list": {"config": {"budget": BUDGET, "min_engagement": options.min_engagement}}}}
        with pytest.raises(CheckFailedError):
            execute_step(definitions, instance, Step("daily_list", DAY, DAY, why="test"), run_config=config)
        for seconds in range(3):
            instance.create_tick(
                TickData(
                    instigator_origin_id=SENSOR,
                    instigator_name=SENSOR,
                    instigator_type=InstigatorType.SENSOR,
                    status=TickStatus.SKIPPED,
                    timestamp=datetime.now(UTC).timestamp() + seconds,
                    selector_id=SENSOR,
                )
            )
        yield site, instance


def decided_by(site: Site, instance: dg.DagsterInstance) -> dict[str, Any]:
    """What Dagster's UI, sensors and staleness go by, asked of Dagster itself, asset by asset."""
    graph = build_definitions(site.pipeline.settings, clock_of(CALL_DATE)).resolve_asset_graph()
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    log = instance.event_log_storage
    found: dict[str, Any] = {}
    for key in sorted(graph.materializable_asset_keys):
        log.wipe_asset_cached_status(key)  # so that it is worked out from the events again
        partitions = sorted(instance.get_materialized_partitions(key))
        status = get_and_update_asset_status_cache_value(instance, key, graph.get(key).partitions_def)
        latest = instance.get_latest_materialization_event(key)
        found[key.to_user_string()] = {
            "partitions": partitions,
            "status": status
            and (status.serialized_materialized_partition_subset, status.serialized_failed_partition_subset),
            "latest": latest and latest.asset_materialization,
            "versions": log.get_latest_tags_by_partition(
                key, dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
            ),
            "attempts": log.get_latest_asset_partition_materialization_attempts_without_materializations(key),
            "stale": {
                name: (resolver.get_status(key, name), resolver.get_stale_causes(key, name)) for name in partitions[-2:]
            },
        }
    checks = [AssetCheckKey(node.asset_key, node.name) for node in graph.asset_check_keys]
    found["checks"] = {
        key: (record.status, record.event and record.event.user_message)
        for key, record in log.get_latest_asset_check_execution_by_key(checks).items()
    }
    for kind in (dg.DagsterEventType.RUN_SUCCESS, dg.DagsterEventType.RUN_FAILURE):
        changes = instance.fetch_run_status_changes(kind, limit=1000).records
        found[kind.value] = [(change.storage_id, change.run_id) for change in changes]
    found["runs"] = [(run.run_id, run.status, run.tags) for run in instance.get_runs()]
    return found


def rows(site: Site, table: str) -> tuple[int, int]:
    """Rows of a table of Dagster's storage, and their bytes."""
    with site.pipeline.published() as connection:
        found = connection.execute(
            f"SELECT count(*), coalesce(sum(pg_column_size(rows.*)), 0)::int FROM dagster.{table} AS rows"
        ).fetchone()
    assert found is not None
    return found


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)


def refuse(run_id: str) -> None:
    pytest.fail(f"the output of run {run_id} would have been deleted")


def test_nothing_that_is_young_enough_is_removed(lived: tuple[Site, dg.DagsterInstance]) -> None:
    site, instance = lived
    before = datetime.now(UTC) - timedelta(days=1)
    url = site.pipeline.dagster_storage_url
    assert prune_instance(instance, url, before=before, is_dry_run=False) == Pruned()


def test_pruning_keeps_what_dagster_decides_by_and_removes_the_rest(lived: tuple[Site, dg.DagsterInstance]) -> None:
    site, instance = lived
    url = site.pipeline.dagster_storage_url
    outputs = Path(instance.root_directory) / "storage"
    before, size = decided_by(site, instance), rows(site, "event_logs")
    assert {status for status, _causes in before["caregiver_states"]["stale"].values()}
    assert DAY in before["published_call_list"]["attempts"], "the refused list has to show as a failed attempt"
    planned = prune_instance(instance, url, before=soon(), is_dry_run=True)
    assert rows(site, "event_logs") == size
    n_outputs = len(list(outputs.iterdir()))
    assert planned.n_outputs == n_outputs > 5
    in_small_batches = prune(url, before=soon(), delete_output=refuse, is_dry_run=True, batch_rows=40)
    assert in_small_batches == planned

    pruned = prune_instance(instance, url, before=soon(), is_dry_run=False)
    assert pruned == planned
    assert decided_by(site, instance) == before
    after = rows(site, "event_logs")
    assert (size[0] - after[0], size[1] - after[1]) == (pruned.n_events, pruned.n_event_bytes)
    assert after[1] < 0.75 * size[1]
    assert list(outputs.iterdir()) == []
    assert pruned.n_ticks == 2
    assert len(instance.get_ticks(SENSOR, SENSOR)) == 1
    assert prune_instance(instance, url, before=soon(), is_dry_run=False) == Pruned()


def test_after_pruning_a_day_is_made_again_as_before(lived: tuple[Site, dg.DagsterInstance]) -> None:
    site, _instance = lived
    listed = site.current_list()
    site.catch_up(CALL_DATE + timedelta(days=1))
    assert site.current_list() == listed


def test_the_guides_commands_say_what_they_would_remove_and_remove_it(
    lived: tuple[Site, dg.DagsterInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    site, _instance = lived
    monkeypatch.setenv("BANDICOOT_HOME", str(site.pipeline.settings.home))
    (commands,) = storage_blocks("sh")
    try_out, remove = (command.replace("30", "0").split()[1:] for command in commands.splitlines())
    n_rows = rows(site, "event_logs")
    tried = CliRunner().invoke(main, try_out)
    assert (tried.exit_code, "would be removed" in tried.output, rows(site, "event_logs")) == (0, True, n_rows)
    done = CliRunner().invoke(main, remove)
    assert done.exit_code == 0
    assert done.output == tried.output.replace("would be removed", "removed")
    assert rows(site, "event_logs") < n_rows


@pytest.mark.parametrize(
    ("storage_url", "expected"),
    [
        (
            "postgresql+psycopg2://me:super secret%2F%40%25+@db.example.org:5433/dag?options=-csearch_path%3Da+-cx%3D1",
            {
                "user": "me",
                "password": "super secret/@%+",
                "host": "db.example.org",
                "port": "5433",
                "dbname": "dag",
                "options": "-csearch_path=a -cx=1",
            },
        ),
        ("postgresql+psycopg2://postgres@/x?host=/a/socket", {"user": "postgres", "dbname": "x", "host": "/a/socket"}),
        ("postgresql+psycopg2://[::1]/x", {"dbname": "x", "host": "::1"}),
    ],
)
def test_storage_is_reached_whatever_its_password_is(storage_url: str, expected: dict[str, str]) -> None:
    assert conninfo_to_dict(libpq_url(storage_url)) == expected


def test_the_guides_vacuum_gives_the_room_back(lived: tuple[Site, dg.DagsterInstance]) -> None:
    site, _instance = lived
    _make_user, vacuum = storage_blocks("sql")
    size = "SELECT pg_total_relation_size('dagster.event_logs')"
    with psycopg.connect(libpq_url(site.pipeline.dagster_storage_url), autocommit=True) as connection:
        before = connection.execute(size).fetchone()
        connection.execute(vacuum)
        assert (connection.execute(size).fetchone() or (None,)) < (before or (None,))


def test_housekeeping_prunes_by_the_setting(lived: tuple[Site, dg.DagsterInstance]) -> None:
    site, instance = lived

    @dg.op
    def logs(context: dg.OpExecutionContext) -> None:
        context.log.info("a line that nobody reads after three months")

    assert dg.JobDefinition(graph_def=dg.GraphDefinition("logging", node_defs=[logs])).execute_in_process(
        instance=instance
    )
    job = "housekeeping"
    for days, is_removed in ((89, False), (91, True)):
        later = datetime.now(UTC) + timedelta(days=days)
        n_rows = rows(site, "event_logs")[0]
        definitions = build_definitions(site.pipeline.settings, lambda now=later: now)
        assert definitions.resolve_job_def(job).execute_in_process(instance=instance).success
        own = instance.get_run_records(limit=1)[0].dagster_run.run_id
        n_own = len(instance.all_logs(own))
        assert (rows(site, "event_logs")[0] - n_own < n_rows) is is_removed
