"""A site in the test's time: PostgreSQL with a replica as the source, code server, daemon, a broker, a webhook.

Here is how it is built, how time passes on it, and what can be seen of it. What happens on which day belongs to
scenario, and what has to come of it to the tests.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import psycopg

from bandicoot_core.calendar import PROGRAMME_TIME_ZONE
from bandicoot_core.demo import stored_programme
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.demo_source import extend_demo
from tests.fortnight.moved_clock import MovedClock
from tests.servers.alarm_receivers import Hook, webhook_server
from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.servers.processes import free_port, kill, private_folder
from tests.servers.pubsub import SUBSCRIPTION, PubSubServer, pubsub_server

N_CAREGIVERS = 800
SEED = 11
BUDGET = 12
DATABASE = "programme"
_A_LOOK = timedelta(seconds=61)
"""After so long every sensor is due again."""
_A_TURN = timedelta(seconds=6)
"""After so long the daemon takes runs from the queue again."""
_PATIENCE_SECONDS = 240
_LOOPS = ("SENSOR", "SCHEDULER")
_OPTIONS = {
    "BANDICOOT_BUDGET": str(BUDGET),
    "BANDICOOT_LOOKBACK_DAYS": "28",
    "BANDICOOT_TRAINING_WEEKS": "6",
    "BANDICOOT_N_CLUSTERS": "4",
    "BANDICOOT_N_DRAWS": "200",
    "BANDICOOT_SIMULATED_CAREGIVERS": "200",
    "BANDICOOT_SIMULATED_COHORTS": "2",
    "BANDICOOT_SIMULATED_PROGRAMMES": "1",
}


@dataclass(frozen=True)
class Told:
    """What the webhook was told, and when (UTC, in the test's time)."""

    at: datetime
    text: str

    @property
    def subject(self) -> str:
        """The first line, without its emphasis and the project's name."""
        return self.text.splitlines()[0].strip("*").removeprefix("Bandicoot ")


@dataclass(frozen=True)
class Run:
    """A run of Dagster's as its storage has it; moments in UTC, None as long as they have not come."""

    run_id: str
    job: str
    partition: str
    status: str
    began_at: datetime | None
    ended_at: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")


@dataclass(frozen=True)
class Published:
    """A list that was published: of which day, when (UTC), by which models, and whom it names in the order of ranks."""

    call_date: date
    published_at: datetime
    models: tuple[str, ...]
    caregiver_ids: tuple[str, ...]


@dataclass
class FortnightSite:
    """The running site. Whoever kills the daemon starts it again."""

    folder: Path
    clock: MovedClock
    primary: DebianPostgres
    replica: DebianPostgres
    hook: Hook
    broker: PubSubServer
    told: list[Told] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    """How long parts of the test took, in real time."""
    _connections: dict[str, psycopg.Connection] = field(default_factory=dict)
    _processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    # ---- settings

    @cached_property
    def settings(self) -> Settings:
        """The installation's settings, as its processes read them from their environment."""
        return Settings(
            home=self.folder / "home",
            database_url=self.primary.url(DATABASE),
            source_url=self.replica.url(DATABASE),
            lookback_days=int(_OPTIONS["BANDICOOT_LOOKBACK_DAYS"]),
        )

    @cached_property
    def installation(self) -> Installation:
        """The stores, as seen by the test."""
        return Installation(self.settings)

    @property
    def _environment(self) -> Mapping[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BANDICOOT", "DAGSTER"))}
        return {
            **inherited,
            **_OPTIONS,
            **self.clock.environment,
            "BANDICOOT_HOME": str(self.folder / "home"),
            "BANDICOOT_DATABASE_URL": self.primary.url(DATABASE),
            "BANDICOOT_SOURCE_URL": self.replica.url(DATABASE),
            "BANDICOOT_ALARM_WEBHOOK_URL": self.hook.url,
            "BANDICOOT_EVENTS_SUBSCRIPTION": SUBSCRIPTION,
            "PUBSUB_EMULATOR_HOST": self.broker.endpoint,
            "BANDICOOT_DAGSTER_STORAGE": self.installation.dagster_storage_url,
            "DAGSTER_HOME": str(self.folder / "home" / "dagster"),
            "DAGSTER_EVENT_BATCH_SIZE": "500",
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
        }

    # ---- processes

    def begin(self) -> None:
        """The programme, its history, a champion and the list of the first day; then code server and daemon."""
        with self.timed("beginning"):
            self._run("tests.fortnight.beginning", str(N_CAREGIVERS), str(SEED))
        with self.timed("starting the code server"):
            port = free_port()
            (self.folder / "workspace.yaml").write_text(
                f"load_from:\n  - grpc_server: {{host: localhost, port: {port}, location_name: bandicoot}}\n"
            )
            self._start("code server", "tests.fortnight.code_server", "--port", str(port))
            self.wait("the code server", lambda: _listens(port))
        with self.timed("starting the daemon"):
            self.start_daemon()

    def start_daemon(self) -> None:
        """Start the daemon and let it look once at everything."""
        turns = self.folder / "turns"
        shutil.rmtree(turns, ignore_errors=True)
        turns.mkdir()
        self._start("daemon", "tests.fortnight.daemon", str(turns), "-w", str(self.folder / "workspace.yaml"))
        self.wait("the daemon", lambda: all(self._turn(loop) for loop in _LOOPS))

    def kill_daemon(self) -> None:
        """kill -9 of the daemon."""
        kill(self._processes.pop("daemon"))

    def end(self) -> None:
        """End what was started."""
        for process in self._processes.values():
            kill(process)
        for connection in self._connections.values():
            connection.close()
        self.installation.close()

    def _start(self, name: str, module: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=self.folder,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _run(self, module: str, *arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env=dict(self._environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]

    def wait(self, what: str, is_so: Callable[[], bool]) -> None:
        """Wait until something is so; AssertionError with what the processes said when one ends, or it takes long."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not is_so():
            dead = [name for name, process in self._processes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise AssertionError(f"{what}: {dead or 'nobody'} ended\n{self.logs()}")
            time.sleep(0.02)

    def logs(self) -> str:
        """The ends of what the processes have said."""
        return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-4000:]}" for log in self.folder.glob("*.log"))

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Add up how long something takes."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[what] = self.seconds.get(what, 0.0) + time.monotonic() - began

    # ---- time

    def pass_until(self, moment: datetime) -> None:
        """Let time pass up to a moment and wait until all that it starts is over."""
        self.clock.set(moment)
        if "daemon" in self._processes:
            with self.timed("passing time with the daemon"):
                self.settle()
        self._note_what_was_told()

    def settle(self) -> None:
        """Wait until nothing is under way, and each sensor and schedule has looked and found nothing to start."""
        is_quiet = False
        while not is_quiet:
            self._finish_runs()
            n_runs = len(self.runs())
            self.clock.advance(_A_LOOK)
            self._look()
            self._note_what_was_told()
            is_quiet = len(self.runs()) == n_runs

    def _look(self) -> None:
        """Wait until each loop of the daemon has begun and ended a turn."""
        since = self.clock.now()

        def have_looked() -> bool:
            turns = [self._turn(loop) for loop in _LOOPS]
            if None in turns:
                return False  # at work
            if all(turn >= since for turn in turns if turn is not None):
                return True
            self.clock.advance(_A_LOOK)
            time.sleep(0.1)
            return False

        self.wait("sensors and schedules", have_looked)

    def _turn(self, loop: str) -> datetime | None:
        """When a loop that pauses began its last turn; None while it is at work."""
        try:
            return _instant((self.folder / "turns" / f"dagster-daemon-{loop}").read_text())
        except FileNotFoundError:
            return None

    def _finish_runs(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while waiting := [run for run in self.runs() if not run.is_over]:
            assert time.monotonic() < deadline, f"{waiting}\n{self.logs()}"
            if all(run.status == "QUEUED" for run in waiting):
                self.clock.advance(_A_TURN)
            time.sleep(0.2)

    def _note_what_was_told(self) -> None:
        for posted in self.hook.posted[len(self.told) :]:
            self.told.append(Told(self.clock.now(), posted["text"]))

    # ---- the programme

    def close_day_in_source(self, day: date) -> None:
        """Everything that happened on a day comes into the primary."""
        with self.timed("continuing the programme"):
            with self.installation.published() as connection:
                stored = stored_programme(connection)
            assert stored is not None
            extend_demo(self.installation, stored, day + timedelta(days=1), on_progress=lambda *_: None)

    def sql(
        self, statement: str, *parameters: object, server: DebianPostgres | None = None
    ) -> list[tuple[object, ...]]:
        """Run a statement on the primary, or another server, and return its rows."""
        url = (server or self.primary).url(DATABASE)
        if url not in self._connections:
            self._connections[url] = psycopg.connect(url, autocommit=True)
        cursor = self._connections[url].execute(statement, parameters)  # type: ignore[call-overload]
        return list(cursor.fetchall()) if cursor.description else []

    # ---- looking

    def runs(self) -> list[Run]:
        """All runs since the beginning, the oldest first."""
        rows = self.sql(
            "SELECT run_id, pipeline_name, partition, status, start_time, end_time FROM dagster.runs ORDER BY id"
        )
        return [Run(*row[:3], row[3], *map(_instant, row[4:])) for row in rows]  # type: ignore[arg-type,misc]

    def lists(self) -> list[Published]:
        """All lists that were published, by day."""
        rows = self.sql(
            "SELECT p.call_date, p.published_at, array_agg(DISTINCT l.model_version), "
            "array_agg(l.caregiver_id ORDER BY l.rank) FROM bandicoot.list_publications AS p "
            "JOIN bandicoot.call_list AS l USING (call_date) GROUP BY p.call_date, p.published_at ORDER BY p.call_date"
        )
        return [Published(day, at.astimezone(UTC), tuple(models), tuple(ids)) for day, at, models, ids in rows]  # type: ignore[attr-defined,arg-type]


@contextmanager
def fortnight_site(begins_at: datetime) -> Iterator[FortnightSite]:
    """A site whose time begins at an aware moment; all that was started is ended on exit."""
    with ExitStack() as stack:
        clock = MovedClock(stack.enter_context(private_folder("clock")), begins_at)
        folder = stack.enter_context(private_folder("fortnight"))
        folder.chmod(0o755)
        primary = stack.enter_context(
            debian_postgres(
                environment=clock.environment,
                timezone=PROGRAMME_TIME_ZONE.key,
                wal_keep_size="256MB",
                # A moved clock is no silence: these two count by the wall clock.
                wal_sender_timeout="0",
                wal_receiver_timeout="0",
                max_connections="100",
            )
        )
        primary.create_database(DATABASE)
        replica = stack.enter_context(
            # As docs/operations.md has it; and waiting counts by the wall clock, which is moved.
            primary.replica(hot_standby_feedback="on", max_standby_streaming_delay="-1")
        )
        hook = stack.enter_context(webhook_server())
        broker = stack.enter_context(pubsub_server(seed=SEED, repeated_share=0.1, is_shuffled=True))
        broker.wait_seconds = 0.05
        site = FortnightSite(folder, clock, primary, replica, hook, broker)
        stack.callback(site.end)
        yield site


def india(day: date, clock_time: str) -> datetime:
    """A moment by its day and wall clock (HH:MM or HH:MM:SS) in India."""
    return datetime.fromisoformat(f"{day} {clock_time}").replace(tzinfo=PROGRAMME_TIME_ZONE)


def _instant(seconds: object) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(float(str(seconds)), UTC)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0
