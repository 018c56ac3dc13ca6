"""Events through crashes: a hundred thousand, told by a broker that repeats and shuffles them, while the database and
the broker go away and workers are killed. Afterwards none is lost and none is doubled.

The real client library talks to a local broker; the workers are processes, the database is Debian's PostgreSQL.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from bandicoot_core.calendar import day_of, start_of_day
from bandicoot_core.contracts import RECEIVED_EVENT_TYPES, RECEIVED_EVENTS
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.keys import read_keys
from tests.faults.conftest import EVENTS, N_TRIES, SEED
from tests.faults.record import EventsRecord
from tests.registered_caregivers import publish_everybody, register_caregivers
from tests.registered_models import register
from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.servers.pubsub import SUBSCRIPTION
from tests.servers.pubsub_process import PubSubProcess, pubsub_process

N_EVENTS = 100_000 if N_TRIES > 1 else 20_000
N_REPEATED = N_EVENTS // 20
N_POISONED = 500
N_UNKNOWN = 300
N_CAREGIVERS = 2_000
N_DAYS = 6
N_WORKERS = 2
MOST_STRIKES = 30
"""After so many the rest is taken in undisturbed: on a busy machine it would never come to an end."""
PATIENCE_SECONDS = 300

Event = tuple[str, str, datetime, str]
"""Caregiver, type as the lake calls it, instant and message."""


@dataclass
class Told:
    """What is published, and what must be left of it."""

    messages: list[bytes] = field(default_factory=list)
    events: set[Event] = field(default_factory=set)


@pytest.mark.parametrize("n", range(N_TRIES))
def test_events_survive_crashes_of_everything_none_lost_and_none_doubled(n: int) -> None:
    seed = SEED + n
    chance = random.Random(seed)  # noqa: S311
    today = day_of(datetime.now(UTC))
    told = tell(chance, today)
    with (
        debian_postgres(fsync="off") as server,
        pubsub_process(seed=seed, repeated_share=0.02, is_shuffled=True) as broker,
        tempfile.TemporaryDirectory(prefix="bandicoot-events-") as folder,
    ):
        stores = Installation(Settings(home=Path(folder), database_url=server.create_database()))
        stores.prepare()
        publish(stores, today)
        broker.publish(told.messages)
        started = time.monotonic()
        with workers(stores, broker, Path(folder)) as crew:
            strikes = strike_until_done(chance, server, broker, crew)
        seconds = time.monotonic() - started
        rows, kinds = lake_rows(stores), letters(stores)
        record = EventsRecord(
            seed=seed,
            n_messages=len(told.messages),
            n_deliveries=broker.n_delivered,
            seconds=seconds,
            strikes=strikes,
            n_expected=len(told.events),
            n_in_lake=len(rows),
            n_lost=len(told.events - set(rows)),
            n_doubled=len(rows) - len(set(rows)),
            n_letters_expected=N_POISONED + N_UNKNOWN,
            n_letters=sum(kinds.values()),
        )
        EVENTS.append(record)
        assert (record.n_lost, record.n_doubled, len(rows)) == (0, 0, len(told.events))
        assert kinds == {"refused": N_POISONED // 2, "unreadable": N_POISONED // 2, "unknown_caregiver": N_UNKNOWN}
        assert published(stores) == expected_states(told, today)
        assert strikes["database killed"] >= 1


def tell(chance: random.Random, today: date) -> Told:
    told = Told()
    first = start_of_day(today - timedelta(days=N_DAYS))
    span = int((datetime.now(UTC) - first).total_seconds())
    types = [*RECEIVED_EVENT_TYPES]
    texts = []
    while len(told.events) < N_EVENTS:
        number = len(told.events)
        caregiver, kind = f"CG-{chance.randrange(N_CAREGIVERS)}", chance.choice(types)
        at = first + timedelta(seconds=chance.randrange(span))
        told.events.add((caregiver, RECEIVED_EVENT_TYPES[kind], at, f"M-{number}"))
        texts.append(message(caregiver, kind, at, f"M-{number}"))
    poison = [b'{"event_type": "sms_opened"', message("CG-1", "sms_clicked", first, "M")]
    unknown = [message(f"CG-unknown-{n}", "sms_opened", first, f"M-{n}") for n in range(N_UNKNOWN)]
    told.messages = [*texts, *chance.sample(texts, N_REPEATED), *poison * (N_POISONED // 2), *unknown]
    return told


def message(caregiver_id: str, kind: str, at: datetime, message_id: str) -> bytes:
    fields = {"event_type": kind, "caregiver_id": caregiver_id, "timestamp": at.isoformat()}
    return json.dumps({**fields, "metadata": {"message_id": message_id}}).encode()


def publish(stores: Installation, today: date) -> None:
    """Everybody has a key and is unresponsive; the list of today is out, and empty."""
    names, began = [f"CG-{n}" for n in range(N_CAREGIVERS)], start_of_day(today)
    with stores.published() as connection:
        register(connection, "m-1")
        register_caregivers(connection, names, experiment=stores.settings.experiment, seen_at=began)
        publish_everybody(connection, N_CAREGIVERS, "U", call_date=today, run_id="run", published_at=began)


class Crew:
    """Workers, each of which can be killed; another takes its place at once."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        self._stop = folder / "stop"
        self._log = folder / "workers.log"
        self._workers = [self._hire() for _ in range(N_WORKERS)]

    def kill_one(self, number: int) -> None:
        self._workers[number].kill()
        self._workers[number].wait()
        self._workers[number] = self._hire()

    def dismiss(self) -> None:
        self._stop.touch()
        for worker in self._workers:
            assert worker.wait(timeout=120) == 0, self._log.read_text()[-3000:]

    def check(self) -> None:
        assert all(worker.poll() is None for worker in self._workers), self._log.read_text()[-3000:]

    def kill_all(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()

    def _hire(self) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            command = [sys.executable, "-m", "tests.faults.event_worker", str(self._stop)]
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)


@contextmanager
def workers(stores: Installation, broker: PubSubProcess, folder: Path) -> Iterator[Crew]:
    url = stores.settings.database_url
    assert url is not None
    environment = {
        **os.environ,
        "BANDICOOT_HOME": str(folder),
        "BANDICOOT_DATABASE_URL": url.get_secret_value(),
        "BANDICOOT_EVENTS_SUBSCRIPTION": SUBSCRIPTION,
        "BANDICOOT_EVENTS_TIMEOUT_SECONDS": "3",
        "PUBSUB_EMULATOR_HOST": broker.endpoint,
    }
    crew = Crew(environment, folder)
    try:
        yield crew
        crew.dismiss()
    finally:
        crew.kill_all()


def strike_until_done(chance: random.Random, server: DebianPostgres, broker: PubSubProcess, crew: Crew) -> Counter[str]:
    strikes: Counter[str] = Counter()
    until = time.monotonic() + PATIENCE_SECONDS

    def database_killed() -> None:
        server.kill()
        time.sleep(chance.uniform(0.1, 2))
        server.start()

    def broker_gone() -> None:
        broker.stop()
        time.sleep(chance.uniform(0.1, 1))
        broker.start()

    ways = {
        "database killed": database_killed,
        "worker killed": lambda: crew.kill_one(chance.randrange(N_WORKERS)),
        "broker gone": broker_gone,
        "broker refuses": lambda: broker.refuse(chance.uniform(0.1, 1)),
        "leases ended": broker.end_leases,
    }
    # The database first: that is what must be seen in every try.
    order = ["database killed", *chance.choices(list(ways), k=MOST_STRIKES - 1)]
    for what in order:
        pause = time.monotonic() + chance.uniform(0.5, 3)
        while broker.n_left and time.monotonic() < pause:
            time.sleep(0.05)
        if not broker.n_left:
            break
        ways[what]()
        strikes[what] += 1
        crew.check()
        assert time.monotonic() < until, f"{broker.n_left} messages are left after {PATIENCE_SECONDS} s"
    while broker.n_left:
        time.sleep(0.1)
        crew.check()
        assert time.monotonic() < until
    return strikes


def lake_rows(stores: Installation) -> list[Event]:
    with stores.published() as connection:
        keys = read_keys(connection, experiment=stores.settings.experiment).to_pylist()
    ids = {row["caregiver_key"]: row["caregiver_id"] for row in keys}
    rows: list[Event] = []
    for day in stores.lake.partitions("received_events"):
        for row in stores.lake.read(RECEIVED_EVENTS, "received_events", day).to_pylist():
            assert day_of(row["occurred_at"]).isoformat() == day
            rows.append((ids[row["caregiver_key"]], row["event_type"], row["occurred_at"], row["message_id"]))
    return rows


def letters(stores: Installation) -> dict[str, int]:
    with stores.published() as connection:
        return dict(connection.execute("SELECT kind, count(*) FROM bandicoot.dead_letters GROUP BY kind").fetchall())


def published(stores: Installation) -> dict[str, tuple[str, date | None]]:
    url = stores.settings.database_url
    assert url is not None
    with psycopg.connect(url.get_secret_value()) as connection:
        rows = connection.execute("SELECT caregiver_id, state, last_open_date FROM bandicoot.caregiver_states")
        return {name: (state, opened) for name, state, opened in rows}


def expected_states(told: Told, today: date) -> dict[str, tuple[str, date | None]]:
    last: dict[str, date] = {}
    for name, kind, at, _ in told.events:
        if kind == "opened":
            last[name] = max(day_of(at), last.get(name, date.min))
    first = today - timedelta(days=7)
    return {
        name: ("R" if name in last and last[name] >= first else "U", last.get(name))
        for name in (f"CG-{n}" for n in range(N_CAREGIVERS))
    }
