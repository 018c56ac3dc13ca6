"""Every revision of the published schema up and down with rows in it, on the wheel's PostgreSQL and on Debian's."""

import json
import re
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from published_rows import AWKWARD_IDS

from bandicoot_core.errors import BusyError, InvalidInputError
from bandicoot_core.stores.postgres.connections import Limits, connect
from bandicoot_core.stores.published.call_lists import last_publication, pending_keys, read_call_list
from bandicoot_core.stores.published.experiments import read_assignments, read_rollouts
from bandicoot_core.stores.published.migrations import HEAD_REVISION
from bandicoot_core.stores.published.migrations.upgrade import NOTHING, downgrade, revisions, upgrade
from bandicoot_core.stores.published.models import champion, read_clusters, read_indices
from bandicoot_core.stores.published.tables import PUBLISHED_VIEWS

REVISIONS = revisions()
OLDER = REVISIONS[:-1]
FIRST_DAY = date(2026, 11, 18)
TABLES_DOCUMENT = Path(__file__).parents[4] / "docs" / "tables.md"

KEYS = "INSERT INTO bandicoot.caregiver_keys (caregiver_id, first_seen_at) VALUES (%(id)s, now())"
MODEL = (
    "INSERT INTO bandicoot.model_versions (model_version, training_week, status, checks, recipe, created_at, run_id) "
    "VALUES ('m-1', '2026-11-15', 'champion', '{\"a\": 1}', '{}', now(), 'run-1') ON CONFLICT DO NOTHING",
    "INSERT INTO bandicoot.clusters VALUES ('m-1', 0, 0.25, 0.75, 10, 2) ON CONFLICT DO NOTHING",
    "INSERT INTO bandicoot.whittle_indices VALUES ('m-1', 0, 'U', 0.5, 'nan', 'infinity', true, 0.25, 0.5) "
    "ON CONFLICT DO NOTHING",
)
LIST = """
    INSERT INTO bandicoot.call_list (
        call_date, rank, caregiver_id, district, state, cluster_id, whittle_index, index_low, index_high, reason,
        days_since_last_open, last_call_date, ab_arm, propensity, model_version, run_id, published_at)
    VALUES (%(day)s, %(rank)s, %(id)s, NULL, 'U', 0, 0.1, 0.05, 0.2, 'because', NULL, NULL, 'treatment', 1, 'm-1',
        'run-1', now())
"""
PUBLICATION = (
    "INSERT INTO bandicoot.list_publications VALUES (%(day)s, %(n)s, %(n)s, 'm-1', 'run-1', now(), %(day)s - 1)"
)
OUTCOME = "INSERT INTO bandicoot.call_outcomes VALUES (%(day)s || 'c', %(id)s, %(day)s, %(day)s, 'reached', 'desk')"
STATE = (
    "INSERT INTO bandicoot.caregiver_states (caregiver_id, state, warm_up_end_date, status, ab_arm, as_of_date) "
    "VALUES (%(id)s, 'R', %(day)s, 'active', 'control', %(day)s)"
)
HASHED = "('x' || substr(md5('e:' || %(id)s), 1, 8))::bit(32)::bigint / 4294967296.0"
ARM = (
    "INSERT INTO bandicoot.experiment_assignments (experiment, caregiver_key, ab_arm, assigned_at) "
    f"SELECT 'e', caregiver_key, CASE WHEN {HASHED} < 0.25 THEN 'control' ELSE 'treatment' END, now() "
    "FROM bandicoot.caregiver_keys WHERE caregiver_id = %(id)s"
)
DRAW = (
    "INSERT INTO bandicoot.experiment_assignments (experiment, caregiver_key, assigned_at, stratum, block, draw) "
    "SELECT 'e', caregiver_key, now(), 'Pune', 3, (caregiver_key + 1) / 100.0 FROM bandicoot.caregiver_keys "
    "WHERE caregiver_id = %(id)s"
)
SHARE = "INSERT INTO bandicoot.experiment_rollouts VALUES ('e', '2026-01-01', 0.75) ON CONFLICT DO NOTHING"


@pytest.fixture(params=["embedded", "debian"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database on either PostgreSQL."""
    found: str = request.getfixturevalue("database_url" if request.param == "embedded" else "debian_url")
    return found


def write(connection: psycopg.Connection, revision: str, day: date) -> None:
    """Rows as the release of that revision writes them: new caregivers, arms, a list, what came of it."""
    ids = [f"{caregiver_id} {day}" for caregiver_id in AWKWARD_IDS]
    rows: list[dict[str, Any]] = [
        {"id": each, "day": day, "rank": rank, "n": len(ids)} for rank, each in enumerate(ids, start=1)
    ]
    statements = [KEYS, LIST, STATE, ARM if revision < "0003" else DRAW]
    with connection.transaction(), connection.cursor() as cursor:
        for statement in MODEL + ((SHARE,) if revision >= "0003" else ()):
            cursor.execute(statement)
        for statement in statements:
            cursor.executemany(statement, rows)
        for statement in (PUBLICATION, OUTCOME):
            cursor.execute(statement, rows[0])
        if revision >= "0002":
            cursor.execute("UPDATE bandicoot.call_list SET own_index = 0.5, p_top_k = 0.25 WHERE call_date = %s", [day])


def rows_of(connection: psycopg.Connection) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables, in a fixed order."""
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'bandicoot'::regnamespace AND relkind = 'r' "
        "AND relname <> 'alembic_version'"
    ).fetchall()
    found = {}
    for (table,) in tables:
        statement = sql.SQL("SELECT to_jsonb(stored)::text FROM {} AS stored").format(
            sql.Identifier("bandicoot", table)
        )
        found[table] = sorted((json.loads(row[0]) for row in connection.execute(statement)), key=in_order)
    return found


def but_the_secret(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """While nobody is forgotten the secret stands for nothing: each upgrade makes a fresh one."""
    return {table: found for table, found in rows.items() if table != "suppression_secret"}


def in_order(row: dict[str, Any]) -> str:
    names = ("experiment", "caregiver_key", "call_date", "rank", "call_id", "caregiver_id", "in_force_at", "cluster_id")
    return json.dumps([row.get(name) for name in names])


def lost(before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What was there before and is not after; columns that only one of both has do not count."""
    found = []
    for table, rows in before.items():
        kept = after.get(table, [])
        if len(kept) < len(rows):
            found.append(f"{table}: {len(rows) - len(kept)} rows")
        for old, new in zip(rows, kept, strict=False):
            found += [f"{table}.{name}" for name in old.keys() & new.keys() if old[name] != new[name]]
    return found


def arms(connection: psycopg.Connection) -> dict[int, str]:
    share = read_rollouts(connection, experiment="e")[-1].rollout_share
    drawn = read_assignments(connection, experiment="e").to_pylist()
    return {row["caregiver_key"]: "treatment" if row["draw"] < share else "control" for row in drawn}


def stored_arms(connection: psycopg.Connection) -> dict[int, str]:
    return dict(
        connection.execute("SELECT caregiver_key, ab_arm FROM bandicoot.experiment_assignments ORDER BY 1").fetchall()
    )


def assert_readable(connection: psycopg.Connection, *days: date) -> None:
    """Whether the stores of this release read everything that was written on these days."""
    n_ids = len(AWKWARD_IDS)
    for day in days:
        assert read_call_list(connection, day)["caregiver_id"].to_pylist() == [f"{each} {day}" for each in AWKWARD_IDS]
    publication = last_publication(connection)
    assert publication is not None
    assert publication.call_date == max(days)
    model = champion(connection)
    assert model is not None
    assert read_clusters(connection, model.model_version).num_rows == 1
    assert read_indices(connection, model.model_version)["index_high"].to_pylist() == [float("inf")]
    assert len(arms(connection)) == n_ids * len(days)
    # Of each list one caregiver has an outcome.
    waiting = pending_keys(connection, call_date=max(days) + timedelta(days=9), pending_days=30)
    assert waiting.num_rows == (n_ids - 1) * len(days)


@pytest.mark.parametrize("revision", OLDER)
def test_rows_of_an_older_release_are_kept_and_readable_at_the_newest_revision(url: str, revision: str) -> None:
    upgrade(url, revision)
    with connect(url) as connection:
        write(connection, revision, FIRST_DAY)
        before = rows_of(connection)
        before_arms = stored_arms(connection) if revision < "0003" else arms(connection)
        assert before_arms
        upgrade(url)
        assert lost(before, rows_of(connection)) == []
        assert arms(connection) == before_arms
        assert_readable(connection, FIRST_DAY)


@pytest.mark.parametrize("revision", OLDER)
def test_a_downgrade_keeps_rows_and_an_upgrade_takes_them_back_with_those_written_between(
    url: str, revision: str
) -> None:
    upgrade(url)
    with connect(url) as connection:
        write(connection, HEAD_REVISION, FIRST_DAY)
        before, before_arms = rows_of(connection), arms(connection)
        downgrade(url, revision)
        assert connection.execute("SELECT version_num FROM bandicoot.alembic_version").fetchall() == [(revision,)]
        if revision < "0003":
            assert stored_arms(connection) == before_arms
        next_day = FIRST_DAY + timedelta(days=1)
        write(connection, revision, next_day)
        between_arms = stored_arms(connection) if revision < "0003" else arms(connection)
        upgrade(url)
        after = rows_of(connection)
        first_day_rows = {
            table: [row for row in rows if FIRST_DAY.isoformat() in json.dumps(row) or "caregiver_key" in row]
            for table, rows in before.items()
        }
        for table, rows in first_day_rows.items():
            assert [row for row in rows if row not in after[table]] == []
        assert arms(connection) == between_arms
        assert_readable(connection, FIRST_DAY, next_day)


@pytest.mark.parametrize("revision", REVISIONS)
def test_each_step_goes_down_and_up_again_with_the_same_rows(url: str, revision: str) -> None:
    upgrade(url, revision)
    below = REVISIONS[REVISIONS.index(revision) - 1] if revision != REVISIONS[0] else NOTHING
    with connect(url) as connection:
        if below != NOTHING:
            write(connection, revision, FIRST_DAY)
        before = but_the_secret(rows_of(connection))
        columns = shown_columns(connection)
        for _ in range(2):
            downgrade(url, below)
            upgrade(url, revision)
        assert but_the_secret(rows_of(connection)) == before
        assert shown_columns(connection) == columns


def test_tables_with_rows_are_not_dropped_and_empty_ones_are(url: str) -> None:
    upgrade(url)
    with connect(url) as connection:
        write(connection, HEAD_REVISION, FIRST_DAY)
        before = rows_of(connection)
        with pytest.raises(InvalidInputError, match=r"revision 0001 is not undone: the tables call_list, .* hold rows"):
            downgrade(url, NOTHING)
        assert rows_of(connection) == before
        assert connection.execute("SELECT version_num FROM bandicoot.alembic_version").fetchall() == [(HEAD_REVISION,)]
        connection.execute(f"TRUNCATE {', '.join(f'bandicoot.{name}' for name in before)}")
        downgrade(url, NOTHING)
        assert rows_of(connection) == {}
        upgrade(url)
        assert rows_of(connection).keys() == before.keys()


def test_draws_that_nobody_can_turn_into_arms_stay_at_their_revision(database_url: str) -> None:
    upgrade(database_url)
    with connect(database_url) as connection:
        write(connection, HEAD_REVISION, FIRST_DAY)
        connection.execute("DELETE FROM bandicoot.experiment_rollouts")
        with pytest.raises(InvalidInputError, match="experiment 'e' has draws, but no rollout"):
            downgrade(database_url, "0002")
        assert len(read_assignments(connection, experiment="e")) == len(AWKWARD_IDS)


def test_a_revision_that_does_not_exist_is_refused_with_those_that_do(database_url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"revision 77 is not known; choose one of 0001, .*, head"):
        upgrade(database_url, "77")
    with pytest.raises(InvalidInputError, match=r"revision head is not known; choose one of 0001, .*, base"):
        downgrade(database_url, "head")


def test_a_migration_gives_up_when_the_tables_are_in_use_and_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bandicoot_core.stores.published.migrations.upgrade._LOCK_SECONDS", 0.2)
    upgrade(database_url, OLDER[0])
    limits = Limits(statement_seconds=5, bulk_seconds=5, lock_seconds=5)
    with connect(database_url) as reader, reader.transaction():
        reader.execute("SELECT FROM bandicoot.call_list")
        with pytest.raises(BusyError, match=r"upgrading schema bandicoot: another session holds .* run again"):
            upgrade(database_url, limits=limits)
    with connect(database_url) as connection:
        assert connection.execute("SELECT version_num FROM bandicoot.alembic_version").fetchall() == [(OLDER[0],)]
    upgrade(database_url, limits=limits)


def shown_columns(connection: psycopg.Connection) -> dict[str, list[tuple[str, str]]]:
    """The columns of each view, with their types, in order."""
    rows = connection.execute(
        "SELECT relname, attname, format_type(atttypid, atttypmod) FROM pg_class JOIN pg_attribute ON attrelid = "
        "pg_class.oid WHERE relnamespace = to_regnamespace('bandicoot') AND relkind = 'v' AND attnum > 0 "
        "ORDER BY relname, attnum"
    ).fetchall()
    views: dict[str, list[tuple[str, str]]] = {}
    for view, name, kind in rows:
        views.setdefault(view, []).append((name, kind))
    return views


def test_what_readers_see_is_added_to_at_the_end_and_never_changed_removed_or_reordered(database_url: str) -> None:
    with connect(database_url) as connection:
        history = []
        for revision in REVISIONS:
            upgrade(database_url, revision)
            history.append(shown_columns(connection))
        for revision in reversed(OLDER):
            downgrade(database_url, revision)
            assert shown_columns(connection) == history[-1]
    for earlier, later in pairwise(history):
        for view, columns in earlier.items():
            assert later[view][: len(columns)] == columns
    assert {view: [name for name, _ in columns] for view, columns in history[-1].items()} == {
        view: contract.column_names for view, contract in PUBLISHED_VIEWS.items()
    }


def test_the_document_shows_the_columns_of_the_view_in_its_order() -> None:
    section = TABLES_DOCUMENT.read_text().split("## published_call_list\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == PUBLISHED_VIEWS["current_call_list"].column_names
