"""deploy/compose.yaml as tests run it: its own commands, variables and scripts, with ports of this machine.

No container is started, so images, users, networks and mounts are not tried here.
"""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import yaml

from bandicoot_core.calendar import day_of
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.demo_source import fill_demo
from tests.servers.debian_postgres import PASSWORD, DebianPostgres
from tests.servers.processes import end, free_port, give_away, launch, private_folder, wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
_PROJECT = DEPLOY.parent


def services() -> dict[str, Any]:
    """The services by name, anchors and merges resolved."""
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


def needed_variables() -> set[str]:
    """What `up` refuses to do without."""
    return set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))


@dataclass
class Composed:
    """The compose file's processes on this machine."""

    postgres: DebianPostgres
    folder: Path
    pooler_port: int = field(default_factory=free_port)
    redis_port: int = field(default_factory=free_port)
    values: dict[str, str] = field(default_factory=lambda: {name: secrets.token_hex(24) for name in needed_variables()})

    def __post_init__(self) -> None:
        self.values["BANDICOOT_SOURCE_URL"] = self.postgres.url("bandicoot")

    def fill_programme(self, n_caregivers: int) -> None:
        """A programme of synthetic caregivers with calls of the past, its source beside the published schema."""
        url = self.postgres.url("bandicoot")
        installation = Installation(Settings(home=self.folder / "source", database_url=url))
        today = day_of(datetime.now(UTC))
        fill_demo(installation, n_caregivers=n_caregivers, seed=11, day=today, on_progress=lambda *_: None)
        installation.close()

    def here(self, text: str) -> str:
        """A text of the compose file with its variables' values, and addresses and folders of this machine."""
        text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: self.values[found[1]], text)
        for there, here in (
            ("@postgres:5432", f"@localhost:{self.postgres.port}"),
            ("@pgbouncer:6432", f"@127.0.0.1:{self.pooler_port}"),
            ("@redis:6379", f"@127.0.0.1:{self.redis_port}"),
            ("/var/lib/bandicoot", str(self.folder / "lake")),
            ("/opt/dagster", str(self.folder / "dagster")),
        ):
            text = text.replace(there, here)
        return text

    def environment(self, service: str) -> dict[str, str]:
        """The variables of a service here; one without a value is absent, as the env file lacks it."""
        named = services()[service]["environment"]
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("BANDICOOT", "DAGSTER"))}
        found = {name: self.here(value) for name, value in named.items() if value is not None}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {**outside, **found, "PATH": path, "PYTHONPATH": str(_PROJECT)}

    def command(self, service: str) -> list[str]:
        """What a service runs."""
        return [self.here(word) for word in services()[service]["command"]]

    def run(self, service: str, *command: str, **variables: str) -> str:
        """Run a service's command, or another in its place, to its end; what it printed."""
        done = subprocess.run(
            list(command) or self.command(service),
            cwd=self.folder,
            env={**self.environment(service), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{service} ended with {done.returncode}: {done.stdout[-3000:]}"
        return done.stdout

    def first_start(self) -> None:
        """What PostgreSQL's image does with an empty volume."""
        self.run(
            "postgres",
            "sh",
            str(DEPLOY / "compose" / "first_start.sh"),
            **self._as_superuser(),
            BANDICOOT_DAGSTER_VIEWS=str(DEPLOY / "monitoring" / "dagster_views.sql"),
        )

    def give_roles(self) -> None:
        """What `users` does."""
        known = {"PGHOST": "localhost", "PGPORT": str(self.postgres.port)}
        words = [word.replace("/etc/bandicoot", str(DEPLOY / "compose")) for word in self.command("users")]
        self.run("users", "psql", *words, **known)

    def dashboards(self, database: str) -> psycopg.Connection:
        """A connection as Grafana has it."""
        password = self.values["BANDICOOT_DASHBOARDS_PASSWORD"]
        return psycopg.connect(self.postgres.url(database, user="dashboards", password=password), autocommit=True)

    @contextmanager
    def pooler_and_cache(self) -> Iterator[None]:
        """PgBouncer and Redis as their scripts start them."""
        bouncer = self._script(
            "pgbouncer", "pgbouncer.ini", {"listen_port = 6432": f"listen_port = {self.pooler_port}"}
        )
        cache = self._script("redis", "redis.conf", {"port 6379": f"port {self.redis_port}"})
        started = [bouncer, cache]
        try:
            wait_until(lambda: _listens(self.pooler_port), bouncer, self.folder / "pgbouncer.log")
            wait_until(lambda: _listens(self.redis_port), cache, self.folder / "redis.log")
            yield
        finally:
            for process in started:
                end(process, 15)  # type: ignore[arg-type]

    @contextmanager
    def served(self, service: str, **ports: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A service's command that goes on, ended on exit; `port_4000="50123"` puts a free port in place of its own."""
        free = {name.removeprefix("port_"): port for name, port in ports.items()}
        command = [free.get(word, word) for word in self.command(service)]
        log = self.folder / f"{service}.log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment(service),
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            end(process, 15)  # type: ignore[arg-type]

    def _as_superuser(self) -> dict[str, str]:
        return {"PGHOST": "localhost", "PGPORT": str(self.postgres.port), "PGPASSWORD": PASSWORD}

    def _script(self, name: str, configuration: str, changed: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Start a server's script from a copy in the folder, which stands for /tmp."""
        more = {"host=postgres port=5432": f"host=127.0.0.1 port={self.postgres.port}", "/tmp": str(self.folder)}  # noqa: S108
        for file in (f"{name}.sh", configuration):
            text = (DEPLOY / "compose" / file).read_text()
            for there, here in {**changed, **more}.items():
                text = text.replace(there, here)
            (self.folder / file).write_text(text)
            give_away(self.folder / file, 0o644)
        variables = {key: value for key, value in self.environment(name).items() if key.startswith("BANDICOOT")}
        path = {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin"}
        command = ["sh", str(self.folder / f"{name}.sh"), str(self.folder / configuration)]
        return launch(command, self.folder, self.folder / f"{name}.log", {**variables, **path})


@contextmanager
def composed(postgres: DebianPostgres) -> Iterator[Composed]:
    """A local production on a server of its own, set up as `up` sets it up; nothing goes on but its servers."""
    with private_folder("compose") as folder:
        site = Composed(postgres, folder)
        (folder / "dagster").mkdir()
        (folder / "dagster" / "dagster.yaml").write_text((DEPLOY / "dagster.yaml").read_text())
        site.first_start()
        with site.pooler_and_cache():
            site.run("schema")
            site.give_roles()
            yield site


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
