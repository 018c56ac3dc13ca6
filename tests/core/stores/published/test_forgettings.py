"""Forgetting in the published schema: suppressed, removed and recorded at once, and nobody else is touched."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from pathlib import Path

import alembic.command
import psycopg
import pyarrow as pa
import pytest
import sqlalchemy
from published_rows import (
    AWKWARD_IDS,
    DAY,
    EXPERIMENT,
    NIGHT,
    drawn,
    give_keys,
    list_rows,
    outcome,
    publish,
    state_rows,
)

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.embedded.place import log_path_for
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.call_lists import last_publication, read_call_list, record_outcomes
from bandicoot_core.stores.published.forgettings import (
    Forgetting,
    add_removed_rows,
    count_published,
    find_forgetting,
    finish_forgetting,
    forget_published,
    key_of,
    unfinished_forgettings,
)
from bandicoot_core.stores.published.keys import ensure_keys, read_keys
from bandicoot_core.stores.published.migrations.upgrade import alembic_config, sqlalchemy_url
from bandicoot_core.stores.published.roles import apply_roles
from bandicoot_core.stores.published.suppression import forgotten_keys, suppressed_ids, suppression_hash
from bandicoot_core.stores.published.tables import PUBLISHED_TABLES

ASKED_AT = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
IDS = ["CG-1", "CG-2", "CG-3"]


def forget(connection: psycopg.Connection, caregiver_id: str, *, by: str = "desk 4") -> Forgetting:
    return forget_published(connection, caregiver_id, requested_at=ASKED_AT, requested_by=by, reason="she asked")


def fill(connection: psycopg.Connection) -> None:
    """Three caregivers on two lists, each with a state, a draw and an outcome."""
    give_keys(connection, IDS)
    for day in (DAY - timedelta(days=1), DAY):
        publish(connection, list_rows(IDS, day), day, states=state_rows({1: "U", 2: "R", 3: "U"}))
    for caregiver_id in IDS:
        record_outcomes(connection, outcome(caregiver_id, DAY, NIGHT))


def test_she_is_gone_from_every_table_and_the_others_are_as_they_were(published: psycopg.Connection) -> None:
    fill(published)
    counts = {
        "bandicoot.call_list": 2,
        "bandicoot.call_outcomes": 1,
        "bandicoot.caregiver_keys": 1,
        "bandicoot.caregiver_states": 1,
        "bandicoot.experiment_assignments": 1,
    }
    assert count_published(published, "CG-2") == counts
    record = forget(published, "CG-2")
    assert (record.state, record.caregiver_key, record.removed_rows) == ("requested", 2, counts)
    assert (record.requested_at, record.requested_by, record.reason) == (ASKED_AT, "desk 4", "she asked")
    assert count_published(published, "CG-2") == {}
    for table in PUBLISHED_TABLES:
        assert not any("CG-2" in str(row) for row in published.execute(f"SELECT * FROM bandicoot.{table}"))
    assert read_keys(published, experiment=EXPERIMENT)["caregiver_id"].to_pylist() == ["CG-1", "CG-3"]
    assert published.execute("SELECT caregiver_id FROM bandicoot.caregiver_states ORDER BY 1").fetchall() == [
        ("CG-1",),
        ("CG-3",),
    ]


def test_lists_keep_the_ranks_of_the_others_and_count_one_row_less(published: psycopg.Connection) -> None:
    fill(published)
    forget(published, "CG-2")
    rows = read_call_list(published, DAY)
    assert list(zip(rows["rank"].to_pylist(), rows["caregiver_id"].to_pylist(), strict=True)) == [
        (1, "CG-1"),
        (3, "CG-3"),
    ]
    publication = last_publication(published, DAY)
    assert publication is not None
    assert (publication.n_rows, publication.budget) == (2, 3)


def test_readers_of_the_newest_list_are_told(published: psycopg.Connection, published_url: str) -> None:
    fill(published)
    with connect(published_url) as listening:
        listening.execute("LISTEN bandicoot_call_list")
        forget(published, "CG-2")
        assert [notice.payload for notice in listening.notifies(timeout=5, stop_after=1)] == [DAY.isoformat()]


@pytest.mark.parametrize("caregiver_id", AWKWARD_IDS[:20])
def test_the_hash_is_a_keyed_one_of_the_ids_bytes(published: psycopg.Connection, caregiver_id: str) -> None:
    row = published.execute("SELECT inner_key FROM bandicoot.suppression_secret").fetchone()
    assert row is not None
    secret = bytes(byte ^ 0x36 for byte in bytes.fromhex(row[0]))
    expected = hmac.new(secret, caregiver_id.encode(), hashlib.sha256).hexdigest()
    assert suppression_hash(published, caregiver_id) == expected
    assert forget(published, caregiver_id).suppression_hash == expected
    assert suppressed_ids(published, pa.array([*IDS, caregiver_id, None])).to_pylist() == [caregiver_id]


def test_who_was_forgotten_gets_no_key_and_no_draw_again(published: psycopg.Connection) -> None:
    fill(published)
    forget(published, "CG-2")
    assert give_keys(published, [*IDS, "CG-4"]) == 1
    keys = read_keys(published, experiment=EXPERIMENT)
    assert keys["caregiver_id"].to_pylist() == ["CG-1", "CG-3", "CG-4"]
    assert forgotten_keys(published)["caregiver_key"].to_pylist() == [2]


def test_her_place_in_the_experiment_stays_taken(published: psycopg.Connection) -> None:
    fill(published)
    forget(published, "CG-2")
    seen: list[dict[str, int]] = []

    def draw_of(ids: object, n_drawn: object) -> pa.Table:
        seen.append(dict(n_drawn))  # type: ignore[call-overload]
        return drawn([0.5])

    ensure_keys(published, ["CG-9"], draw_of=draw_of, experiment=EXPERIMENT, seen_at=NIGHT)
    assert seen == [{"all": 3}]


def test_outcomes_of_hers_that_come_late_are_not_taken(published: psycopg.Connection) -> None:
    fill(published)
    forget(published, "CG-2")
    late = NIGHT + timedelta(hours=9)
    both = pa.concat_tables([outcome("CG-2", DAY, late), outcome("CG-3", DAY, late)])
    assert record_outcomes(published, both) == 1
    inserted = published.execute(
        "INSERT INTO bandicoot.call_outcomes VALUES ('C-1', 'CG-2', %s, %s, 'busy', 'desk 4') ON CONFLICT DO NOTHING",
        (DAY, late),
    )
    assert inserted.rowcount == 0
    assert count_published(published, "CG-2") == {}


def test_a_list_made_before_is_published_without_her(published: psycopg.Connection) -> None:
    fill(published)
    forget(published, "CG-2")
    made = list_rows(IDS, DAY + timedelta(days=1))
    assert publish(published, made, DAY + timedelta(days=1), states=state_rows({1: "U", 2: "R", 3: "U"})) == 2
    rows = read_call_list(published)
    assert rows["rank"].to_pylist() == [1, 3]
    assert count_published(published, "CG-2") == {}


def test_asking_again_keeps_who_asked_first_and_removes_what_came_since(published: psycopg.Connection) -> None:
    fill(published)
    record = forget(published, "CG-2")
    add_removed_rows(published, record.suppression_hash, "lake.calls", 4)
    add_removed_rows(published, record.suppression_hash, "lake.calls", 3)
    assert [found.suppression_hash for found in unfinished_forgettings(published)] == [record.suppression_hash]
    done = finish_forgetting(published, record.suppression_hash, done_at=ASKED_AT + timedelta(minutes=1))
    assert (done.state, done.done_at) == ("done", ASKED_AT + timedelta(minutes=1))
    published.execute("ALTER TABLE bandicoot.call_outcomes DISABLE TRIGGER leave_out_forgotten")
    record_outcomes(published, outcome("CG-2", DAY, NIGHT))
    again = forget(published, "CG-2", by="somebody else")
    assert (again.requested_by, again.state, again.done_at) == ("desk 4", "done", done.done_at)
    assert again.removed_rows["bandicoot.call_outcomes"] == 2
    assert again.removed_rows["lake.calls"] == 7
    assert key_of(published, "CG-2") == again.caregiver_key == 2
    assert unfinished_forgettings(published) == []


def test_a_caregiver_nobody_knows_is_suppressed_all_the_same(published: psycopg.Connection) -> None:
    record = forget(published, "CG-7")
    assert (record.caregiver_key, record.removed_rows) == (None, {})
    assert find_forgetting(published, "CG-7") == record
    assert give_keys(published, ["CG-7"]) == 0


def test_without_the_secret_nobody_is_forgotten_by_halves(published: psycopg.Connection) -> None:
    fill(published)
    published.execute("DELETE FROM bandicoot.suppression_secret")
    with pytest.raises(InvalidInputError, match=r"suppression_secret is empty.*restore its row"):
        forget(published, "CG-2")
    assert sum(count_published(published, "CG-2").values()) == 6


def test_without_the_secret_nobody_is_taken_in_while_somebody_is_forgotten(published: psycopg.Connection) -> None:
    forget(published, "CG-2")
    published.execute("DELETE FROM bandicoot.suppression_secret")
    with pytest.raises(InvalidInputError, match="suppression_secret is empty"):
        give_keys(published, IDS)
    assert read_keys(published, experiment=EXPERIMENT).num_rows == 0


def test_the_writers_role_is_enough_to_forget_and_no_other_sees_who_was(
    published: psycopg.Connection, published_url: str
) -> None:
    fill(published)
    apply_roles(published)
    with connect(f"{published_url}&options=-c%20role%3Dbandicoot_writer") as writer:
        record = forget(writer, "CG-2")
        assert finish_forgetting(writer, record.suppression_hash, done_at=ASKED_AT).state == "done"
    assert count_published(published, "CG-2") == {}
    with connect(f"{published_url}&options=-c%20role%3Dbandicoot_caller") as caller:
        for caregiver_id, n_taken in (("CG-2", 0), ("CG-1", 1)):
            taken = caller.execute(
                "INSERT INTO bandicoot.call_outcomes VALUES (%s, %s, %s, %s, 'busy', 'desk 4')",
                (f"late {caregiver_id}", caregiver_id, DAY, NIGHT),
            )
            assert taken.rowcount == n_taken
        for table in ("forgettings", "suppression_secret", "forgotten_draws"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                caller.execute(f"SELECT * FROM bandicoot.{table}")


def test_the_embedded_servers_log_says_what_was_wrong_and_quotes_no_row(published: psycopg.Connection) -> None:
    statement = (
        "INSERT INTO bandicoot.caregiver_keys (caregiver_id, first_seen_at) "
        "SELECT 'CG-{}', now() FROM generate_series(1, 2)"
    )
    with pytest.raises(psycopg.errors.ExclusionViolation):
        published.execute(statement.format(7 * 11 * 13).encode())
    row = published.execute("SHOW data_directory").fetchone()
    assert row is not None
    log = log_path_for(Path(row[0])).read_text()
    assert "violates exclusion constraint" in log
    assert "CG-1001" not in log


def test_the_migration_goes_back_while_nobody_is_forgotten_and_is_refused_after(published_url: str) -> None:
    def downgrade() -> None:
        config = alembic_config()
        engine = sqlalchemy.create_engine(sqlalchemy_url(published_url), poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            alembic.command.downgrade(config, "0004-1")

    with connect(published_url) as connection:
        fill(connection)
        forget(connection, "CG-2")
        with pytest.raises(sqlalchemy.exc.DatabaseError, match="would come back without it"):
            downgrade()
        assert find_forgetting(connection, "CG-2") is not None
        connection.execute("DELETE FROM bandicoot.forgettings")
        downgrade()
        assert connection.execute("SELECT to_regclass('bandicoot.forgettings')").fetchone() == (None,)
        connection.execute(
            "INSERT INTO bandicoot.call_outcomes VALUES ('C-1', 'CG-2', %s, %s, 'busy', 'desk 4')", (DAY, NIGHT)
        )
