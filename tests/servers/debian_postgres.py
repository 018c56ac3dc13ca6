"""Debian's PostgreSQL for tests: over TCP and a socket, with scram passwords, optional TLS and streaming replicas.

with debian_postgres() as server:
    url = server.create_database()
    server.kill()       # kill -9, children included
    server.start()
"""

import signal
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.pq import PGconn, Ping

from tests.servers.certificates import Certificates, make_certificates
from tests.servers.processes import end, free_port, give_away, kill, launch, private_folder, program, run, wait_until

_BINARIES = "/usr/lib/postgresql/*/bin"
SUPERUSER = "postgres"
PASSWORD = "super secret/@%"
"""The superuser's, with characters that a URL must encode."""


@dataclass
class DebianPostgres:
    """A PostgreSQL cluster in a folder of its own; running between start() and stop() or kill()."""

    folder: Path
    port: int
    settings: dict[str, str]
    certificates: Certificates | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the server's process beside the usual ones."""
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def data_dir(self) -> Path:
        """The cluster's data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "log"

    def url(
        self,
        database: str = SUPERUSER,
        *,
        user: str = SUPERUSER,
        password: str = PASSWORD,
        host: str = "localhost",
        **parameters: str,
    ) -> str:
        """A libpq URI over TCP."""
        who = f"{quote(user, safe='')}:{quote(password, safe='')}"
        query = f"?{urlencode(parameters)}" if parameters else ""
        return f"postgresql://{who}@{host}:{self.port}/{quote(database, safe='')}{query}"

    def socket_url(self, database: str = SUPERUSER, *, user: str = SUPERUSER, password: str = PASSWORD) -> str:
        """A libpq URI over the socket in the server's folder."""
        who = f"{quote(user, safe='')}:{quote(password, safe='')}"
        place = urlencode({"host": str(self.folder), "port": str(self.port)})
        return f"postgresql://{who}@/{quote(database, safe='')}?{place}"

    def create_database(self, name: str | None = None, *, owner: str = SUPERUSER, template: str = "template0") -> str:
        """Create a database and return the superuser's URL to it; the name is a new one unless given."""
        name = name or f"test_{uuid.uuid4().hex}"
        statement = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}")
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.format(*map(sql.Identifier, (name, owner, template))))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database with whoever is connected to it."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def create_role(self, name: str, *, password: str = "of the role", attributes: str = "") -> None:
        """Create a role that may log in; `attributes` as CREATE ROLE takes them."""
        statement = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {} ").format(sql.Identifier(name), sql.Literal(password))
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement + sql.SQL(attributes))

    def start(self) -> None:
        """Start the server and wait until it answers; after a kill it recovers first."""
        flags = [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]
        command = [program("postgres", _BINARIES), "-D", str(self.data_dir), *flags]
        self.process = launch(command, self.folder, self.log, self.environment)
        wait_until(self.is_ready, self.process, self.log)

    def is_ready(self) -> bool:
        """Whether it accepts connections."""
        place = f"host={self.folder} port={self.port} dbname={SUPERUSER} connect_timeout=2"
        return PGconn.ping(place.encode()) == Ping.OK

    def stop(self) -> None:
        """Fast shutdown: sessions are cut, commits are kept."""
        end(self.process, signal.SIGINT)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """kill -9 of the postmaster, and wait until its children have ended."""
        kill(self.process)

    @contextmanager
    def replica(self, **settings: str) -> Iterator["DebianPostgres"]:
        """A streaming replica (hot standby) with the same roles and databases; `settings` are for it alone."""
        with private_folder("pg") as folder:
            standby = DebianPostgres(
                folder, free_port(), {**self.settings, **settings}, self.certificates, self.environment
            )
            standby.settings |= {"port": str(standby.port), "unix_socket_directories": str(folder)}
            where = ["-D", str(standby.data_dir), "-d", self.socket_url()]
            run([program("pg_basebackup", _BINARIES), *where, "-R", "-X", "stream", "-c", "fast", "-N"], folder)
            with _running(standby):
                yield standby


@contextmanager
def debian_postgres(
    *, tls: bool = False, environment: Mapping[str, str] | None = None, **settings: str
) -> Iterator[DebianPostgres]:
    """A new cluster, running, ended and removed on exit; `settings` are PostgreSQL's own.

    With `tls` it has a certificate for `localhost` and refuses TCP connections without TLS. `environment` is added to
    that of the server and of its replicas.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(private_folder("pg"))
        _initialize(folder, tls=tls)
        port = free_port()
        defaults = {
            "port": str(port),
            "listen_addresses": "localhost",
            "unix_socket_directories": str(folder),
            "password_encryption": "scram-sha-256",
            # A killed process loses nothing that it has written: only a machine without power needs fsync.
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_connections": "60",
            "autovacuum": "off",
        }
        certificates = make_certificates(folder) if tls else None
        if certificates is not None:
            defaults |= {"ssl": "on", "ssl_cert_file": str(certificates.certificate)}
            defaults |= {"ssl_key_file": str(certificates.key)}
        server = DebianPostgres(folder, port, defaults | settings, certificates, environment or {})
        stack.enter_context(_running(server))
        yield server


def _initialize(folder: Path, *, tls: bool) -> None:
    password_file = folder / "password"
    password_file.write_text(PASSWORD)
    give_away(password_file, 0o600)
    how = ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--auth=scram-sha-256"]
    who = [f"--username={SUPERUSER}", f"--pwfile={password_file}"]
    run([program("initdb", _BINARIES), "-D", str(folder / "data"), *how, *who], folder)
    kind = "hostssl" if tls else "host"
    rules = [("local", ""), (kind, "127.0.0.1/32"), (kind, "::1/128")]
    (folder / "data" / "pg_hba.conf").write_text(
        "".join(
            f"{where} {what} all {address} scram-sha-256\n"
            for where, address in rules
            for what in ("all", "replication")
        )
    )


@contextmanager
def _running(server: DebianPostgres) -> Iterator[None]:
    server.start()
    try:
        yield
    finally:
        server.stop()
