"""A small installation on a server of its own that faults are tried on, and the questions asked after each.

Two lists of one day, by budget, take turns: the list of a try is always another one than the list before it, so that
old and new can be told apart. How a fault is brought about belongs to the tests.
"""

import hashlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from psycopg import sql

from bandicoot_core.contracts import PUBLISHED_CALL_LIST
from bandicoot_core.errors import CorruptPartitionError
from bandicoot_core.settings import Settings, load_list_options, load_model_options
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.call_lists import Publication, last_publication, read_call_list
from bandicoot_core.stores.published.contract_checks import require_contract
from bandicoot_core.stores.published.tables import PUBLISHED_TABLES
from bandicoot_dagster.catch_up import catch_up
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from bandicoot_dagster.demo_source import fill_demo
from bandicoot_dagster.launch import execute_step
from bandicoot_dagster.plan import Step
from tests.faults.child_run import ChildRun, Outcome
from tests.faults.list_reader import ListReader
from tests.faults.record import BY_ITSELF, RUN_AGAIN, FaultRecord

CALL_DATE = date(2026, 11, 19)
DAY_BEFORE = CALL_DATE - timedelta(days=1)
NOON = datetime(2026, 11, 19, 6, 30, tzinfo=UTC)
N_CAREGIVERS = 600
BUDGETS = (20, 35)


class Work(Enum):
    """What a run does, from little to much."""

    PUBLICATION = "the list in the lake is published"
    EXTRACTION = "the messages of the day before are read from the source again; the list stays"
    LIST = "the list is made, checked and published"
    NIGHT_AND_LIST = "the day before is closed, then the list"


LIST_KEY = ("call_list", CALL_DATE.isoformat())
_STAMPS = ["run_id", "published_at"]


@dataclass(frozen=True)
class Seen:
    """What the stores hold at a moment at which nothing runs."""

    rows: pa.Table
    publication: Publication | None
    others: Mapping[str, str]
    """Table -> digest of its rows, those about CALL_DATE's list left out."""
    lake: Mapping[tuple[str, str], str]
    """(asset, partition) -> digest of manifest and files, or what is wrong with it."""

    @property
    def is_whole(self) -> bool:
        """Whether the list keeps its contract, is ranked 1..n, and is as long as its publication says."""
        require_contract(self.rows, PUBLISHED_CALL_LIST)
        n_rows = self.rows.num_rows
        publication = self.publication
        return (
            publication is not None
            and n_rows == publication.n_rows
            and self.rows["rank"].to_pylist() == list(range(1, n_rows + 1))
            and set(self.rows["run_id"].to_pylist()) <= {publication.run_id}
            and set(self.rows["published_at"].to_pylist()) <= {publication.published_at}
        )

    @property
    def unstamped(self) -> pa.Table:
        """The list without the run and instant of its publication."""
        return self.rows.drop_columns(_STAMPS)


@dataclass
class Site:
    """The installation, its reference lists, and the record of what faults did to it."""

    home: Path
    seed: int
    records: dict[str, FaultRecord] = field(default_factory=dict)
    references: dict[int, Seen] = field(default_factory=dict)
    seconds: dict[Work, float] = field(default_factory=dict)
    """How long a run takes."""

    def __post_init__(self) -> None:
        self.settings = Settings(home=self.home, lookback_days=28)
        self.installation = Installation(self.settings)
        self._digests: dict[tuple[object, ...], str] = {}
        self._supervisor: threading.Timer | None = None

    # ---- making it

    def build(self) -> None:
        """The demo programme, its champion, and both lists."""
        self.installation.prepare()
        fill_demo(self.installation, n_caregivers=N_CAREGIVERS, seed=11, day=CALL_DATE, on_progress=lambda *_: None)
        catch_up(
            self.installation,
            CALL_DATE,
            list_options=load_list_options(budget=BUDGETS[0]),
            model_options=load_model_options(training_weeks=6, n_clusters=4, n_draws=200),
            say=lambda _line: None,
            clock=lambda: NOON,
        )
        for budget, work in ((BUDGETS[1], Work.NIGHT_AND_LIST), (BUDGETS[0], Work.LIST)):
            started = time.monotonic()
            self.must_run(work, budget)
            self.seconds[work] = time.monotonic() - started
            self.references[budget] = self.look()
            assert self.references[budget].rows.num_rows == budget
            shutil.copytree(self._list_folder, self.home / f"list of {budget}")
        assert not self.differences(self.references[BUDGETS[0]], self.references[BUDGETS[1]])

    def generator(self, fault: str) -> np.random.Generator:
        """Random numbers that depend on the seed and the fault alone."""
        return np.random.default_rng([self.seed, int.from_bytes(hashlib.sha256(fault.encode()).digest()[:4])])

    # ---- the server

    @property
    def server(self) -> embedded.EmbeddedServer:
        """The server, started when it is down."""
        return embedded.start(self.home)

    @property
    def socket_path(self) -> Path:
        """Where the server listens."""
        return next(self.server.socket_dir.glob(".s.PGSQL.*[0-9]"))

    def kill_server(self) -> None:
        """kill -9 for the postmaster."""
        record = embedded.data_dir_for(self.home) / "postmaster.pid"
        os.kill(int(record.read_text().split()[0]), signal.SIGKILL)

    def restart_after(self, seconds: float) -> None:
        """Start the server again beside what runs, as a supervisor would."""
        self._supervisor = threading.Timer(seconds, embedded.start, [self.home])
        self._supervisor.start()

    def url_through(self, port: int, name: str = "under_fault") -> str:
        """The server's URL by way of a proxy."""
        return (
            f"postgresql://postgres@127.0.0.1:{port}/{self.server.database}"
            f"?sslmode=disable&gssencmode=disable&application_name={name}"
        )

    def settings_with(self, **urls: str) -> Settings:
        """The site's settings with some servers reached another way."""
        direct = self.server.url
        storage = self.installation.dagster_storage_url
        return Settings(
            **{
                "home": self.home,
                "lookback_days": self.settings.lookback_days,
                "database_url": direct,
                "source_url": direct,
                "dagster_storage_url": storage,
                **urls,
            }
        )

    # ---- running

    def prepare(self, work: Work) -> int:
        """Make ready for a run of some work; returns the budget of the list it will leave.

        That is another list than the published one, so that a run has something to do, but after an extraction.
        """
        with self.installation.published() as connection:
            publication = last_publication(connection, CALL_DATE)
        assert publication is not None
        current = publication.n_rows
        other = BUDGETS[1] if current == BUDGETS[0] else BUDGETS[0]
        if work == Work.PUBLICATION:
            shutil.copytree(self.home / f"list of {other}", self._list_folder, dirs_exist_ok=True)
        return current if work == Work.EXTRACTION else other

    def start(self, work: Work, budget: int, settings: Settings | None = None) -> ChildRun:
        """Work in a process of its own."""
        return ChildRun(partial(run_work, settings or self.settings, work, budget))

    def must_run(self, work: Work, budget: int) -> None:
        """The same without any fault."""
        outcome = self.start(work, budget).finish()
        assert outcome.is_success, f"{outcome.message}\n{outcome.trace}"

    @property
    def _list_folder(self) -> Path:
        return Path(str(self.installation.lake.folder(*LIST_KEY)))

    # ---- looking

    def look(self) -> Seen:
        """What the stores hold now; the server is started when it is down."""
        if self._supervisor is not None:
            self._supervisor.join()
        self.server  # noqa: B018
        with self.installation.published() as connection:
            others = {}
            for table, contract in PUBLISHED_TABLES.items():
                is_dated = table in ("call_list", "list_publications")
                condition = sql.SQL("call_date <> {}").format(sql.Literal(CALL_DATE)) if is_dated else sql.SQL("true")
                columns = sql.SQL(", ").join(map(sql.Identifier, contract.column_names))
                row = connection.execute(
                    sql.SQL(
                        "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' ORDER BY t::text)), '') "
                        "FROM (SELECT {} FROM bandicoot.{} WHERE {}) AS t"
                    ).format(columns, sql.Identifier(table), condition)
                ).fetchone()
                others[table] = row[0] if row else ""
            publication = last_publication(connection, CALL_DATE)
            rows = read_call_list(connection, CALL_DATE) if publication else PUBLISHED_CALL_LIST.empty()
        return Seen(rows, publication, others, self._lake())

    def _lake(self) -> dict[tuple[str, str], str]:
        found = {}
        for folder in Path(self.settings.lake_path).glob("*/*"):
            key = (folder.parent.name, folder.name)
            try:
                manifest = self.installation.lake.manifest(*key)
            except CorruptPartitionError as error:
                found[key] = str(error)
                continue
            if manifest is None:
                continue
            broken = [
                entry.name
                for entry in manifest.entries.values()
                if not (folder / entry.name).exists() or self._digest(folder / entry.name) != entry.sha256
            ]
            if folder.parent.name == "model_version":
                # What was decided depends on who was champion before: that is no content.
                manifest = replace(manifest, facts={})
            found[key] = f"broken: {broken}" if broken else hashlib.sha256(manifest.to_json().encode()).hexdigest()
        return found

    def _digest(self, path: Path) -> str:
        """The digest of a file, read only when its entry in the folder has changed."""
        known = path.stat()
        key = (str(path), known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns)
        if key not in self._digests:
            self._digests[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self._digests[key]

    @staticmethod
    def differences(before: Seen, after: Seen) -> list[str]:
        """What differs beside the list of CALL_DATE, which the run was for."""
        tables = [name for name in before.others if before.others[name] != after.others[name]]
        keys = (before.lake.keys() | after.lake.keys()) - {LIST_KEY}
        partitions = sorted("/".join(key) for key in keys if before.lake.get(key) != after.lake.get(key))
        return tables + partitions

    # ---- asking

    def answer(
        self,
        fault: str,
        work: Work,
        before: Seen,
        outcome: Outcome,
        *,
        wanted: int,
        reader: ListReader | None = None,
        recover: Callable[[], object] | None = None,
        way: str = RUN_AGAIN,
        expected: Seen | None = None,
    ) -> None:
        """Ask the questions after a try, bring the site back to health, record the answers, and insist on them.

        `recover` is what a person does where running again is not enough; `way` names it in the table. `expected` is
        what everything else has to be in the end, where the fault itself has changed something.
        """
        record = self.records.setdefault(fault, FaultRecord(fault))
        after = self.look()
        is_old = after.rows.equals(before.rows) and after.publication == before.publication
        is_new = after.unstamped.equals(self.references[wanted].unstamped)
        is_lost = after.publication is None
        n_half_read, first_half = self._take_half(reader)
        is_half = not (is_lost or (after.is_whole and (is_old or is_new)))
        differences = self.differences(before, after)
        is_listed_in_lake = after.lake.get(LIST_KEY) in {seen.lake[LIST_KEY] for seen in self.references.values()}
        if recover is None and outcome.is_success and is_new:
            way = BY_ITSELF
        else:
            (recover or (lambda: None))()
            self.must_run(work, wanted)
        repeated = self.look()
        is_repeated = (
            repeated.unstamped.equals(self.references[wanted].unstamped)
            and repeated.is_whole
            and repeated.lake == self.references[wanted].lake
            and not self.differences(expected or before, repeated)
        )
        record.n_tried += 1
        record.n_lost += is_lost
        record.n_half += is_half + n_half_read
        record.n_old += is_old
        record.n_new += is_new and not is_old
        record.n_repeated += is_repeated
        record.n_unclear += not outcome.is_foreseen
        record.n_other_changes += bool(differences) or not is_listed_in_lake
        record.recovered[way] += 1
        assert not is_lost, f"{fault}: no list is left"
        assert not is_half, f"{fault}: {after.rows.num_rows} rows, {after.publication}, old {is_old}, new {is_new}"
        assert not n_half_read, f"{fault}: a reader saw part of a list {n_half_read} times, first {first_half}"
        assert outcome.is_foreseen, f"{fault}: {outcome.error_class}: {outcome.message}\n{outcome.trace}"
        assert not differences, f"{fault}: {differences} have changed"
        assert is_listed_in_lake, f"{fault}: the list in the lake is neither the old nor the new one"
        assert is_repeated, f"{fault}: not the same bytes after {way}: {self.differences(expected or before, repeated)}"

    @staticmethod
    def _take_half(reader: ListReader | None) -> tuple[int, object]:
        if reader is None:
            return 0, None
        n_half, reader.n_half = reader.n_half, 0
        return n_half, reader.first_half


def run_work(settings: Settings, work: Work, budget: int) -> None:
    """Run some work as the command line does."""
    installation = Installation(settings)
    definitions = build_definitions(settings, lambda: NOON)
    day, key = DAY_BEFORE.isoformat(), CALL_DATE.isoformat()
    config = {"ops": {"call_list": {"config": {"budget": budget}}}}
    night, of_the_day = Step("nightly", day, day, why="test"), Step("daily_list", key, key, why="test")
    with open_instance(installation) as instance:
        if work == Work.NIGHT_AND_LIST:
            execute_step(definitions, instance, night)
        if work == Work.EXTRACTION:
            execute_step(definitions, instance, night, only_asset="sms_events")
        elif work == Work.PUBLICATION:
            execute_step(definitions, instance, of_the_day, only_asset="published_call_list")
        else:
            execute_step(definitions, instance, of_the_day, run_config=config)
