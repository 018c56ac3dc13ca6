"""The sensors of events: what a tick takes in and tells Dagster, and when a run for files is started."""

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.definitions import build_definitions
from bandicoot_dagster.events_sensor import event_sensors
from tests.registered_caregivers import register_caregivers
from tests.servers.pubsub import SUBSCRIPTION, PubSubServer, pubsub_server

NOW = datetime(2026, 11, 20, 6, 30, tzinfo=UTC)
RECEIVED = dg.AssetKey("received_events")


def told(n: int) -> bytes:
    at = (NOW - timedelta(minutes=n)).isoformat()
    fields = {"event_type": "sms_opened", "caregiver_id": "CG-1", "timestamp": at}
    return json.dumps({**fields, "metadata": {"message_id": f"M-{n}"}}).encode()


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSubServer]:
    with pubsub_server() as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.endpoint)
        yield server


@pytest.fixture
def settings(published_url: str, tmp_path: Path) -> Settings:
    """An installation that knows one caregiver."""
    folder = tmp_path / "events"
    folder.mkdir()
    settings = Settings(
        home=tmp_path, database_url=published_url, events_subscription=SUBSCRIPTION, events_folder=str(folder)
    )
    with Installation(settings).published() as connection:
        register_caregivers(connection, ["CG-1"], experiment=settings.experiment, seen_at=NOW)
    return settings


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@dataclass(frozen=True)
class Tick:
    """What a sensor's tick gave."""

    skip_message: str
    n_runs: int
    reported: list[tuple[str | None, int]]
    """Partition and rows of each materialization."""
    cursor: str | None


def tick(
    settings: Settings, name: str, instance: dg.DagsterInstance, *, now: datetime = NOW, cursor: str | None = None
) -> Tick:
    [sensor] = [each for each in event_sensors(settings) if each.name == name]
    context = dg.build_sensor_context(
        instance=instance, cursor=cursor, resources={"stores": Installation(settings), "clock": lambda: now}
    )
    said = sensor(context)
    if isinstance(said, dg.RunRequest):
        return Tick("", 1, [], cursor)
    if isinstance(said, dg.SkipReason):
        return Tick(said.skip_message or "", 0, [], cursor)
    assert isinstance(said, dg.SensorResult)
    assert isinstance(said.skip_reason, dg.SkipReason)
    events = [event for event in said.asset_events if isinstance(event, dg.AssetMaterialization)]
    return Tick(
        said.skip_reason.skip_message or "",
        0,
        [(event.partition, int(str(event.metadata["dagster/row_count"].value))) for event in events],
        said.cursor,
    )


def test_a_tick_takes_in_what_waits_and_tells_dagster_of_a_day_now_and_then(
    settings: Settings, broker: PubSubServer, instance: dg.DagsterInstance
) -> None:
    cursor, reported = None, []
    for minutes in range(0, 31, 5):
        broker.publish([told(-minutes)])
        now = NOW + timedelta(minutes=minutes)
        done = tick(settings, "events_from_subscription", instance, now=now, cursor=cursor)
        assert done.skip_message.startswith("1 messages: 1 new events")
        cursor = done.cursor
        reported.append(done.reported)
    assert reported == [[("2026-11-20", 1)], [], [], [("2026-11-20", 4)], [], [], [("2026-11-20", 7)]]
    assert broker.n_left == 0
    broker.publish([told(-30)])
    done = tick(settings, "events_from_subscription", instance, now=NOW + timedelta(minutes=31))
    assert "0 new events, 1 known" in done.skip_message


def test_what_changed_within_the_quarter_is_told_after_it_though_nothing_came_since(
    settings: Settings, broker: PubSubServer, instance: dg.DagsterInstance
) -> None:
    cursor = None
    for minutes, expected in ((0, [1]), (5, []), (14, []), (15, [2]), (30, [])):
        if minutes < 10:
            broker.publish([told(-minutes)])
        done = tick(settings, "events_from_subscription", instance, now=NOW + timedelta(minutes=minutes), cursor=cursor)
        cursor = done.cursor
        assert [n_rows for _, n_rows in done.reported] == expected, minutes


def test_a_file_starts_one_run_which_takes_it_in_and_no_other(settings: Settings, instance: dg.DagsterInstance) -> None:
    assert tick(settings, "events_from_files", instance).skip_message == "no new files"
    put(settings, told(1), told(2))
    assert tick(settings, "events_from_files", instance).n_runs == 1
    done = run_files(settings, instance)
    assert done.success
    materialized = [event for event in done.all_events if event.event_type_value == "ASSET_MATERIALIZATION"]
    assert [(event.asset_key, event.partition) for event in materialized] == [(RECEIVED, "2026-11-20")]
    assert tick(settings, "events_from_files", instance).skip_message == "no new files"


def test_a_file_that_is_cut_off_does_not_keep_the_others(settings: Settings, instance: dg.DagsterInstance) -> None:
    put(settings, gzip.compress(told(1) * 100)[:-8], name="a.jsonl.gz")
    put(settings, told(2), name="b.jsonl")
    done = run_files(settings, instance)
    assert not done.success
    [failure] = [event for event in done.all_events if event.is_step_failure]
    assert "a.jsonl.gz is not whole" in str(failure.event_specific_data)
    assert "b.jsonl" not in str(failure.event_specific_data)
    assert Installation(settings).lake.require("received_events", "2026-11-20").n_rows() == 1


def test_after_a_failed_run_files_are_left_alone_for_a_while(settings: Settings, instance: dg.DagsterInstance) -> None:
    put(settings, told(1))
    folder = Path(settings.home) / "lake" / "received_events"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where a folder has to be")
    assert not run_files(settings, instance).success
    ended = instance.get_run_records(limit=1)[0].end_time
    assert ended is not None
    soon, later = (datetime.fromtimestamp(ended, UTC) + timedelta(minutes=minutes) for minutes in (9, 11))
    assert "the last run failed" in tick(settings, "events_from_files", instance, now=soon).skip_message
    assert tick(settings, "events_from_files", instance, now=later).n_runs == 1


def test_a_sensor_runs_by_itself_only_where_its_source_is_configured(settings: Settings) -> None:
    def running(configured: Settings) -> list[bool]:
        return [each.default_status == dg.DefaultSensorStatus.RUNNING for each in event_sensors(configured)]

    assert running(settings) == [True, True]
    assert running(settings.model_copy(update={"events_folder": None})) == [True, False]
    assert running(settings.model_copy(update={"events_subscription": None})) == [False, True]


def put(settings: Settings, *lines: bytes, name: str = "told.jsonl") -> None:
    path = Path(str(settings.events_folder)) / name
    path.write_bytes(b"\n".join(lines))
    changed = (NOW - timedelta(minutes=1)).timestamp()
    os.utime(path, (changed, changed))


def run_files(settings: Settings, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = build_definitions(settings, lambda: NOW).resolve_job_def("ingest_event_files")
    return job.execute_in_process(instance=instance, raise_on_error=False)
