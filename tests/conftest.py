"""Fixtures shared by all tests: an engine, a lake, and fresh databases on one real PostgreSQL per session."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from ibis.backends.duckdb import Backend
from psycopg import sql

from bandicoot_core.stores import embedded
from bandicoot_core.stores.engine import open_engine
from bandicoot_core.stores.lake import Lake
from bandicoot_core.stores.published import migrate
from tests.servers.gcs import cloud_storage


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
    with _fresh_database(server, "template0") as url:
        yield url


@pytest.fixture
def published_url(server: embedded.EmbeddedServer, migrated_template: str) -> Iterator[str]:
    """The URL of a fresh database with the published schema."""
    with _fresh_database(server, migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template(server: embedded.EmbeddedServer) -> str:
    """The name of a database with the published schema, to be copied: quicker than migrating each time."""
    name = "migrated_template"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    migrate(server.url.replace("/bandicoot?", f"/{name}?"))
    return name


@contextmanager
def _fresh_database(server: embedded.EmbeddedServer, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        yield server.url.replace("/bandicoot?", f"/{name}?")
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
