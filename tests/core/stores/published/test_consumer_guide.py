"""The examples of docs/consumers.md on lists and calls, run as they stand with the rights of a call centre."""

import contextlib
import queue
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from published_rows import DAY, give_keys, list_rows, publish

from bandicoot_core.calendar import day_of
from bandicoot_core.contracts import CALL_OUTCOMES
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.roles import apply_roles

GUIDE = (Path(__file__).parents[4] / "docs" / "consumers.md").read_text().partition("\n## Redis\n")[0]
"""All but the examples of Redis, which the tests of the cache run."""
IDS = ["CG-000042", "CG-000043", "CG-000044"]
AS_CALLER = "&options=-c%20role%3Dbandicoot_caller"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def centre_url(published_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database with a published list, and the URL of a user who may only do what a call centre may."""
    with connect(published_url) as connection:
        apply_roles(connection)
        give_keys(connection, IDS)
        publish(connection, list_rows(IDS))
    monkeypatch.setenv("BANDICOOT_LIST_URL", published_url + AS_CALLER)
    return published_url + AS_CALLER


def outcomes(published_url: str) -> list[tuple[Any, ...]]:
    with connect(published_url) as connection:
        return connection.execute(
            "SELECT call_id, caregiver_id, attempted_at, outcome FROM bandicoot.call_outcomes ORDER BY call_id"
        ).fetchall()


def test_the_sql_examples_read_the_list_say_of_which_day_it_is_and_record_a_call_once(
    published_url: str, centre_url: str
) -> None:
    found = []
    with psycopg.connect(centre_url, autocommit=True) as connection:
        for statement in blocks("sql") * 2:
            cursor = connection.execute(statement.encode())
            found.append(cursor.fetchall() if cursor.description else cursor.rowcount)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT * FROM bandicoot.call_outcomes")
    listed, freshness, n_taken, _, _, n_taken_again = found
    assert [row[1] for row in listed] == IDS
    assert freshness == [(DAY, day_of(datetime.now(UTC)) == DAY)]
    assert (n_taken, n_taken_again) == (1, 0)
    at = datetime(2026, 11, 20, 5, 35, tzinfo=UTC)
    assert outcomes(published_url) == [("centre-7-000123", "CG-000042", at, "no_answer")]


def test_the_python_examples_run_one_after_the_other_and_are_told_of_a_new_list(
    published_url: str, centre_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    for code in blocks("python"):
        exec(compile(code, "docs/consumers.md", "exec"), names)  # noqa: S102 - the guide is this project's own
    printed = capsys.readouterr().out
    assert "1 CG-000042 No SMS opened for 20 days" in printed
    assert re.search(r"Pune +3", printed)
    assert [row[:2] for row in outcomes(published_url)] == [
        (f"centre-7-{DAY}-{rank}", caregiver_id) for rank, caregiver_id in enumerate(IDS[:2], 1)
    ]

    seen: queue.Queue[list[dict[str, Any]]] = queue.Queue()

    def follow() -> None:
        with contextlib.suppress(psycopg.OperationalError):  # the test ends its connection
            names["follow"](centre_url, seen.put)

    following = threading.Thread(target=follow)
    following.start()
    try:
        assert [row["caregiver_id"] for row in seen.get(timeout=30)] == IDS
        with connect(published_url) as connection:
            publish(connection, list_rows(IDS[:1], DAY + timedelta(days=1)), DAY + timedelta(days=1))
        assert [(row["call_date"], row["caregiver_id"]) for row in seen.get(timeout=30)] == [
            (DAY + timedelta(days=1), IDS[0])
        ]
    finally:
        with connect(published_url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' "
                "AND datname = current_database()"
            )
        following.join(timeout=30)
    assert not following.is_alive()


def test_every_allowed_outcome_is_named() -> None:
    assert all(f"`{outcome}`" in GUIDE for outcome in CALL_OUTCOMES)
