"""Models and lists brought back from the lake, and keys that a restored database would give to somebody else."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from small_installation import CALL_DATE, SmallInstallation, copied, lived_through

from bandicoot_core.contracts import RECEIVED_EVENTS
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.republishing import RUN_ID, plan_rebuilding, rebuild_published
from bandicoot_core.pipeline.unknown_keys import drop_unknown_keys, find_unknown_keys
from bandicoot_core.stores.embedded.server import EmbeddedServer
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.lake.search import highest_key_in
from bandicoot_core.stores.published.models import ModelRecord, champion, is_held_back, list_models

LAST_WEEK, WEEK_BEFORE = date(2026, 11, 8), date(2026, 11, 1)
NOW = datetime(2026, 11, 20, 6, tzinfo=UTC)
OLDER = "2026-11-01-older"
MODEL_TABLES = "bandicoot.model_versions, bandicoot.clusters, bandicoot.whittle_indices"


@pytest.fixture(scope="module")
def first(
    server: EmbeddedServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """Database and home of an installation that tests copy and never change."""
    home = tmp_path_factory.mktemp("lived-through")
    with lived_through(server, migrated_template, home) as name:
        yield name, home


@pytest.fixture
def installation(server: EmbeddedServer, first: tuple[str, Path], tmp_path: Path) -> Iterator[SmallInstallation]:
    """The list of CALL_DATE is published; everybody has opened messages now and then."""
    with copied(server, *first, tmp_path) as made:
        yield made


def execute(installation: SmallInstallation, statement: str) -> None:
    with psycopg.connect(installation.programme.url) as connection:
        connection.execute(statement)


def models(installation: SmallInstallation) -> dict[str, ModelRecord]:
    with installation.stores.published() as connection:
        return {model.model_version: model for model in list_models(connection)}


def champion_of(installation: SmallInstallation) -> str | None:
    with installation.stores.published() as connection:
        found = champion(connection)
    return found.model_version if found else None


def rewritten(installation: SmallInstallation, asset: str, partition: str, **changes: object) -> None:
    """Change facts of a partition's manifest."""
    path = Path(str(installation.stores.lake.folder(asset, partition) / "manifest.json"))
    manifest = Manifest.from_json(path.read_text())
    path.write_text(replace(manifest, partition=partition, facts={**manifest.facts, **changes}).to_json())


def add_older_model(installation: SmallInstallation, decision: str) -> None:
    """A model of the week before in the lake, with the same tables, and what was decided about it."""
    lake, version = installation.stores.lake, champion_of(installation)
    assert version is not None
    root = Path(str(lake.root))
    for asset, found, made in ((BUNDLES, version, OLDER), ("model_version", str(LAST_WEEK), str(WEEK_BEFORE))):
        shutil.copytree(root / asset / found, root / asset / made)
    rewritten(installation, BUNDLES, OLDER, last_week=str(WEEK_BEFORE))
    rewritten(installation, "model_version", str(WEEK_BEFORE), model_version=OLDER, decision=decision)


def test_the_model_promoted_last_is_champion_again_and_the_one_before_can_be_brought_back(
    installation: SmallInstallation,
) -> None:
    version = champion_of(installation)
    add_older_model(installation, "promoted as the first champion")
    execute(installation, f"TRUNCATE {MODEL_TABLES}")
    done = rebuild_published(installation.stores, rebuilt_at=NOW)
    assert (done.models, done.champion) == ((OLDER, version), version)
    found = models(installation)
    assert list(found) == [version, OLDER], "the newest first"
    assert {name: model.status for name, model in found.items()} == {version: "champion", OLDER: "retired"}
    assert not is_held_back(found[OLDER])
    assert found[OLDER].training_week == WEEK_BEFORE
    assert found[OLDER].run_id == RUN_ID


def test_a_model_that_was_taken_back_before_the_last_list_is_not_champion_again(
    installation: SmallInstallation,
) -> None:
    version = champion_of(installation)
    assert version is not None
    add_older_model(installation, "promoted as the first champion")
    # The list of CALL_DATE came after the training of the last week, and yet the older model ranked it.
    rewritten(installation, "call_list", str(CALL_DATE), model_version=OLDER)
    table = installation.stores.lake.folder("call_list", str(CALL_DATE))
    assert table.exists()
    execute(installation, f"TRUNCATE {MODEL_TABLES}")
    plan = plan_rebuilding(installation.stores)
    assert plan.champion == OLDER
    with pytest.raises(InvalidInputError, match="in the list of"):
        # The rows of this list still name the other model: it is refused, after the models have come back.
        rebuild_published(installation.stores, rebuilt_at=NOW)
    found = models(installation)
    assert {name: model.status for name, model in found.items()} == {version: "retired", OLDER: "champion"}
    assert is_held_back(found[version])


def test_a_refused_model_comes_back_refused_and_says_why(installation: SmallInstallation) -> None:
    version = champion_of(installation)
    add_older_model(installation, "rejected: shares: a share of 1.2")
    execute(installation, f"TRUNCATE {MODEL_TABLES}")
    rebuild_published(installation.stores, rebuilt_at=NOW)
    found = models(installation)
    assert (found[OLDER].status, found[OLDER].note) == ("rejected", "shares: a share of 1.2")
    assert champion_of(installation) == version


def test_what_the_database_knows_of_a_model_stays(installation: SmallInstallation) -> None:
    version = champion_of(installation)
    before = models(installation)
    add_older_model(installation, "promoted as the first champion")
    done = rebuild_published(installation.stores, rebuilt_at=NOW)
    assert (done.models, done.champion) == ((OLDER,), None)
    found = models(installation)
    assert found[str(version)] == before[str(version)]
    assert found[OLDER].status == "candidate"


def test_a_refused_list_is_not_published(installation: SmallInstallation) -> None:
    rewritten(installation, "call_list", str(CALL_DATE), refusals=["budget: 11 of 10"])
    execute(installation, "TRUNCATE bandicoot.call_list, bandicoot.list_publications")
    assert rebuild_published(installation.stores, rebuilt_at=NOW).lists == ()
    assert installation.published(CALL_DATE) == []


def test_a_plan_writes_nothing_and_a_second_rebuilding_brings_only_the_newest_list(
    installation: SmallInstallation,
) -> None:
    listed = installation.published(CALL_DATE)
    assert listed
    earlier = CALL_DATE - timedelta(days=1)
    installation.make_list(earlier)
    execute(installation, "TRUNCATE bandicoot.call_list, bandicoot.list_publications")
    assert plan_rebuilding(installation.stores).lists == (CALL_DATE, earlier)
    assert installation.published(CALL_DATE) == []
    rebuild_published(installation.stores, rebuilt_at=NOW)
    assert installation.published(CALL_DATE) == listed
    assert rebuild_published(installation.stores, rebuilt_at=NOW).lists == (CALL_DATE,)


def lose_the_last_key(installation: SmallInstallation) -> int:
    """As a database that was restored to before the last caregiver came."""
    with psycopg.connect(installation.programme.url) as connection:
        row = connection.execute("SELECT max(caregiver_key) FROM bandicoot.caregiver_keys").fetchone()
        assert row is not None
        connection.execute("DELETE FROM bandicoot.caregiver_keys WHERE caregiver_key = %s", row)
        connection.execute(
            "SELECT setval(pg_get_serial_sequence('bandicoot.caregiver_keys', 'caregiver_key'), %s, true)",
            (row[0] - 1,),
        )
    return int(row[0])


def test_no_key_is_given_while_the_lake_has_one_that_the_database_has_lost(installation: SmallInstallation) -> None:
    lost = lose_the_last_key(installation)
    installation.enrol(["CG-new"])
    with pytest.raises(InvalidInputError, match="bandicoot lake reconcile"):
        installation.read_registry(CALL_DATE)
    with pytest.raises(InvalidInputError, match="bandicoot lake reconcile"):
        plan_rebuilding(installation.stores)
    stores = installation.stores
    with stores.published() as connection:
        found = find_unknown_keys(connection, stores.lake)
        assert {each.highest_key for each in found} == {lost}
        assert {"caregivers", "caregiver_states", "sms_events", BUNDLES} <= {each.asset for each in found}
        assert found[-1].asset == "caregivers", "until it is gone no key is given"
        drop_unknown_keys(stores, found)
        assert find_unknown_keys(connection, stores.lake) == []
    installation.read_registry(CALL_DATE)


def test_of_received_events_only_the_rows_of_lost_keys_go(installation: SmallInstallation) -> None:
    stores, day = installation.stores, CALL_DATE.isoformat()
    lost = lose_the_last_key(installation)
    at = datetime(2026, 11, 19, 6, tzinfo=UTC)
    row = {"event_type": "opened", "occurred_at": at, "message_id": "M-1"}
    names = RECEIVED_EVENTS.arrow_schema()
    rows = [{**dict.fromkeys(names.names), **row, "caregiver_key": key} for key in (1, lost)]
    stores.lake.write("received_events", day, {"data": (RECEIVED_EVENTS, pa.Table.from_pylist(rows, names))})
    with stores.published() as connection:
        drop_unknown_keys(stores, find_unknown_keys(connection, stores.lake))
    left = stores.lake.read(RECEIVED_EVENTS, "received_events", day)["caregiver_key"].to_pylist()
    assert left == [1]
    assert highest_key_in(stores.lake, "received_events", day) == 1


def test_without_any_key_the_lake_is_left_alone(installation: SmallInstallation) -> None:
    execute(installation, "TRUNCATE bandicoot.caregiver_keys")
    stores = installation.stores
    with stores.published() as connection, pytest.raises(InvalidInputError, match="caregiver_keys is empty"):
        find_unknown_keys(connection, stores.lake)
    with pytest.raises(InvalidInputError, match="begin with an empty lake"):
        installation.read_registry(CALL_DATE)
    stores.lake.clear()
    installation.read_registry(CALL_DATE)


def test_a_forgotten_caregivers_key_was_given_though_nobody_has_it(installation: SmallInstallation) -> None:
    lost = lose_the_last_key(installation)
    execute(
        installation,
        "INSERT INTO bandicoot.forgettings (suppression_hash, caregiver_key, state, requested_at, requested_by, "
        f"reason, removed_rows) VALUES (repeat('0', 64), {lost}, 'requested', now(), 'her', 'asked', '{{}}')",
    )
    stores = installation.stores
    with stores.published() as connection:
        assert find_unknown_keys(connection, stores.lake) == []
