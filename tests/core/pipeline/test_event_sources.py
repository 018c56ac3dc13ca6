"""Subscriptions and folders of events: acknowledged when kept, handed back when not, and each file once."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bandicoot_core.errors import TransientError
from bandicoot_core.pipeline.event_sources import consume_subscription, ingest_file, new_files
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from tests.registered_caregivers import register_caregivers
from tests.servers.debian_postgres import debian_postgres
from tests.servers.pubsub import SUBSCRIPTION, PubSubServer, pubsub_server

NOW = datetime(2026, 11, 20, 6, 30, tzinfo=UTC)


def told(n: int, caregiver_id: str = "CG-1") -> str:
    at = (NOW - timedelta(hours=n)).isoformat()
    fields = {"event_type": "sms_opened", "caregiver_id": caregiver_id, "timestamp": at}
    return json.dumps({**fields, "metadata": {"message_id": f"M-{n}"}})


@pytest.fixture
def stores(published_url: str, tmp_path: Path) -> Installation:
    return _installation(published_url, tmp_path)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSubServer]:
    with pubsub_server() as server:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", server.endpoint)
        yield server


def consume(stores: Installation, *, messages_at_once: int = 100) -> tuple[int, int]:
    subscription = stores.event_subscription()
    assert subscription is not None
    with subscription:
        total = consume_subscription(
            stores,
            subscription,
            clock=lambda: NOW,
            seconds=60,
            holder="test",
            messages_at_once=messages_at_once,
        )
    return total.n_new, total.n_dead


def ingest_new(stores: Installation, folder: Path, now: datetime) -> list[tuple[str, int, int]]:
    found = []
    for file in new_files(stores, str(folder), now=now):
        total = ingest_file(stores, file, clock=lambda: now, holder="test")
        found.append((Path(file.uri).name, total.n_new, total.n_dead))
    return found


def put(path: Path, *lines: str, now: datetime) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(lines))
    os.utime(path, (now.timestamp(), now.timestamp()))


def test_everything_that_waits_is_taken_in_batch_by_batch_and_acknowledged(
    stores: Installation, broker: PubSubServer
) -> None:
    broker.publish([*(told(n).encode() for n in range(25)), b"{"])
    assert consume(stores, messages_at_once=10) == (25, 1)
    assert broker.n_left == 0
    assert consume(stores) == (0, 0)


def test_what_could_not_be_kept_is_handed_back_at_once_and_comes_again(broker: PubSubServer, tmp_path: Path) -> None:
    broker.publish([told(n).encode() for n in range(5)])
    with debian_postgres() as server:
        stores = _installation(server.create_database(), tmp_path)
        server.kill()
        with pytest.raises(TransientError):
            consume(stores)
        assert broker.n_left == 5
        server.start()
        assert consume(stores) == (5, 0)
    assert (broker.n_left, broker.n_delivered) == (0, 10)


def test_each_file_is_taken_in_once_and_again_only_when_it_has_changed(stores: Installation, tmp_path: Path) -> None:
    folder = tmp_path / "events"
    put(folder / "a.jsonl", told(1), told(2), "{", now=NOW)
    header = "event_type,caregiver_id,timestamp,message_id"
    put(folder / "b.csv", header, f"sms_opened,CG-1,{NOW.isoformat()},M-0", now=NOW)
    later = NOW + timedelta(minutes=1)
    assert ingest_new(stores, folder, NOW) == []
    assert ingest_new(stores, folder, later) == [("a.jsonl", 2, 1), ("b.csv", 1, 0)]
    assert ingest_new(stores, folder, later) == []
    put(folder / "a.jsonl", told(1), told(2), told(3), now=later)
    assert ingest_new(stores, folder, later + timedelta(minutes=1)) == [("a.jsonl", 1, 0)]
    with stores.published() as connection:
        assert connection.execute("SELECT count(*) FROM bandicoot.dead_letters").fetchone() == (0,)
        query = "SELECT n_records, n_new, n_dead FROM bandicoot.ingested_files ORDER BY uri"
        rows = connection.execute(query).fetchall()
    assert rows == [(3, 1, 0), (1, 1, 0)]


def _installation(url: str, home: Path) -> Installation:
    stores = Installation(Settings(home=home, database_url=url, events_subscription=SUBSCRIPTION))
    stores.prepare()
    with stores.published() as connection:
        register_caregivers(connection, ["CG-1"], experiment=stores.settings.experiment, seen_at=NOW)
    return stores
