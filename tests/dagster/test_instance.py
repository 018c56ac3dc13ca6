"""Dagster's instance as its two configuration files make it, on a PostgreSQL server and behind a pooler."""

from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import yaml
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from google.cloud import storage
from psycopg.conninfo import conninfo_to_dict

from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.settings import Settings, load_settings
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.dagster_home import open_instance
from tests.operations_guide import storage_blocks
from tests.servers.debian_postgres import DebianPostgres
from tests.servers.gcs import BUCKET
from tests.servers.pgbouncer import PgBouncer

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "bandicoot_dagster" / "dagster.yaml"
PRODUCTION = ROOT / "deploy" / "dagster.yaml"
ROLE = "bandicoot_dagster"

OpenInstance = Callable[..., dg.DagsterInstance]


@pytest.fixture
def dagster_database(debian_server: DebianPostgres) -> Iterator[str]:
    """The URL of a database in which Dagster's user has a schema of its own, made as the operations guide says."""
    url = debian_server.create_database()
    name = str(conninfo_to_dict(url)["dbname"])
    make_user, _vacuum = storage_blocks("sql")
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in make_user.split(";\n"):
            connection.execute(statement)
    yield debian_server.url(name, user=ROLE, password="change me")
    debian_server.drop_database(name)
    with psycopg.connect(debian_server.url(), autocommit=True) as connection:
        connection.execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def production_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenInstance]:
    """Opens the instance of deploy/dagster.yaml over a libpq URL."""
    opened: list[dg.DagsterInstance] = []
    (tmp_path / "dagster.yaml").write_text(PRODUCTION.read_text())
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))

    def open_production(url: str) -> dg.DagsterInstance:
        monkeypatch.setenv("BANDICOOT_DAGSTER_STORAGE_URL", url.replace("postgresql://", "postgresql+psycopg2://"))
        opened.append(dg.DagsterInstance.get())
        return opened[-1]

    yield open_production
    for instance in opened:
        instance.dispose()


@dg.asset
def counted() -> dg.MaterializeResult[None]:
    print("printed by a step")
    return dg.MaterializeResult(metadata={"dagster/row_count": 7})


def materialize(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return dg.materialize([counted], instance=instance)


def test_the_local_file_and_the_production_file_differ_only_in_the_variable_of_the_storage() -> None:
    local, production = yaml.safe_load(LOCAL.read_text()), yaml.safe_load(PRODUCTION.read_text())
    assert local["storage"].pop("postgres") == {"postgres_url": {"env": "BANDICOOT_DAGSTER_STORAGE"}}
    assert production["storage"].pop("postgres") == {
        "postgres_url": {"env": "BANDICOOT_DAGSTER_STORAGE_URL"},
        "should_autocreate_tables": True,
    }
    assert local == production


def test_production_runs_on_a_schema_of_its_own_role(
    production_instance: OpenInstance, dagster_database: str, debian_server: DebianPostgres
) -> None:
    instance = production_instance(dagster_database)
    run = materialize(instance)
    assert run.success
    assert instance.get_latest_materialization_event(counted.key)
    with psycopg.connect(dagster_database) as connection:
        found = connection.execute(
            "SELECT DISTINCT schemaname FROM pg_tables WHERE tableowner = %s", (ROLE,)
        ).fetchall()
        assert found == [("dagster_storage",)]
    _assert_configured(instance)
    assert "PostgresEventLogStorage" in instance.info_str()


def test_an_installation_writes_the_local_file_and_runs_on_it(
    debian_server: DebianPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("BANDICOOT_DAGSTER_STORAGE", "")
    url = debian_server.create_database()
    installation = Installation(Settings(home=tmp_path, database_url=url))
    installation.prepare()
    with open_instance(installation) as instance:
        run = materialize(instance)
        assert run.success
        assert (tmp_path / "dagster" / "dagster.yaml").read_text() == LOCAL.read_text()
        _assert_configured(instance)
        assert isinstance(instance.compute_log_manager, LocalComputeLogManager)
        printed = list((tmp_path / "dagster" / "storage" / run.run_id).rglob("*.out"))
        assert [path.read_text() for path in printed] == ["printed by a step\n"]


def test_what_steps_print_goes_to_the_bucket_that_is_set_and_is_deleted_there(
    production_instance: OpenInstance,
    dagster_database: str,
    cloud_storage_address: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BANDICOOT_LOG_BUCKET", BUCKET)
    instance = production_instance(dagster_database)
    run_id = materialize(instance).run_id
    bucket = storage.Client().bucket(BUCKET)
    where = f"dagster/storage/{run_id}/"
    printed = [blob.download_as_text() for blob in bucket.list_blobs(prefix=where) if blob.name.endswith(".out")]
    assert printed == ["printed by a step\n"]
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    assert list(bucket.list_blobs(prefix=where)) == []


def _assert_configured(instance: dg.DagsterInstance) -> None:
    concurrency = instance.get_concurrency_config()
    assert concurrency.pool_config.default_pool_limit == 1
    assert concurrency.pool_config.pool_granularity is not None
    assert concurrency.pool_config.pool_granularity.value == "run"
    assert concurrency.run_queue_config is not None
    assert concurrency.run_queue_config.max_concurrent_runs == 2
    assert instance.run_monitoring_enabled
    assert instance.run_monitoring_max_runtime_seconds == 7200
    assert instance.run_retries_enabled
    assert instance.run_retries_max_retries == 2
    assert not instance.run_retries_retry_on_asset_or_op_failure
    assert instance.freshness_enabled
    assert "FRESHNESS_DAEMON" in instance.get_required_daemon_types()
    assert not instance.telemetry_enabled
    assert not instance.nux_enabled


def test_dagster_works_behind_a_pooler_in_transaction_mode(
    production_instance: OpenInstance, dagster_database: str, bouncer: PgBouncer
) -> None:
    instance = production_instance(bouncer.url(dagster_database))
    for _ in range(3):
        assert materialize(instance).success
    assert len(instance.get_run_records()) == 3
    assert instance.event_log_storage.get_pool_limits() == []
    instance.event_log_storage.set_concurrency_slots("one writer", 1)
    claimed = instance.event_log_storage.claim_concurrency_slot("one writer", "a run", "a step")
    assert claimed.is_claimed
    assert not instance.event_log_storage.claim_concurrency_slot("one writer", "another", "a step").is_claimed


def test_a_search_path_in_the_url_is_refused_by_the_pooler(dagster_database: str, bouncer: PgBouncer) -> None:
    with pytest.raises(psycopg.OperationalError, match="unsupported startup parameter: options"):
        psycopg.connect(bouncer.url(dagster_database), options="-csearch_path=dagster_storage")


def test_the_webserver_leaves_its_statement_timeout_in_a_shared_session(
    production_instance: OpenInstance, dagster_database: str, bouncer: PgBouncer
) -> None:
    instance = production_instance(bouncer.url(dagster_database))
    instance.optimize_for_webserver(statement_timeout=1234, pool_recycle=3600, max_overflow=20)
    assert materialize(instance).success
    with psycopg.connect(bouncer.url(dagster_database), autocommit=True) as other_client:
        assert other_client.execute("SHOW statement_timeout").fetchone() == ("1234ms",)


def test_a_storage_url_of_another_driver_is_refused_without_showing_it() -> None:
    with pytest.raises(InvalidSettingError, match=r"postgresql\+psycopg2://") as refused:
        load_settings(dagster_storage_url="postgresql://dagster:hunter2@db/dagster")
    assert "hunter2" not in str(refused.value)
