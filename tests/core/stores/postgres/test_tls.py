"""TLS through the URL's own parameters, against a server that takes nothing else."""

import subprocess
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from bandicoot_core.errors import UnreachableError
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.postgres.pool import Pool
from bandicoot_core.stores.published.call_lists import migrate
from bandicoot_core.stores.published.migrations.upgrade import downgrade, upgrade
from bandicoot_core.stores.source.source import Source
from tests.servers.certificates import make_certificates
from tests.servers.debian_postgres import DebianPostgres
from tests.servers.processes import private_folder
from tests.source_programme import SCHEMA, SourceProgramme


@pytest.fixture
def database(tls_server: DebianPostgres) -> Iterator[str]:
    """The name of an empty database on the server."""
    name = str(conninfo_to_dict(tls_server.create_database())["dbname"])
    yield name
    tls_server.drop_database(name)


@pytest.fixture(scope="module")
def other_authority() -> Iterator[Path]:
    """The certificate of an authority that did not vouch for the server."""
    with private_folder("ca") as folder:
        yield make_certificates(folder).ca


def is_encrypted(connection: psycopg.Connection) -> bool:
    row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    return row == (True,)


def test_everything_goes_over_a_verified_connection(tls_server: DebianPostgres, database: str) -> None:
    assert tls_server.certificates is not None
    url = tls_server.url(database, sslmode="verify-full", sslrootcert=str(tls_server.certificates.ca))
    migrate(url)
    downgrade(url, "0001")
    upgrade(url)
    with connect(url) as connection:
        assert is_encrypted(connection)
    pool = Pool(url, max_size=1)
    with pool.connection() as connection:
        assert is_encrypted(connection)
    pool.close()
    programme = SourceProgramme(url)
    programme.dose("CG-1", "BCG", date(2026, 11, 20))
    source = Source(url, SCHEMA)
    source.check_schema(["vaccinations"])
    with source.snapshot() as snapshot, snapshot.rows("vaccinations", date(2026, 11, 20), date(2026, 11, 20)) as rows:
        assert rows.read_all().num_rows == 1


def read_source(url: str) -> None:
    with Source(url, SCHEMA).snapshot():
        pass


@pytest.mark.parametrize("use", [connect, migrate, read_source])
def test_a_server_that_cannot_be_verified_and_plain_text_are_refused_with_what_to_check(
    tls_server: DebianPostgres, database: str, other_authority: Path, use: Callable[[str], object]
) -> None:
    assert tls_server.certificates is not None
    right = str(tls_server.certificates.ca)
    cases = [
        (
            tls_server.url(database, sslmode="verify-full", sslrootcert=str(other_authority)),
            "certificate verify failed",
        ),
        (tls_server.url(database, sslmode="verify-full", sslrootcert="/absent/ca.crt"), "does not exist"),
        (
            tls_server.url(database, host="127.0.0.1", sslmode="verify-full", sslrootcert=right),
            "does not match host name",
        ),
        (tls_server.url(database, sslmode="disable"), "no encryption"),
    ]
    for url, found in cases:
        with pytest.raises(
            UnreachableError, match=f"(?s)no connection to .*{found}.*check sslmode and sslroot"
        ) as refusal:
            use(url)
        assert "secret" not in str(refusal.value)


def test_a_server_without_tls_is_refused_when_the_url_asks_for_it(
    debian_server: DebianPostgres, debian_url: str, other_authority: Path
) -> None:
    database = str(conninfo_to_dict(debian_url)["dbname"])
    for mode in ("require", "verify-full"):
        with pytest.raises(UnreachableError, match=r"server does not support SSL.*check sslmode"):
            connect(debian_server.url(database, sslmode=mode, sslrootcert=str(other_authority)))


def test_the_certificates_of_the_tests_are_those_of_an_authority_and_a_server(tls_server: DebianPostgres) -> None:
    made = tls_server.certificates
    assert made is not None
    command = ["openssl", "verify", "-CAfile", str(made.ca), "-verify_hostname", "localhost", str(made.certificate)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
