"""Fixtures shared by all tests: an engine, a lake, fresh databases on one real PostgreSQL, and a Redis."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from aiosmtpd.controller import Controller
from ibis.backends.duckdb import Backend
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.engine import open_engine
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.published.call_lists import migrate
from tests.servers.alarm_receivers import Hook, smtp_server, webhook_server
from tests.servers.azurite import azurite
from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.servers.gcs import cloud_storage
from tests.servers.pgbouncer import PgBouncer, pgbouncer
from tests.servers.redis import RedisServer, running_redis


@pytest.fixture
def engine() -> Iterator[Backend]:
    """An engine of its own for each test."""
    with open_engine(memory_limit="1GB") as engine:
        yield engine


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """An empty lake on local disk."""
    return Lake(str(tmp_path / "lake"))


@pytest.fixture(scope="session")
def _cloud_storage() -> Iterator[str]:
    with cloud_storage() as address:
        yield address


@pytest.fixture
def cloud_storage_address(_cloud_storage: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an emulator of Google Cloud Storage, where gs:// leads during the test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", _cloud_storage)
    return _cloud_storage


@pytest.fixture(scope="session")
def _azure() -> Iterator[str]:
    with azurite() as connection:
        yield connection


@pytest.fixture
def azure_connection(_azure: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The connection string of an emulator of Azure Blob Storage, where az:// leads during the test."""
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", _azure)
    return _azure


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.EmbeddedServer]:
    """One embedded PostgreSQL for the whole session."""
    with tempfile.TemporaryDirectory(prefix="bandicoot-test-") as folder:
        home = Path(folder)
        try:
            yield embedded.start(home)
        finally:
            embedded.destroy(home)


@pytest.fixture
def database_url(server: embedded.EmbeddedServer) -> Iterator[str]:
    """The URL of a fresh, empty database."""
    with fresh_database(server, "template0") as url:
        yield url


@pytest.fixture
def published_url(server: embedded.EmbeddedServer, migrated_template: str) -> Iterator[str]:
    """The URL of a fresh database with the published schema."""
    with fresh_database(server, migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template(server: embedded.EmbeddedServer) -> str:
    """The name of a database with the published schema, to be copied: quicker than migrating each time."""
    name = "migrated_template"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate(server.url.replace("/bandicoot?", f"/{name}?"))
    return name


@pytest.fixture(scope="session")
def running_redis_server() -> Iterator[RedisServer]:
    """One Redis for the whole session."""
    with running_redis() as server:
        yield server


@pytest.fixture
def redis_server(running_redis_server: RedisServer) -> RedisServer:
    """A real Redis that holds nothing; a test that breaks it mends it."""
    running_redis_server.flush()
    return running_redis_server


@pytest.fixture
def hook() -> Iterator[Hook]:
    """A webhook that takes alarms."""
    with webhook_server() as server:
        yield server


@pytest.fixture
def mail_server() -> Iterator[Controller]:
    """A mail server that takes alarms."""
    with smtp_server() as server:
        yield server


@contextmanager
def fresh_database(server: embedded.EmbeddedServer, template: str) -> Iterator[str]:
    """The URL of a copy of a database on the embedded server, dropped on exit."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        yield server.url.replace("/bandicoot?", f"/{name}?")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def debian_server() -> Iterator[DebianPostgres]:
    """One of Debian's PostgreSQL for the whole session; a test that kills or restarts takes one of its own."""
    with debian_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def tls_server() -> Iterator[DebianPostgres]:
    """One of Debian's PostgreSQL that takes TCP connections only with TLS."""
    with debian_postgres(tls=True) as server:
        yield server


@pytest.fixture(scope="session")
def bouncer(debian_server: DebianPostgres) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode before `debian_server`."""
    with pgbouncer(debian_server) as pooler:
        yield pooler


@pytest.fixture
def debian_url(debian_server: DebianPostgres) -> Iterator[str]:
    """The superuser's URL of a fresh, empty database on `debian_server`."""
    url = debian_server.create_database()
    yield url
    debian_server.drop_database(conninfo_to_dict(url)["dbname"])
