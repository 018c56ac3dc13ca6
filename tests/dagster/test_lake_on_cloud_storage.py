"""The whole pipeline on a lake in (emulated) Google Cloud Storage, and the commands that keep it sound and small."""

import uuid
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg import sql

from bandicoot_core.errors import CorruptPartitionError
from bandicoot_core.pipeline.retention import expired_partitions, remove_expired
from bandicoot_core.settings import Settings, load_list_options, load_model_options
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.cli import main
from bandicoot_dagster.cli_lake import repair_partition
from bandicoot_dagster.demo_source import fill_demo
from tests.servers.gcs import BUCKET, cloud_storage
from tests.small_programme import CALL_DATE, NOON, Programme

WEEK = "2026-11-08"
DAY = (CALL_DATE - timedelta(days=1)).isoformat()


@pytest.fixture(scope="module")
def on_cloud_storage(server: embedded.EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programme]:
    """A small programme with its lake on gs://, caught up to the list of CALL_DATE; all by environment variables."""
    name = f"test_{uuid.uuid4().hex}"
    home: Path = tmp_path_factory.mktemp("on-gcs")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with cloud_storage() as address, pytest.MonkeyPatch.context() as patch:
        for variable, value in {
            "STORAGE_EMULATOR_HOST": address,
            "DAGSTER_HOME": str(home / "dagster"),
            "BANDICOOT_HOME": str(home),
            "BANDICOOT_DATABASE_URL": server.url.replace("/bandicoot?", f"/{name}?"),
            "BANDICOOT_LAKE_ROOT": f"gs://{BUCKET}/{name}",
            "BANDICOOT_LOOKBACK_DAYS": "21",
            "BANDICOOT_TRAINING_WEEKS": "6",
            "BANDICOOT_N_CLUSTERS": "2",
            "BANDICOOT_N_DRAWS": "100",
        }.items():
            patch.setenv(variable, value)
        installation = Installation(Settings())
        installation.prepare()
        fill_demo(installation, n_caregivers=1500, seed=11, day=CALL_DATE, on_progress=lambda *_: None)
        made = Programme(installation, load_model_options(), clock=lambda: NOON)
        made.catch_up()
        yield made
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def bandicoot(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environment)


def test_a_list_is_published_from_a_lake_on_cloud_storage(on_cloud_storage: Programme) -> None:
    assert len(on_cloud_storage.published()) == 20
    lake = on_cloud_storage.installation.lake
    assert {"sms_events", "caregiver_states", "engagement_history", "model_bundles", "call_list"} <= set(lake.assets())
    result = bandicoot("lake", "verify", "--from", DAY)
    assert (result.exit_code, "are what was written" in result.output) == (0, True)


def test_every_kind_of_corrupt_file_is_named_and_the_command_that_is_printed_repairs_it(
    on_cloud_storage: Programme,
) -> None:
    lake = on_cloud_storage.installation.lake
    week = lake.partitions("engagement_history")[-1]
    version = lake.partitions("model_bundles")[-1]
    damages = [
        ("sms_events", DAY, "data", "truncated"),
        ("caregiver_states", DAY, "data", "garbage"),
        ("features_only_mapper", week, "mapper.skops", "deleted"),
        ("model_bundles", version, "indices", "truncated"),
    ]
    for asset, partition, entry, damage in damages:
        before = lake.require(asset, partition)
        path = lake.folder(asset, partition) / before.entries[entry].name
        content = path.read_bytes()
        if damage == "deleted":
            path.unlink()
        else:
            path.write_bytes(content[:-9] if damage == "truncated" else bytes(len(content) - 4) + content[-4:])
        result = bandicoot("lake", "verify", "--asset", asset)
        assert result.exit_code == 6
        assert f"bandicoot lake repair {asset} {partition}" in result.output
        with pytest.raises(CorruptPartitionError, match=f"materialize {asset} for {partition} again"):
            lake.read_bytes(asset, partition, entry)
        repair_partition(on_cloud_storage.installation, asset, partition)
        assert lake.require(asset, partition).entries == before.entries
        assert lake.verify(asset, partition) == []


def test_an_asset_that_is_not_there_is_refused(on_cloud_storage: Programme) -> None:
    result = bandicoot("lake", "verify", "--asset", "sms_event")
    assert result.exit_code == 3
    assert "sms_events" in result.output


def test_nothing_expires_by_default(on_cloud_storage: Programme) -> None:
    result = bandicoot("lake", "expire")
    assert (result.exit_code, "everything is kept" in result.output) == (0, True)


def test_what_expires_is_nothing_that_the_next_lists_need(on_cloud_storage: Programme) -> None:
    installation = on_cloud_storage.installation
    lake = installation.lake
    later = CALL_DATE + timedelta(days=1)

    def expired(today: date) -> list[tuple[str, str]]:
        with installation.published() as connection:
            found = expired_partitions(
                lake,
                connection,
                today,
                settings=Settings(keep_days=1, keep_weeks=1),
                list_options=load_list_options(),
                model_options=load_model_options(),
            )
        return [(each.asset, each.partition) for each in found]

    assert expired(later) == [], "a programme of some weeks needs all it has"
    far = CALL_DATE + timedelta(days=150)
    assets = {asset for asset, _ in expired(far)}
    assert {"sms_events", "calls", "vaccinations", "caregiver_states", "call_list"} <= assets
    assert "model_bundles" not in assets, "the champion stays"
    assert [key for asset, key in expired(far) if asset == "sms_events"] == lake.partitions("sms_events")
    bundle = lake.partitions("model_bundles")
    with installation.published() as connection:
        remove_expired(
            lake,
            expired_partitions(
                lake,
                connection,
                far,
                settings=Settings(keep_days=1, keep_weeks=1),
                list_options=load_list_options(),
                model_options=load_model_options(),
            ),
        )
    assert lake.partitions("sms_events") == []
    assert lake.partitions("model_bundles") == bundle
    assert bandicoot("lake", "verify").exit_code == 0
