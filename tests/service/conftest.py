"""The service over a small programme with a published list: a database and a lake of its own for each test.

The list has no random draw, so that it is what a ranking as of its own morning would give.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from psycopg import sql

from bandicoot_api.app import create_app
from bandicoot_core.settings import ListOptions, Settings, load_list_options, load_service_options
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.api_keys import create_key
from tests.conftest import fresh_database
from tests.servers.dagster import DagsterServer, running_dagster
from tests.servers.redis import RedisServer
from tests.small_programme import CALL_DATE, NOON, Programme, small_programme

BUDGET = 60
LIST_OPTIONS = {"budget": BUDGET, "exploration_share": 0.0}
_TRAINED_WITH = {
    "BANDICOOT_TRAINING_WEEKS": "10",
    "BANDICOOT_N_CLUSTERS": "6",
    "BANDICOOT_N_DRAWS": "200",
    "BANDICOOT_LOOKBACK_DAYS": "42",
}
"""Options of the programme's model, as Dagster's environment has them."""


@dataclass
class Site:
    """One installation behind the service, and the hands of its operator."""

    stores: Installation
    server: embedded.EmbeddedServer
    database: str
    now: datetime = NOON
    clients: list[TestClient] = field(default_factory=list)

    @property
    def list_options(self) -> ListOptions:
        return load_list_options(**LIST_OPTIONS)

    def app(self, **options: object) -> FastAPI:
        """The application; what it has been told a moment ago is not believed, so that tests need not wait."""
        chosen = {"api_check_seconds": 0, "api_reads_per_minute": 10_000, **options}
        return create_app(self.stores, load_service_options(**chosen), self.list_options, clock=lambda: self.now)

    def client(self, *scopes: str, tier: str = "standard", app: FastAPI | None = None, **options: object) -> TestClient:
        """A client of a new application, or of one that is there, with a new key of some scopes."""
        client = TestClient(app or self.app(**options), raise_server_exceptions=False)
        if scopes:
            client.headers["Authorization"] = f"Bearer {self.key(*scopes, tier=tier)}"
        client.__enter__()
        self.clients.append(client)
        return client

    def key(self, *scopes: str, tier: str = "standard", name: str | None = None, **more: datetime) -> str:
        """The text of a new key."""
        with self.stores.published() as connection:
            client = name or f"client {uuid.uuid4().hex[:8]}"
            return create_key(
                connection, client, scopes=scopes, tier=tier, created_at=self.now - timedelta(hours=1), **more
            )[0]

    def execute(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """What an administrator's statement gives, over a connection beside the service's."""
        with psycopg.connect(self.stores.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Let its clients and connections go."""
        for client in self.clients:
            client.__exit__(None, None, None)
        self.stores.close()

    def listed(self) -> list[str]:
        """The published list's caregivers, in calling order."""
        return [
            str(row[0])
            for row in self.execute(
                "SELECT caregiver_id FROM bandicoot.call_list WHERE call_date = %s ORDER BY rank", CALL_DATE
            )
        ]

    @contextmanager
    def database_away(self) -> Iterator[None]:
        """PostgreSQL refuses connections, and ends those that are open."""
        with _refused(self.server, self.database):
            yield


@pytest.fixture(scope="session")
def service_programme(server: embedded.EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programme]:
    """A programme with a published list, which tests copy and never change."""
    with small_programme(server, tmp_path_factory.mktemp("service"), **LIST_OPTIONS) as made:
        made.installation.close()
        with _refused(server, _database(made.installation)):  # who is connected keeps a database from being copied
            yield made


@contextmanager
def opened_sites(programme: Programme, server: embedded.EmbeddedServer, folder: Path) -> Iterator[Callable[..., Site]]:
    """A function that opens a site, a copy of the programme, with settings of its own; they are dropped on exit."""
    template = _database(programme.installation)
    with ExitStack() as until_end:

        def open_one(**settings: object) -> Site:
            url = until_end.enter_context(fresh_database(server, template))
            home = folder / uuid.uuid4().hex
            shutil.copytree(programme.installation.settings.home / "lake", home / "lake")
            stores = Installation(Settings(**{"lookback_days": 42, "home": home, "database_url": url, **settings}))
            site = Site(stores, server, _database(stores))
            until_end.callback(site.close)
            return site

        yield open_one


@pytest.fixture
def open_site(
    service_programme: Programme, server: embedded.EmbeddedServer, tmp_path: Path
) -> Iterator[Callable[..., Site]]:
    """A function that opens a site with settings of its own."""
    with opened_sites(service_programme, server, tmp_path) as open_one:
        yield open_one


@pytest.fixture
def site(open_site: Callable[..., Site]) -> Site:
    """A site without Redis."""
    return open_site()


@pytest.fixture
def cached_site(open_site: Callable[..., Site], redis_server: RedisServer) -> Site:
    """A site with Redis, which still holds nothing."""
    return open_site(redis_url=redis_server.url, redis_pause_seconds=0)


@pytest.fixture(scope="package")
def trained(
    service_programme: Programme, server: embedded.EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site whose jobs Dagster serves; its lake and its model may be made again by any test."""
    with opened_sites(service_programme, server, tmp_path_factory.mktemp("trained")) as open_one:
        yield open_one()


@pytest.fixture(scope="package")
def dagster(trained: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterServer]:
    """Dagster on that site."""
    with running_dagster(trained.stores, tmp_path_factory.mktemp("dagster"), _TRAINED_WITH) as server:
        yield server


@contextmanager
def _refused(server: embedded.EmbeddedServer, database: str) -> Iterator[None]:
    """A database that lets nobody in, and whose connections have ended."""
    name = sql.Identifier(database)
    with psycopg.connect(server.url, autocommit=True) as administrator:
        administrator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
        administrator.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
        try:
            yield
        finally:
            administrator.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))


def _database(installation: Installation) -> str:
    return installation.database_url.rpartition("/")[2].partition("?")[0]
