"""One writer for each partition, on real servers and across processes."""

import time
from collections.abc import Callable
from threading import Event, Thread

import psycopg
import pytest

from bandicoot_core.errors import PartitionHeldError, UnreachableError
from bandicoot_core.stores.published.writers import sole_writer

DAYS = [f"2026-0{month}-{day:02}" for month in range(1, 5) for day in range(1, 29)]


def held(url: str, asset: str, partitions: list[str], block: Callable[[], object]) -> None:
    with sole_writer(url, asset, partitions, holder="the first", wait_seconds=0):
        block()


def is_free(url: str, asset: str, partitions: list[str]) -> bool:
    try:
        with sole_writer(url, asset, partitions, holder="the second", wait_seconds=0):
            return True
    except PartitionHeldError:
        return False


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (["2026-11-18"], ["2026-11-18"], False),
        (["2026-11-18"], ["2026-11-19"], True),
        (["2026-11-17", "2026-11-18"], ["2026-11-18", "2026-11-19"], False),
        (DAYS, ["2026-04-28"], False),
        (["2026-04-28"], DAYS, False),
        (DAYS, ["2026-11-18"], False),  # so many lock the whole asset
    ],
)
def test_a_partition_has_one_writer(database_url: str, first: list[str], second: list[str], expected: bool) -> None:
    found = []
    held(database_url, "calls", first, lambda: found.append(is_free(database_url, "calls", second)))
    assert found == [expected]
    assert is_free(database_url, "calls", second)


def test_another_asset_is_free_meanwhile(database_url: str) -> None:
    held(database_url, "calls", DAYS, lambda: None)
    found = []
    held(database_url, "calls", DAYS, lambda: found.append(is_free(database_url, "sms_events", DAYS)))
    assert found == [True]


def test_the_error_says_who_is_at_work_and_what_to_do(database_url: str) -> None:
    def second() -> None:
        with sole_writer(database_url, "calls", ["2026-11-18"], holder="the second", wait_seconds=0.3):
            raise AssertionError("there were two writers")

    with pytest.raises(
        PartitionHeldError, match=r"^calls/2026-11-18 is being written by the first writes calls/2026-11"
    ) as error:
        held(database_url, "calls", ["2026-11-18"], second)
    assert "server process" in str(error.value)
    assert "waited 0.3 s" in str(error.value)
    assert "BANDICOOT_WRITER_WAIT_SECONDS" in str(error.value)


def test_a_second_writer_begins_when_the_first_has_ended(database_url: str) -> None:
    has_begun, order = Event(), []

    def first() -> None:
        has_begun.set()
        time.sleep(0.5)
        order.append("first")

    thread = Thread(target=held, args=(database_url, "calls", ["2026-11-18"], first))
    thread.start()
    has_begun.wait()
    with sole_writer(database_url, "calls", ["2026-11-18"], holder="the second", wait_seconds=10):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_a_writer_whose_server_was_away_is_told_that_another_may_have_come_between(database_url: str) -> None:
    def end_sessions() -> None:
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'the first%%'"
            )

    with pytest.raises(UnreachableError, match=r"calls/2026-11-18 was written, but the server was away.*run again"):
        held(database_url, "calls", ["2026-11-18"], end_sessions)
    assert is_free(database_url, "calls", ["2026-11-18"])


def test_the_lock_outlives_a_limit_on_idle_transactions(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f'ALTER DATABASE "{name}" SET idle_in_transaction_session_timeout = 100')
    held(database_url, "calls", ["2026-11-18"], lambda: time.sleep(0.5))
