"""How connections are opened, and what their errors say."""

import socket
import time

import psycopg
import pytest

from bandicoot_core.errors import InvalidInputError, InvalidSettingError, UnreachableError
from bandicoot_core.stores.connections import Lock, connect, lock, whole_transaction


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


def test_a_session_reads_and_writes_utf8_iso_dates_and_utc_whatever_the_database_prefers(database_url: str) -> None:
    with connect(database_url) as connection:
        name = connection.info.dbname
        connection.execute(
            f"ALTER DATABASE {name} SET TimeZone TO 'Asia/Kolkata'; ALTER DATABASE {name} SET DateStyle TO 'SQL, DMY'"
        )
    with connect(database_url) as connection:
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("TimeZone", "DateStyle", "client_encoding")]
    assert shown == [("UTC",), ("ISO, DMY",), ("UTF8",)]


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
    refused = pytest.raises(InvalidInputError, match=r"counting: public\.t .*\(x\)=\(1\) already exists.*nothing was")
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
