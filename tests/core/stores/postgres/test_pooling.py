"""Connections that are kept open, and a pooler in transaction mode between: nothing may depend on a session."""

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from published_rows import AWKWARD_IDS, DAY, NIGHT, give_keys, list_rows, outcome, publish, state_rows

from bandicoot_core.errors import BusyError, UnreachableError
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.postgres.connections import Limits, connect, reading, whole_transaction
from bandicoot_core.stores.postgres.pool import Pool
from bandicoot_core.stores.published.call_lists import last_publication, migrate, read_call_list, record_outcomes
from bandicoot_core.stores.published.migrations import HEAD_REVISION
from bandicoot_core.stores.published.migrations.upgrade import downgrade
from bandicoot_core.stores.published.recorded_calls import read_calls
from bandicoot_core.stores.source.source import Source
from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.servers.pgbouncer import PgBouncer, pgbouncer
from tests.source_programme import SCHEMA, SourceProgramme

LIMITS = Limits(statement_seconds=1, bulk_seconds=30, lock_seconds=1)


@pytest.fixture
def pooled_url(bouncer: PgBouncer, debian_url: str) -> str:
    """An empty database through the pooler."""
    return bouncer.url(debian_url)


@pytest.fixture
def pool(published_url: str) -> Iterator[Pool]:
    pool = Pool(published_url, limits=LIMITS, max_size=2)
    yield pool
    pool.close()


def backend(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row is not None
    return int(row[0])


def test_limits_hold_through_a_pooler_and_do_not_reach_its_other_clients(pooled_url: str) -> None:
    def settings(connection: psycopg.Connection) -> tuple[str, ...]:
        row = connection.execute("SELECT current_setting('statement_timeout'), current_setting('TimeZone')").fetchone()
        return row or ()

    with connect(pooled_url, limits=LIMITS) as limited, connect(pooled_url) as neighbour:
        untouched = settings(neighbour)
        with pytest.raises(BusyError, match="sleeping: a statement took too long"), reading(limited, "sleeping"):
            limited.execute("SELECT pg_sleep(9)")
        with whole_transaction(limited, "looking"):
            # The pooler gives the neighbour the other of its two sessions meanwhile.
            assert backend(neighbour) != backend(limited)
            assert settings(limited) == ("1s", "UTC")
        assert {settings(client) for client in (limited, neighbour) * 4} == {untouched}


def test_no_statement_is_prepared_however_often_it_runs(pooled_url: str) -> None:
    with connect(pooled_url) as one, connect(pooled_url) as two:
        for number in range(40):
            for connection in (one, two):
                assert connection.execute("SELECT %s + 1", (number,)).fetchone() == (number + 1,)
        assert one.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_a_schema_is_migrated_up_and_down_through_a_pooler(pooled_url: str) -> None:
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(migrate, [pooled_url] * 3)) == [None] * 3
    downgrade(pooled_url, "0001")
    migrate(pooled_url)
    with connect(pooled_url) as connection:
        assert connection.execute("SELECT version_num FROM bandicoot.alembic_version").fetchall() == [(HEAD_REVISION,)]


def test_a_parameter_that_a_pooler_refuses_is_named(pooled_url: str) -> None:
    with pytest.raises(UnreachableError, match="unsupported startup parameter: options"):
        connect(make_conninfo(pooled_url, options="-c statement_timeout=5"))


def test_a_snapshot_of_the_source_is_one_transaction_of_the_pooler(debian_url: str, bouncer: PgBouncer) -> None:
    programme = SourceProgramme(debian_url)
    days = [date(2026, 11, day) for day in (19, 20)]
    for number in range(40):
        programme.message(f"M-{number}", f"CG-{number}", sent_at=f"{days[number % 2]} 09:00")
    source = Source(bouncer.url(debian_url), SCHEMA)

    def read(number: int) -> int:
        source.check_schema(["sms_logs"])
        n_rows = 0
        with source.snapshot() as snapshot:
            for day in days:
                with snapshot.rows("sms_logs", day, day) as rows:
                    n_rows += rows.read_all().num_rows
        return n_rows

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(read, range(12))) == [40] * 12


@pytest.mark.parametrize("style", ["SQL, DMY", "German", "Postgres, MDY"])
def test_dates_and_instants_are_read_right_whatever_the_database_prefers(published_url: str, style: str) -> None:
    with connect(published_url) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET DateStyle TO '{style}'")
        connection.execute(f"ALTER DATABASE {name} SET TimeZone TO 'America/St_Johns'")
    with connect(published_url) as connection:
        give_keys(connection, AWKWARD_IDS)
        publish(connection, list_rows(AWKWARD_IDS), states=state_rows({1: "R", 2: "U"}))
        published = read_call_list(connection)
        assert set(published["published_at"].to_pylist()) == {NIGHT}
        assert set(published["call_date"].to_pylist()) == {DAY}
        record_outcomes(connection, outcome("A", DAY, NIGHT))
        assert read_calls(connection, date(2026, 11, 20), DAY)["attempted_at"].to_pylist() == [NIGHT]
        publication = last_publication(connection)
        assert publication is not None
        assert publication.published_at == NIGHT


def test_a_connection_is_used_again_with_its_limits(pool: Pool) -> None:
    with pool.connection() as connection:
        first = backend(connection)
        with whole_transaction(connection, "looking"):
            assert connection.execute("SHOW statement_timeout").fetchone() == ("1s",)
    with pool.connection() as connection:
        assert backend(connection) == first


def test_a_transaction_that_was_left_open_is_undone_before_the_next_use(pool: Pool) -> None:
    def leave() -> None:
        with pool.connection() as connection:
            connection.execute("BEGIN; CREATE TABLE left_behind (x int)")
            raise RuntimeError("stopped midway")

    with pytest.raises(RuntimeError):
        leave()
    with pool.connection() as connection, whole_transaction(connection, "looking"):
        assert connection.execute("SELECT to_regclass('left_behind')").fetchone() == (None,)


def test_a_session_that_the_server_ended_is_replaced_before_anybody_gets_it(pool: Pool, published_url: str) -> None:
    with pool.connection() as connection:
        first = backend(connection)
    with connect(published_url) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (first,))
    with pool.connection() as connection:
        assert backend(connection) != first


def test_a_forked_process_opens_its_own_connections_and_leaves_those_of_its_parent(pool: Pool) -> None:
    with pool.connection() as connection:
        first = backend(connection)
    reading_end, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        with pool.connection() as connection:
            os.write(writing_end, str(backend(connection)).encode())
        pool.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert int(os.read(reading_end, 20)) != first
    with pool.connection() as connection:
        assert backend(connection) == first


def test_no_more_connections_than_the_pool_holds_are_open_and_the_next_one_waits(
    pool: Pool, published_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bandicoot_core.stores.postgres.pool._WAIT_SECONDS", 0.5)
    with pool.connection() as one, pool.connection() as two:
        assert backend(one) != backend(two)
        with pytest.raises(BusyError, match=r"all 2 connections .* BANDICOOT_POOL_SIZE"), pool.connection():
            pass
    barrier = threading.Barrier(6)

    def use(_: int) -> int:
        barrier.wait()
        with pool.connection() as connection:
            time.sleep(0.02)
            return backend(connection)

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(use, range(6)))) <= 2


def test_an_installation_names_a_server_that_is_gone_and_goes_on_when_it_is_back() -> None:
    with debian_postgres() as server, pgbouncer(server) as bouncer:
        migrate(server.create_database("kept"))
        direct = Installation(Settings(database_url=server.url("kept")))
        pooled = Installation(Settings(database_url=bouncer.url(server.url("kept"))))
        for installation in (direct, pooled):
            with installation.published() as connection:
                assert last_publication(connection) is None
        server.kill()
        with pytest.raises(UnreachableError, match=r"'kept' on localhost port .*run again"), direct.published():
            pass
        server.start()
        for installation in (direct, pooled):
            with installation.published() as connection:
                assert last_publication(connection) is None
            installation.close()
        assert sessions(server, "kept") <= 2  # the pooler's own


def test_a_server_that_was_away_for_long_is_found_as_soon_as_it_is_back() -> None:
    with debian_postgres() as server:
        migrate(server.create_database("missed"))
        pool = Pool(server.url("missed"), limits=LIMITS, max_size=2)
        with pool.connection() as connection:
            backend(connection)
        server.kill()
        away_until = time.monotonic() + 8
        while time.monotonic() < away_until:
            with pytest.raises(UnreachableError), pool.connection():
                pass
        server.start()
        back_at = time.monotonic()
        with pool.connection() as connection:
            backend(connection)
        assert time.monotonic() - back_at < 3
        pool.close()


def sessions(server: DebianPostgres, database: str) -> int:
    time.sleep(0.2)
    with psycopg.connect(server.url()) as connection:
        row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", (database,)).fetchone()
    assert row is not None
    return int(row[0])
