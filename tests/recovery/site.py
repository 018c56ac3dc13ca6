"""A small programme on servers of its own that can be lost: PostgreSQL with an archive, Redis, a lake, and the source.

The source is on another server, as a programme's is, so that it stays when the published schema's server goes back in
time. What is lost, and how it comes back, belongs to the tests.
"""

import hashlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bandicoot_core.pipeline.republishing import REBUILT
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.tables import PUBLISHED_TABLES
from bandicoot_dagster.demo_source import fill_demo
from tests.recovery.guide import BACKUPS, blocks, run_bandicoot
from tests.servers.debian_postgres import DebianPostgres
from tests.servers.processes import give_away, program, run
from tests.servers.redis import RedisServer

TODAY = date(2026, 11, 16)
DAY_BEFORE = TODAY - timedelta(days=1)
N_CAREGIVERS = 800
OWNER, PASSWORD = "bandicoot_owner", "change me"
NEW_CAREGIVER = "ZZ-enrolled-last"

_STAMPS = (
    "run_id",
    "published_at",
    "created_at",
    "promoted_at",
    "promotion_run_id",
    "states_as_of_date",
    "as_of_date",
)
"""Columns that say which run wrote a row that the lake brings back, when, and with which of them it last changed."""


@dataclass(frozen=True)
class Kept:
    """What the stores hold."""

    published: Mapping[str, bytes]
    """Table -> its rows as PostgreSQL writes them out, without the stamps of who wrote them in rebuilt ones."""
    lake: Mapping[str, str]
    """Partition -> digest of its manifest, which has the digests of its files."""


@dataclass
class Site:
    """The servers, the variables of the guide, and the ways tests drive and look at them."""

    home: Path
    backups: Path
    server: DebianPostgres
    source_url: str
    redis: RedisServer
    seconds: dict[str, float] = field(default_factory=dict)
    """Runbook -> how long it took, for the table at the end."""

    @property
    def owner_url(self) -> str:
        return self.server.url("bandicoot", user=OWNER, password=PASSWORD)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the guide and of the installation."""
        return {
            "BANDICOOT_HOME": str(self.home),
            "BANDICOOT_DATABASE_URL": self.owner_url,
            "BANDICOOT_SOURCE_URL": self.source_url,
            "BANDICOOT_REDIS_URL": self.redis.url,
            "BANDICOOT_LOOKBACK_DAYS": "14",
            "BANDICOOT_TRAINING_WEEKS": "4",
            "BANDICOOT_MIN_PASSIVE_WEEKS": "2",
            "BANDICOOT_N_CLUSTERS": "4",
            "BANDICOOT_N_DRAWS": "200",
            "BANDICOOT_BUDGET": "20",
            "DAGSTER_HOME": str(self.home / "dagster"),
            "DAGSTER_EVENT_BATCH_SIZE": "500",
            "SUPERUSER_URL": self.server.url(),
            "PGDATA": str(self.server.data_dir),
            "TODAY": TODAY.isoformat(),
            "DAY_BEFORE": DAY_BEFORE.isoformat(),
        }

    def settings(self) -> Settings:
        return Settings(
            home=self.home,
            database_url=self.owner_url,
            source_url=self.source_url,
            redis_url=self.redis.url,
            lookback_days=14,
        )

    # ---- making it

    def build(self) -> None:
        """The archive as the guide has it, an owner, the programme moved to its own server, and the first list."""
        (archive,) = blocks("Back up", "ini")
        settings = "".join(f"{name} = '{value}'\n" for name, value in self.server.settings.items())
        with (self.server.data_dir / "postgresql.conf").open("a") as configuration:
            configuration.write(settings + archive.replace(BACKUPS, str(self.backups)))
        self.server.restart()
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
            connection.execute(f"CREATE DATABASE bandicoot OWNER {OWNER}")
        filling = Installation(Settings(home=self.home, database_url=self.owner_url, lookback_days=14))
        filling.prepare()
        fill_demo(filling, n_caregivers=N_CAREGIVERS, seed=11, day=TODAY, on_progress=lambda *_: None)
        filling.close()
        self._move_the_source()
        self.bandicoot("bandicoot database roles")
        self.bandicoot("bandicoot run --as-of $DAY_BEFORE")

    def _move_the_source(self) -> None:
        dump = self.home / "source.sql"
        tables = [program("pg_dump"), f"--dbname={self.owner_url}", "--schema=suvita_production", "--no-owner"]
        subprocess.run([*tables, f"--file={dump}"], check=True)
        load = [program("psql"), self.source_url, "--quiet", "--set=ON_ERROR_STOP=1", f"--file={dump}"]
        subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
        with psycopg.connect(self.owner_url) as connection:
            connection.execute("DROP SCHEMA suvita_production CASCADE")

    # ---- living on

    def bandicoot(self, line: str) -> str:
        """What one of the project's commands says, which has to succeed."""
        code, said = run_bandicoot(line, self.environment)
        assert code == 0, f"{line}\nended with {code}: {said}"
        return said

    def record_calls(self, n_calls: int) -> None:
        """Outcomes of the first on the list of the day before, as a call centre records them."""
        with psycopg.connect(self.owner_url) as connection:
            connection.execute(
                "INSERT INTO bandicoot.call_outcomes SELECT 'centre 7, ' || rank, caregiver_id, call_date, "
                "call_date + time '10:00' AT TIME ZONE 'UTC', 'reached', 'centre 7' "
                "FROM bandicoot.call_list WHERE call_date = %s AND rank <= %s ON CONFLICT (call_id) DO NOTHING",
                (DAY_BEFORE, n_calls),
            )

    def live_until_today(self) -> None:
        """A caregiver is new on the day before, and the list of today is made with her key; once."""
        if TODAY.isoformat().encode() in self.published()["list_publications"]:
            return
        with psycopg.connect(self.source_url) as connection:
            connection.execute(
                "INSERT INTO suvita_production.caregivers (caregiver_id, district, enrolled_at, age, parity, "
                "phone_reliable, enrollment_source, status) SELECT %s, district, %s, age, parity, phone_reliable, "
                "enrollment_source, 'active' FROM suvita_production.caregivers ORDER BY caregiver_id LIMIT 1 "
                "ON CONFLICT DO NOTHING",
                (NEW_CAREGIVER, f"{DAY_BEFORE} 12:00:00+05:30"),
            )
        self.bandicoot("bandicoot run --as-of $TODAY")

    def now(self) -> str:
        """The server's clock, as the guide's MOMENT; a second later than anything committed before."""
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_sleep(0.2)")
            row = connection.execute("SELECT clock_timestamp()::text").fetchone()
            connection.execute("SELECT pg_sleep(0.2)")
        assert row is not None
        return str(row[0])

    def archive_everything(self) -> None:
        """What is committed is in the archive, as it is a minute later by itself."""
        with psycopg.connect(self.server.url(), autocommit=True) as connection:
            row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row is not None
        deadline = time.monotonic() + 30
        while not (self.backups / "wal" / row[0]).exists():
            assert time.monotonic() < deadline, f"{row[0]} was not archived"
            time.sleep(0.05)

    def lose_the_disk(self) -> None:
        """The server is gone without a chance to tidy up, and its data folder with it."""
        record = (self.server.data_dir / "postmaster.pid").read_text()
        postmaster = psutil.Process(int(record.split()[0]))
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=10)
        shutil.rmtree(self.server.data_dir)

    # ---- looking

    def kept(self) -> Kept:
        """Everything that can be lost."""
        return Kept(self.published(), self.lake())

    def published(self) -> dict[str, bytes]:
        with psycopg.connect(self.owner_url) as connection:
            found = {}
            for table, contract in PUBLISHED_TABLES.items():
                is_rebuilt = table in REBUILT
                names = [name for name in contract.column_names if not (is_rebuilt and name in _STAMPS)]
                columns = sql.SQL(", ").join(map(sql.Identifier, names))
                query = sql.SQL("COPY (SELECT {0} FROM bandicoot.{1} ORDER BY {0}) TO STDOUT").format(
                    columns, sql.Identifier(table)
                )
                with connection.cursor().copy(query) as rows:
                    found[table] = b"".join(bytes(block) for block in rows)
        return found

    def lake(self) -> dict[str, str]:
        found = {}
        for path in sorted((self.home / "lake").glob("*/*/manifest.json")):
            manifest = json.loads(path.read_text())
            if manifest["asset"] == "model_version":
                manifest["facts"] = {}  # what was decided depends on who was champion before: that is no content
            content = json.dumps(manifest, sort_keys=True)
            found["/".join(path.parts[-3:-1])] = hashlib.sha256(content.encode()).hexdigest()
        return found


def differing(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """The names under which two collections differ."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


@contextmanager
def open_site(
    home: Path, backups: Path, server: DebianPostgres, source: DebianPostgres, redis: RedisServer
) -> Iterator[Site]:
    """A site that is built, on these servers; a server that was started by the guide's commands is ended as well."""
    source_url = source.create_database()
    (backups / "wal").mkdir()
    give_away(backups / "wal")
    site = Site(home, backups, server, source_url, redis)
    try:
        site.build()
        yield site
    finally:
        source.drop_database(str(conninfo_to_dict(source_url)["dbname"]))
        if (server.data_dir / "postmaster.pid").exists() and server.process.poll() is not None:
            stop = ["stop", f"--pgdata={server.data_dir}", "--mode=immediate"]
            run([program("pg_ctl", "/usr/lib/postgresql/*/bin"), *stop], server.folder)
