"""How connections are opened, and what their errors say."""

import socket
import time

import psycopg
import pytest

from bandicoot_core.errors import BusyError, InvalidInputError, InvalidSettingError, UnreachableError
from bandicoot_core.stores.postgres.connections import Limits, Lock, connect, lock, reading, repeated, whole_transaction


def test_a_refused_connection_names_database_and_server_but_no_password() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(UnreachableError) as refusal:
            connect(f"postgresql://asha:s3cret@127.0.0.1:{port}/bandicoot")
    message = str(refusal.value)
    assert f"'bandicoot' on 127.0.0.1 port {port}" in message
    assert "run again" in message
    assert "s3cret" not in message
    assert refusal.value.__suppress_context__


def test_a_server_that_accepts_but_never_answers_is_given_up_in_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(UnreachableError, match="timeout"):
            connect(f"postgresql://asha@127.0.0.1:{silent.getsockname()[1]}/bandicoot", timeout_seconds=2)
        assert time.monotonic() - started < 6


def test_a_database_that_does_not_exist_is_named(database_url: str) -> None:
    with pytest.raises(UnreachableError, match='database "absent" does not exist'):
        connect(psycopg.conninfo.make_conninfo(database_url, dbname="absent"))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://asha:s3cret%zz@host/db",
        "postgresql://asha:s3cret@host/db?colour=red",
        "postgresql://asha:p@s3cret@host/db",
        "postgresql://asha:p/s3cret@host/db",
        "host=h password=s3cret port",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(InvalidSettingError, match="postgresql://user:password@host") as refusal:
        connect(url)
    assert "s3cret" not in str(refusal.value)
    assert refusal.value.__context__ is None


def test_transactions_have_iso_dates_utc_and_limits_and_leave_nothing_in_the_session(database_url: str) -> None:
    names = ("TimeZone", "DateStyle", "client_encoding", "statement_timeout", "lock_timeout")

    def shown(connection: psycopg.Connection) -> list[str]:
        return [row[0] for name in names if (row := connection.execute(f"SHOW {name}").fetchone())]

    with connect(database_url) as connection:
        name = connection.info.dbname
        connection.execute(
            f"ALTER DATABASE {name} SET TimeZone TO 'Asia/Kolkata'; ALTER DATABASE {name} SET DateStyle TO 'SQL, DMY'"
        )
    with connect(database_url, limits=Limits(statement_seconds=5, bulk_seconds=70, lock_seconds=3)) as connection:
        before = shown(connection)
        with whole_transaction(connection, "looking"):
            assert shown(connection) == ["UTC", "ISO, DMY", "UTF8", "5s", "3s"]
        with reading(connection, "looking", is_bulk=True):
            assert shown(connection) == ["UTC", "ISO, DMY", "UTF8", "70s", "3s"]
        assert shown(connection) == before == ["Asia/Kolkata", "SQL, DMY", "UTF8", "0", "0"]
        for _ in range(20):
            with reading(connection, "looking"):
                connection.execute("SELECT %s + 1", (1,))
        assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_reads_join_an_open_transaction_and_a_snapshot_wants_its_own(database_url: str) -> None:
    with connect(database_url) as connection, connect(database_url) as other:
        other.execute("CREATE TABLE t (x int)")
        with whole_transaction(connection, "looking"), reading(connection, "looking"):
            connection.execute("INSERT INTO t VALUES (1)")
        with reading(connection, "looking", is_snapshot=True):
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
            other.execute("INSERT INTO t VALUES (2)")
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (1,)
        with whole_transaction(connection, "looking"), pytest.raises(ValueError, match="inside a transaction"):
            reading(connection, "looking", is_snapshot=True).__enter__()


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "SELECT pg_sleep(9)",
            r"counting: a statement took too long.*statement timeout.*nothing was written; run again",
        ),
        ("LOCK TABLE t", r"counting: another session holds.*lock timeout.*nothing was written; run again"),
        ("SELECT pg_advisory_xact_lock(7)", r"counting: another session holds.*lock timeout.*nothing was written"),
    ],
)
def test_a_limit_of_time_undoes_the_whole_transaction_and_says_so(
    database_url: str, statement: str, message: str
) -> None:
    limits = Limits(statement_seconds=2, bulk_seconds=2, lock_seconds=1)
    with connect(database_url, limits=limits) as connection, connect(database_url) as other:
        connection.execute("CREATE TABLE t (x int)")
        with other.transaction():
            other.execute("SELECT FROM t; SELECT pg_advisory_xact_lock(7)")
            with pytest.raises(BusyError, match=message), whole_transaction(connection, "counting"):
                connection.execute(f"INSERT INTO t VALUES (1); {statement}")
        with whole_transaction(connection, "counting"):
            assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_session_that_is_left_in_a_transaction_lets_go_of_its_locks(database_url: str) -> None:
    limits = Limits(statement_seconds=1, bulk_seconds=1, lock_seconds=1)

    def stop(stopped: psycopg.Connection) -> None:
        with whole_transaction(stopped, "counting"):
            lock(stopped, Lock.KEYS)
            with whole_transaction(other, "counting"):
                lock(other, Lock.KEYS)
            stopped.execute("SELECT 1")

    lost = pytest.raises(UnreachableError, match="counting: the connection to the server was lost")
    with connect(database_url) as other, connect(database_url, limits=limits) as stopped, lost:
        stop(stopped)


def test_work_that_met_a_serialization_failure_is_repeated_and_gives_up_after_three_attempts(
    database_url: str,
) -> None:
    attempts = 0

    def work(n_conflicts: int) -> int:
        nonlocal attempts
        attempts += 1
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT FROM t")
        if attempts <= n_conflicts:
            other.execute("UPDATE t SET x = x + 10")
        connection.execute("UPDATE t SET x = x + 1")
        return attempts

    with connect(database_url) as connection, connect(database_url) as other:
        other.execute("CREATE TABLE t (x int); INSERT INTO t VALUES (0)")
        assert repeated(connection, "counting", lambda: work(2)) == 3
        assert other.execute("SELECT x FROM t").fetchone() == (21,)
        attempts = 0
        with pytest.raises(BusyError, match=r"counting: another session changed the same.*run again"):
            repeated(connection, "counting", lambda: work(3))
        assert attempts == 3
        assert other.execute("SELECT x FROM t").fetchone() == (51,)
        with pytest.raises(ZeroDivisionError):
            repeated(connection, "counting", lambda: 1 // 0)


def test_a_refused_right_names_the_command_that_gives_it(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("CREATE TABLE t (x int); DROP ROLE IF EXISTS stranger; CREATE ROLE stranger")
        try:
            with (
                pytest.raises(
                    InvalidInputError, match=r"counting: the database user may not.*bandicoot database roles"
                ),
                whole_transaction(connection, "counting"),
            ):
                connection.execute("SET LOCAL ROLE stranger; TABLE t")
        finally:
            connection.execute("DROP ROLE stranger")


def test_a_whole_transaction_is_visible_to_others_only_as_a_whole(database_url: str) -> None:
    with connect(database_url) as writer, connect(database_url) as reader:
        writer.execute("CREATE TABLE t (x int)")
        with whole_transaction(writer, "writing"):
            writer.execute("INSERT INTO t VALUES (1)")
            assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)
        with pytest.raises(psycopg.errors.DivisionByZero), whole_transaction(writer, "writing"):
            writer.execute("INSERT INTO t VALUES (2); SELECT 1 / 0")
        assert reader.execute("SELECT count(*) FROM t").fetchone() == (1,)


def test_a_whole_transaction_refuses_to_be_part_of_another(database_url: str) -> None:
    refused = pytest.raises(ValueError, match="writing commits by itself")
    with (
        connect(database_url) as connection,
        connection.transaction(),
        refused,
        whole_transaction(connection, "writing"),
    ):
        pass


def test_a_broken_constraint_says_what_was_refused_and_that_nothing_was_written(database_url: str) -> None:
    refused = pytest.raises(InvalidInputError, match=r"counting: public\.t .*unique constraint.*nothing was")
    with connect(database_url) as connection:
        connection.execute("CREATE TABLE t (x int PRIMARY KEY)")
        with refused, whole_transaction(connection, "counting"):
            connection.execute("INSERT INTO t VALUES (1), (1)")


def test_a_closed_connection_is_reported_as_such(database_url: str) -> None:
    connection = connect(database_url)
    connection.close()
    with pytest.raises(UnreachableError, match="connect again"), whole_transaction(connection, "writing"):
        pass


def test_a_lock_is_held_to_the_end_of_the_transaction_and_apart_for_each_part(database_url: str) -> None:
    wanted = "SELECT pg_try_advisory_xact_lock(%s::int, %s::int)"
    with connect(database_url) as holder, connect(database_url) as other:
        with holder.transaction():
            lock(holder, Lock.CALL_LIST, 7)
            assert other.execute(wanted, (Lock.CALL_LIST, 7)).fetchone() == (False,)
            assert other.execute(wanted, (Lock.CALL_LIST, 8)).fetchone() == (True,)
            assert other.execute(wanted, (Lock.STATES, 7)).fetchone() == (True,)
        assert other.execute(wanted, (Lock.CALL_LIST, 7)).fetchone() == (True,)
