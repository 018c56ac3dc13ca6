"""Fixtures of the stores' tests: a fresh published schema, and a lake on local disk or in an object store.

What the pipeline does on a real installation is tested twice: on the wheel's PostgreSQL, and on Debian's through a
pooler in transaction mode, in a database of another time zone.
"""

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bandicoot_core.stores.embedded.server import EmbeddedServer
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.call_lists import migrate
from bandicoot_core.stores.reset import clear_published
from tests.conftest import fresh_database
from tests.servers.azurite import CONTAINER
from tests.servers.debian_postgres import DebianPostgres
from tests.servers.gcs import BUCKET
from tests.servers.pgbouncer import PgBouncer

TESTED_TWICE = {
    "test_call_outcomes",
    "test_current_states",
    "test_experiments",
    "test_incidents",
    "test_keys",
    "test_models",
    "test_published",
}
NOT_POOLED = {
    # A pooler's client keeps no session: it can neither listen in one nor name it, and none ends with it.
    "test_a_publication_is_announced_when_it_is_committed_and_not_when_it_fails",
    "test_a_server_that_ends_the_session_midway_is_reported_and_the_old_list_stays",
    # These have twins that are quicker.
    "test_after_any_history_the_table_is_the_last_states",
    "test_any_ids_in_any_batches_get_one_key_each_by_first_sight_then_bytes",
    "test_killing_the_publishing_process_at_any_moment_leaves_a_whole_list",
    "test_rows_that_break_the_contract_are_refused_and_the_old_list_stays",
    "test_an_impossible_model_is_refused_whole",
    "test_an_impossible_outcome_is_refused_with_those_that_came_with_it",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    module = metafunc.module.__name__.rpartition(".")[2]
    is_pooled = module in TESTED_TWICE and metafunc.function.__name__ not in NOT_POOLED
    if "published_url" in metafunc.fixturenames and is_pooled:
        metafunc.parametrize("published_url", ["embedded", "pooled"], indirect=True)


@pytest.fixture
def published_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty published schema, on the server that the test asks for."""
    if getattr(request, "param", "embedded") == "embedded":
        url: str = request.getfixturevalue("embedded_url")
        return url
    direct: str = request.getfixturevalue("pooled_database")
    with connect(direct) as connection:
        clear_published(connection)
    bouncer: PgBouncer = request.getfixturevalue("bouncer")
    return bouncer.url(direct)


@pytest.fixture
def embedded_url(server: EmbeddedServer, migrated_template: str) -> Iterator[str]:
    """The URL of a fresh database with the published schema on the embedded server."""
    with fresh_database(server, migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def pooled_database(debian_server: DebianPostgres) -> str:
    """The direct URL of a database with the published schema that the tests through a pooler share, one by one."""
    url = debian_server.create_database("pooled")
    with connect(url) as connection:
        connection.execute("ALTER DATABASE pooled SET TimeZone TO 'Asia/Kolkata'")
    migrate(url)
    return url


@pytest.fixture
def published(published_url: str) -> Iterator[psycopg.Connection]:
    """A connection to an empty published schema."""
    with connect(published_url) as connection:
        yield connection


@pytest.fixture(params=["disk", "gcs", "azure"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake; every test that takes it runs on a local disk and on two storage emulators."""
    if request.param == "disk":
        return Lake(str(tmp_path / "lake"))
    if request.param == "azure":
        request.getfixturevalue("azure_connection")
        return Lake(f"az://{CONTAINER}/{uuid.uuid4().hex}")
    request.getfixturevalue("cloud_storage_address")
    return Lake(f"gs://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture
def disk_lake(tmp_path: Path) -> Lake:
    """An empty lake on local disk, for tests about the disk itself."""
    return Lake(str(tmp_path / "lake"))
