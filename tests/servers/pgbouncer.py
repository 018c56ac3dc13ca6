"""PgBouncer in transaction mode before a PostgreSQL of the tests, as strict as it comes: small pools, no exceptions.

Every role of the server may log in through it with its own password; a database is there under its own name.
"""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from tests.servers.debian_postgres import PASSWORD, SUPERUSER, DebianPostgres
from tests.servers.processes import end, free_port, give_away, kill, launch, private_folder, program, wait_until


@dataclass
class PgBouncer:
    """A running PgBouncer."""

    server: DebianPostgres
    folder: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / "log"

    def url(self, server_url: str | None = None) -> str:
        """A URL of the server, led through the pooler; by default the superuser's to database postgres."""
        parts = urlsplit(server_url or self.server.url())
        return parts._replace(netloc=f"{parts.netloc.rsplit('@', 1)[0]}@127.0.0.1:{self.port}").geturl()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.process = launch([program("pgbouncer"), str(self.folder / "pgbouncer.ini")], self.folder, self.log)
        wait_until(self.is_ready, self.process, self.log)

    def is_ready(self) -> bool:
        """Whether it answers; it does without its server."""
        try:
            self.admin("SHOW VERSION")
        except psycopg.OperationalError:
            return False
        return True

    def admin(self, command: str) -> list[tuple[object, ...]]:
        """Run a command of its console, such as SHOW POOLS or PAUSE, and return the rows."""
        console = self.url(self.server.url("pgbouncer"))
        with psycopg.Connection.connect(console, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
            cursor = connection.execute(command)
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        """End it at once, as SIGTERM does."""
        end(self.process, signal.SIGTERM)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def kill(self) -> None:
        """kill -9."""
        kill(self.process)


@contextmanager
def pgbouncer(server: DebianPostgres, **settings: str) -> Iterator[PgBouncer]:
    """A PgBouncer before a server, ended on exit; `settings` replace those of its configuration."""
    with private_folder("pool") as folder:
        bouncer = PgBouncer(server, folder, free_port())
        configuration = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(bouncer.port),
            "unix_socket_dir": str(folder),
            "pool_mode": "transaction",
            "auth_type": "scram-sha-256",
            "auth_file": str(folder / "userlist.txt"),
            "auth_user": SUPERUSER,
            "admin_users": SUPERUSER,
            # Two sessions for each user and database: what one client leaves behind in a session soon meets another.
            "default_pool_size": "2",
            "max_client_conn": "200",
            "server_login_retry": "1",
            "server_check_delay": "0",
        } | settings
        lines = ["[databases]", f"* = host={server.folder} port={server.port}", "[pgbouncer]"]
        lines += [f"{name} = {value}" for name, value in configuration.items()]
        _write(folder / "pgbouncer.ini", "\n".join(lines) + "\n")
        _write(folder / "userlist.txt", f'"{SUPERUSER}" "{PASSWORD}"\n')
        bouncer.start()
        try:
            yield bouncer
        finally:
            bouncer.stop()


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    give_away(path, 0o600)
