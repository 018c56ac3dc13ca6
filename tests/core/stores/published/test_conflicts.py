"""Publications and outcomes that meet a deadlock or a lock of another session, with two real sessions."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pyarrow as pa
import pytest
from published_rows import DAY, NIGHT, give_keys, list_rows, outcome, publish, state_rows

from bandicoot_core.errors import BusyError, TransientError
from bandicoot_core.stores.postgres.connections import Limits, connect
from bandicoot_core.stores.published.call_lists import last_publication, read_call_list, record_outcomes

PATIENT = "SET deadlock_timeout = '60s'"
"""Of a session that never looks for deadlocks itself: the other one is undone."""


@pytest.fixture
def rival(published_url: str) -> Iterator[psycopg.Connection]:
    """Another session, which a deadlock leaves alone: the first one looks for it a second after it began to wait."""
    with connect(published_url) as connection:
        connection.execute(PATIENT)
        yield connection


def wait_for_a_waiter(session: psycopg.Connection) -> None:
    """Until somebody waits for a lock that this session holds."""
    waiting = "SELECT FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"
    deadline = time.monotonic() + 20
    while not session.execute(waiting).fetchall():
        assert time.monotonic() < deadline, "nobody waits"


def meet(
    rival: psycopg.Connection, first: str, then: str, work: Callable[[], object], *, n_meetings: int
) -> tuple[object, int]:
    """Let `work` run into deadlocks with the rival, who locks `first`, and `then` when work waits for it.

    Returns what came of `work`, a result or an error, and how often it was undone in the rival's favour.
    """
    n_undone = 0

    def compete(is_first_held: threading.Event) -> None:
        nonlocal n_undone
        with rival.transaction():
            rival.execute(f"LOCK TABLE {first} IN EXCLUSIVE MODE")
            is_first_held.set()
            for _ in range(n_meetings):
                # Undone to here, the rival goes on holding `first` and gives `then` back.
                with rival.transaction(force_rollback=True):
                    wait_for_a_waiter(rival)
                    rival.execute(f"LOCK TABLE {then} IN ACCESS EXCLUSIVE MODE")
                    n_undone += 1

    with ThreadPoolExecutor(1) as threads:
        is_first_held = threading.Event()
        competing = threads.submit(compete, is_first_held)
        is_first_held.wait(10)
        try:
            came: object = work()
        except TransientError as error:
            came = error
        competing.result(60)
    return came, n_undone


def test_a_publication_that_loses_to_a_deadlock_is_repeated_to_the_same_list(
    published: psycopg.Connection, rival: psycopg.Connection
) -> None:
    give_keys(published, ["A", "B"])
    publish(published, list_rows(["OLD"]))
    n_opened = 0

    def states() -> pa.RecordBatchReader:
        nonlocal n_opened
        n_opened += 1
        rows = state_rows({1: "R", 2: "U"})
        return pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches())

    came, n_undone = meet(
        rival,
        "bandicoot.list_publications",
        "bandicoot.call_list",
        lambda: publish(published, list_rows(["A", "B"]), states=states, run_id="run-2"),
        n_meetings=1,
    )
    assert (came, n_undone, n_opened >= 1) == (2, 1, True)
    assert read_call_list(published)["caregiver_id"].to_pylist() == ["A", "B"]
    publication = last_publication(published)
    assert publication is not None
    assert publication.run_id == "run-2"
    stored = published.execute("SELECT caregiver_id, state FROM bandicoot.caregiver_states ORDER BY 1").fetchall()
    assert stored == [("A", "R"), ("B", "U")]


def test_a_publication_of_a_stream_is_not_repeated_since_it_can_be_read_once(
    published: psycopg.Connection, rival: psycopg.Connection
) -> None:
    give_keys(published, ["A"])
    publish(published, list_rows(["OLD"]), states=state_rows({1: "U"}))
    rows = state_rows({1: "R"})
    stream = pa.RecordBatchReader.from_batches(rows.schema, rows.to_batches())
    came, n_undone = meet(
        rival,
        "bandicoot.list_publications",
        "bandicoot.call_list",
        lambda: publish(published, list_rows(["A"]), states=stream),
        n_meetings=1,
    )
    assert isinstance(came, BusyError)
    assert n_undone == 1
    assert read_call_list(published)["caregiver_id"].to_pylist() == ["OLD"]
    assert published.execute("SELECT state FROM bandicoot.caregiver_states").fetchall() == [("U",)]


def test_a_publication_that_loses_again_and_again_says_run_again_and_leaves_the_old_list(
    published: psycopg.Connection, rival: psycopg.Connection
) -> None:
    publish(published, list_rows(["OLD"]))
    came, n_undone = meet(
        rival,
        "bandicoot.list_publications",
        "bandicoot.call_list",
        lambda: publish(published, list_rows(["A"])),
        n_meetings=3,
    )
    assert isinstance(came, BusyError)
    assert n_undone == 3
    assert str(came).startswith(f"publishing the call list of {DAY}: another session changed the same at the same time")
    assert "nothing was written; run again" in str(came)
    assert read_call_list(published)["caregiver_id"].to_pylist() == ["OLD"]
    assert publish(published, list_rows(["A"])) == 1


def test_outcomes_that_lose_to_a_deadlock_are_recorded_once(
    published: psycopg.Connection, published_url: str, rival: psycopg.Connection
) -> None:
    rows = [outcome("A", DAY, NIGHT, call_id=f"c-{number}") for number in range(3)]
    is_first_inserted = threading.Event()

    def compete() -> None:
        with rival.transaction():
            # Uncommitted ids make the other session wait; it holds c-0 when this one wants it.
            insert = "INSERT INTO bandicoot.call_outcomes VALUES (%s, 'A', '2026-11-20', now(), 'busy', 'rival')"
            rival.execute(insert, ("c-2",))
            is_first_inserted.set()
            wait_for_a_waiter(rival)
            rival.execute(insert, ("c-0",))

    with ThreadPoolExecutor(1) as threads:
        competing = threads.submit(compete)
        is_first_inserted.wait(10)
        assert record_outcomes(published, pa.concat_tables(rows)) == 1
        competing.result(60)
    stored = published.execute("SELECT call_id, recorded_by FROM bandicoot.call_outcomes ORDER BY 1").fetchall()
    assert stored == [("c-0", "rival"), ("c-1", "desk 4"), ("c-2", "rival")]


def test_a_publication_that_waits_too_long_for_a_lock_leaves_the_old_list_and_can_be_repeated(
    published: psycopg.Connection, published_url: str
) -> None:
    publish(published, list_rows(["OLD"]))
    limits = Limits(statement_seconds=30, bulk_seconds=30, lock_seconds=1)
    with connect(published_url, limits=limits) as limited:
        with published.transaction():
            published.execute("LOCK TABLE bandicoot.list_publications")
            with pytest.raises(BusyError, match=r"publishing .*: another session holds.*lock timeout.*run again"):
                publish(limited, list_rows(["A"]))
        assert read_call_list(limited)["caregiver_id"].to_pylist() == ["OLD"]
        assert publish(limited, list_rows(["A"])) == 1
