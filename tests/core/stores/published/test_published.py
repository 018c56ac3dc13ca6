"""Publishing a list, reading it back, and what readers see when a publication fails, meets another, or is killed."""

import os
import random
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from published_rows import AWKWARD_IDS, DAY, NIGHT, give_keys, is_whole, list_rows, publish, state_rows

from bandicoot_core.contracts import PUBLISHED_CALL_LIST
from bandicoot_core.errors import InvalidInputError, MissingPartitionError, UnreachableError
from bandicoot_core.stores.postgres.connections import Lock, connect, lock
from bandicoot_core.stores.published.call_lists import (
    CALL_LIST_CHANNEL,
    Publication,
    known_districts,
    last_publication,
    read_call_list,
)
from bandicoot_core.stores.published.tables import PUBLISHED_TABLES
from bandicoot_core.stores.reset import clear_published

ROOT = Path(__file__).parents[4]
BEFORE = DAY - timedelta(days=1)


def current(connection: psycopg.Connection) -> list[Any]:
    return connection.execute("SELECT * FROM bandicoot.current_call_list").fetchall()


def caregivers(rows: pa.Table) -> list[str]:
    return rows["caregiver_id"].to_pylist()


def test_a_published_list_reads_back_as_it_was_with_its_run_and_instant(published: psycopg.Connection) -> None:
    rows = list_rows(AWKWARD_IDS, district=[None, "", *["पुणे"] * (len(AWKWARD_IDS) - 2)])
    assert publish(published, rows) == len(AWKWARD_IDS)
    found = read_call_list(published)
    assert found.schema == PUBLISHED_CALL_LIST.arrow_schema()
    assert found.drop_columns(["run_id", "published_at"]).to_pylist() == rows.to_pylist()
    assert set(found["run_id"].to_pylist()) == {"run-1"}
    assert set(found["published_at"].to_pylist()) == {NIGHT}


def test_ids_that_look_like_sql_change_nothing_but_their_own_rows(published: psycopg.Connection) -> None:
    publish(published, list_rows(["CG-9"], BEFORE), BEFORE)
    publish(published, list_rows(AWKWARD_IDS))
    assert caregivers(read_call_list(published, BEFORE)) == ["CG-9"]
    assert caregivers(read_call_list(published, DAY)) == AWKWARD_IDS


def test_the_view_shows_the_newest_day_in_calling_order_whatever_the_order_of_publication(
    published: psycopg.Connection,
) -> None:
    publish(published, list_rows(["B", "A", "C"], rank=[3, 1, 2]))
    publish(published, list_rows(["D"], BEFORE), BEFORE)
    assert [(row[0], row[1], row[2]) for row in current(published)] == [(DAY, 1, "A"), (DAY, 2, "C"), (DAY, 3, "B")]
    assert [row["rank"] for row in read_call_list(published).to_pylist()] == [1, 2, 3]


def test_an_empty_list_is_visible_as_the_newest_list(published: psycopg.Connection) -> None:
    publish(published, list_rows(["A"], BEFORE), BEFORE)
    assert publish(published, list_rows([]), budget=0, run_id="run-2") == 0
    assert current(published) == []
    assert read_call_list(published).num_rows == 0
    assert last_publication(published) == Publication(DAY, 0, 0, "m-1", "run-2", NIGHT)
    assert caregivers(read_call_list(published, BEFORE)) == ["A"]


def test_a_repeated_publication_replaces_the_rows_and_what_is_said_of_them(published: psycopg.Connection) -> None:
    publish(published, list_rows(["A", "B", "C"]))
    later = NIGHT + timedelta(hours=3)
    publish(
        published,
        list_rows(["C"], model_version=["m-2"]),
        model_version="m-2",
        run_id="run-2",
        budget=5,
        published_at=later,
    )
    assert caregivers(read_call_list(published)) == ["C"]
    assert last_publication(published) == Publication(DAY, 1, 5, "m-2", "run-2", later)


def test_a_day_without_a_publication_is_refused_with_the_newest_there_is(published: psycopg.Connection) -> None:
    assert last_publication(published) is None
    with pytest.raises(MissingPartitionError, match=r"for any day \(newest: none\); materialize published_call_list"):
        read_call_list(published)
    publish(published, list_rows(["A"]))
    assert last_publication(published, BEFORE) is None
    with pytest.raises(MissingPartitionError, match=r"for 2026-11-19 \(newest: 2026-11-20\); materialize"):
        read_call_list(published, BEFORE)


def test_one_districts_rows_keep_their_ranks_and_an_unknown_district_is_refused(published: psycopg.Connection) -> None:
    give_keys(published, ["A", "B"])
    states = state_rows({1: "U", 2: "U"}).set_column(1, "district", pa.array(["Satara", "Nashik"]))
    publish(published, list_rows(["A", "B", "C"], district=["Pune", "Nashik", "Pune"]), states=states)
    found = read_call_list(published, district="Pune")
    assert list(zip(found["rank"].to_pylist(), caregivers(found), strict=True)) == [(1, "A"), (3, "C")]
    assert known_districts(published) == ["Nashik", "Pune", "Satara"]
    assert read_call_list(published, district="Satara").num_rows == 0
    with pytest.raises(InvalidInputError, match="'pune'; choose one of Nashik, Pune, Satara"):
        read_call_list(published, district="pune")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": [1, 1]}, r"\"call_list_pkey\" \(COPY call_list, line 2\)"),
        ({"rank": [0, 1]}, r"published_call_list.rank: 1 rows .* at least 1 \(first: .*rank=0, found 0\)"),
        ({"caregiver_id": ["A", "A"]}, "call_list_caregiver_once"),
        ({"caregiver_id": ["A", None]}, r"published_call_list.caregiver_id: 1 of 2 values are missing"),
        ({"state": ["U", "X"]}, "published_call_list.state: 1 rows .* one of U, R .*rank=2, found 'X'"),
        ({"ab_arm": ["both", "control"]}, "one of treatment, control .*rank=1, found 'both'"),
        ({"propensity": [0.5, 1.5]}, "published_call_list.propensity: 1 rows .* at most 1 .*found 1.5"),
        ({"propensity": [float("nan"), 1]}, "published_call_list.propensity: 1 rows"),
        ({"call_date": [DAY, BEFORE]}, "published_call_list.call_date: found 2026-11-19 .* expected 2026-11-20"),
        ({"model_version": ["m-1", "m-0"]}, "published_call_list.model_version: found m-0 .* expected m-1"),
        ({"p_top_k": [0.5, -0.1]}, "published_call_list.p_top_k: 1 rows .* at least 0 .*found -0.1"),
        ({"p_top_k": [0.5, None]}, "published_call_list.p_top_k: 1 of 2 values are missing"),
        ({"own_index": [None, 0.5]}, "published_call_list.own_index: 1 of 2 values are missing"),
        ({"reason": ["fine", "a\0b"]}, r"column reason: 1 values hold the character U\+0000"),
    ],
)
def test_rows_that_break_the_contract_are_refused_and_the_old_list_stays(
    published: psycopg.Connection, changes: dict[str, Any], message: str
) -> None:
    publish(published, list_rows(["OLD"]))
    with pytest.raises(InvalidInputError, match=message):
        publish(published, list_rows(["A", "B"], **changes), run_id="run-2")
    assert caregivers(read_call_list(published)) == ["OLD"]
    assert last_publication(published) == Publication(DAY, 1, 1, "m-1", "run-1", NIGHT)


def test_a_list_longer_than_its_budget_or_without_a_column_is_refused(published: psycopg.Connection) -> None:
    with pytest.raises(InvalidInputError, match="list_publications_within_budget"):
        publish(published, list_rows(["A", "B"]), budget=1)
    with pytest.raises(InvalidInputError, match=r"columns \['propensity'\] are missing"):
        publish(published, list_rows(["A"]).drop_columns(["propensity"]))
    with pytest.raises(ValueError, match="no time zone"):
        publish(published, list_rows(["A"]), published_at=NIGHT.replace(tzinfo=None))
    assert last_publication(published) is None


def test_a_publication_inside_another_transaction_is_refused(published: psycopg.Connection) -> None:
    with published.transaction(), pytest.raises(ValueError, match="publishing the call list of 2026-11-20 commits by"):
        publish(published, list_rows(["A"]))


def test_a_publication_is_announced_when_it_is_committed_and_not_when_it_fails(
    published: psycopg.Connection, published_url: str
) -> None:
    with connect(published_url) as listener:
        listener.execute(f"LISTEN {CALL_LIST_CHANNEL}")
        with pytest.raises(InvalidInputError):
            publish(published, list_rows(["A", "B"]), budget=1)
        publish(published, list_rows([], BEFORE), BEFORE)
        heard = list(listener.notifies(timeout=5, stop_after=1)) + list(listener.notifies(timeout=0.2))
    assert [(notice.channel, notice.payload) for notice in heard] == [(CALL_LIST_CHANNEL, "2026-11-19")]


def test_a_server_that_ends_the_session_midway_is_reported_and_the_old_list_stays(
    published: psycopg.Connection, published_url: str
) -> None:
    give_keys(published, ["A"])
    publish(published, list_rows(["OLD"]))
    states = state_rows({1: "R"})

    def ending_the_session() -> Iterator[pa.RecordBatch]:
        with connect(published_url) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (published.info.backend_pid,))
        time.sleep(0.3)
        yield from states.to_batches()

    stream = pa.RecordBatchReader.from_batches(states.schema, ending_the_session())
    with pytest.raises(UnreachableError, match=r"publishing the call list of 2026-11-20: the connection .* was lost"):
        publish(published, list_rows(["A"]), states=stream)
    with connect(published_url) as reader:
        assert caregivers(read_call_list(reader)) == ["OLD"]


def test_a_reader_never_sees_part_of_a_list_during_200_republications(
    published: psycopg.Connection, published_url: str
) -> None:
    seen: list[list[str]] = []
    torn: list[list[str]] = []
    is_over = threading.Event()

    def read() -> None:
        with connect(published_url) as reader:
            while not is_over.is_set():
                for rows in (read_call_list(reader), from_view(reader)):
                    (seen if is_whole(rows) else torn).append(sorted(set(rows["run_id"].to_pylist())))

    def from_view(reader: psycopg.Connection) -> pa.Table:
        found = reader.execute("SELECT run_id, rank FROM bandicoot.current_call_list").fetchall()
        return pa.table({"run_id": [row[0] for row in found], "rank": [row[1] for row in found]})

    def republish(turn: int) -> None:
        n_rows = 50 + 61 * (turn % 7)
        rows = list_rows([f"CG-{turn % 3}-{number}" for number in range(n_rows)])
        publish(published, rows, run_id=f"run-{turn}-{n_rows}")

    republish(0)
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read)
        try:
            for turn in range(1, 201):
                republish(turn)
        finally:
            is_over.set()
        reading.result()
    assert torn == []
    assert len(seen) > 50
    assert len({run_id for run_ids in seen for run_id in run_ids}) > 20


def test_two_publications_of_a_day_at_once_end_with_one_whole_list(
    published: psycopg.Connection, published_url: str
) -> None:
    def publish_repeatedly(name: str, n_rows: int) -> None:
        with connect(published_url) as connection:
            for turn in range(25):
                rows = list_rows([f"{name}-{number}" for number in range(n_rows)])
                publish(connection, rows, run_id=f"{name}-{turn}-{n_rows}")
                assert is_whole(read_call_list(connection))

    with ThreadPoolExecutor(2) as threads:
        for running in [
            threads.submit(publish_repeatedly, "first", 80),
            threads.submit(publish_repeatedly, "other", 120),
        ]:
            running.result()
    rows = read_call_list(published)
    assert is_whole(rows)
    last = last_publication(published)
    assert last is not None
    assert (last.run_id, last.n_rows) == (rows["run_id"][0].as_py(), rows.num_rows)


def test_a_publication_waits_for_another_of_its_day_but_not_of_other_days(
    published: psycopg.Connection, published_url: str
) -> None:
    with connect(published_url) as other, ThreadPoolExecutor(1) as threads:
        with other.transaction():
            lock(other, Lock.CALL_LIST, DAY.toordinal())
            publish(published, list_rows(["A"], BEFORE), BEFORE)
            waiting = threads.submit(publish, published, list_rows(["A"]))
            time.sleep(0.3)
            assert not waiting.done()
        assert waiting.result(timeout=10) == 1


def test_killing_the_publishing_process_at_any_moment_leaves_a_whole_list(
    published: psycopg.Connection, published_url: str
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed of the moments: {seed}")
    moments = random.Random(seed)  # noqa: S311
    publish(published, list_rows(["OLD"]), run_id="run-0-1")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    nursery = subprocess.Popen(
        [sys.executable, str(Path(__file__).parents[1] / "publishing_process.py"), published_url],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert nursery.stdin is not None
    assert nursery.stdout is not None
    seen = set()
    with nursery:
        for _ in range(50):
            nursery.stdin.write("publish\n")
            nursery.stdin.flush()
            child = int(nursery.stdout.readline())
            time.sleep(moments.uniform(0, 0.1))
            os.kill(child, 9)
            assert nursery.stdout.readline() == "ended\n"
            rows = read_call_list(published)
            assert is_whole(rows)
            seen.add(rows["run_id"][0].as_py())
            last = last_publication(published)
            assert last is not None
            assert last.n_rows == int(last.run_id.rsplit("-", 1)[1])
        nursery.stdin.close()
    assert len(seen) == 50


def test_a_cleared_schema_has_no_rows_but_its_secret_and_its_keys_start_again(published: psycopg.Connection) -> None:
    give_keys(published, ["A", "B"])
    publish(published, list_rows(["A"]), states=state_rows({1: "U", 2: "R"}))
    clear_published(published)
    for table in PUBLISHED_TABLES:
        n_rows = int(table == "suppression_secret")
        assert published.execute(f"SELECT count(*) FROM bandicoot.{table}").fetchone() == (n_rows,)
    give_keys(published, ["C"])
    assert published.execute("SELECT caregiver_key, caregiver_id FROM bandicoot.caregiver_keys").fetchall() == [
        (1, "C")
    ]


def test_no_message_quotes_a_caregiver_whose_row_is_refused(published: psycopg.Connection) -> None:
    """Messages are kept with runs, and their causes with them."""
    her = f"CG-{7 * 11 * 13}"
    give_keys(published, [her])
    with pytest.raises(InvalidInputError) as twice:
        publish(published, list_rows([her, her]))
    with pytest.raises(InvalidInputError) as unstorable:
        publish(published, list_rows([f"{her}\0"]))
    with pytest.raises(InvalidInputError) as wrong:
        publish(published, list_rows([her], state=["X"]))
    for raised in (twice, unstorable, wrong):
        assert "CG-1001" not in "".join(traceback.format_exception(raised.value))
