"""Who may do what in the published schema of a real installation, tried statement by statement."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from published_rows import DAY, EXPERIMENT, NIGHT, give_keys, list_rows, outcome, publish, state_rows

from bandicoot_core.errors import InvalidInputError, OutdatedSchemaError
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import DAGSTER_SCHEMA, Installation
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.api_keys import create_key, list_keys
from bandicoot_core.stores.published.call_lists import migrate, pending_keys, read_call_list, record_outcomes
from bandicoot_core.stores.published.experiments import record_rollout
from bandicoot_core.stores.published.migrations.upgrade import downgrade
from bandicoot_core.stores.published.received_opens import note_opens
from bandicoot_core.stores.published.recorded_outcomes import CallOutcome, record_each
from bandicoot_core.stores.published.roles import apply_roles
from bandicoot_core.stores.published.tables import PUBLISHED_TABLES, PUBLISHED_VIEWS
from tests.servers.debian_postgres import DebianPostgres
from tests.servers.pgbouncer import PgBouncer

READER, CALLER, WRITER, SERVICE = "bandicoot_reader", "bandicoot_caller", "bandicoot_writer", "bandicoot_service"
WATCHER = "bandicoot_watcher"
ROLES = [READER, CALLER, WRITER, SERVICE, WATCHER]
OBJECTS = [*PUBLISHED_TABLES, *PUBLISHED_VIEWS, "alembic_version"]
TRIES = {
    "SELECT": "SELECT * FROM {} LIMIT 1",
    "INSERT": "INSERT INTO {} DEFAULT VALUES",
    "UPDATE": "UPDATE {} SET {} = DEFAULT WHERE false",
    "DELETE": "DELETE FROM {} WHERE false",
    "TRUNCATE": "TRUNCATE {}",
    "CHANGE": "ALTER TABLE {} RENAME TO mine",
}
ALLOWED = {
    READER: {("current_call_list", "SELECT")},
    CALLER: {("current_call_list", "SELECT"), ("call_outcomes", "INSERT")},
    WRITER: {
        *((name, "SELECT") for name in OBJECTS if name != "api_keys"),
        *((name, "INSERT") for name in ("caregiver_keys", "experiment_assignments", "experiment_rollouts")),
        *((name, "INSERT") for name in ("call_list", "list_publications", "caregiver_states", "model_versions")),
        *((name, "INSERT") for name in ("clusters", "whittle_indices")),
        *((name, "INSERT") for name in ("forgettings", "forgotten_draws", "incidents", "noted_opens")),
        *((name, "UPDATE") for name in ("list_publications", "caregiver_states", "model_versions")),
        *((name, "UPDATE") for name in ("forgettings", "forgotten_draws", "incidents", "noted_opens")),
        *((name, verb) for name in ("dead_letters", "ingested_files") for verb in ("INSERT", "UPDATE", "DELETE")),
        *((name, "DELETE") for name in ("call_list", "caregiver_states")),
        *((name, "DELETE") for name in ("caregiver_keys", "experiment_assignments", "call_outcomes")),
    },
    SERVICE: {
        *((name, "SELECT") for name in ("current_call_list", "call_list", "list_publications", "call_outcomes")),
        *((name, "SELECT") for name in ("caregiver_keys", "caregiver_states", "alembic_version", "api_keys")),
        *((name, "SELECT") for name in ("model_versions", "clusters", "whittle_indices")),
        *((name, "SELECT") for name in ("suppression_secret", "forgettings", "dead_letters", "noted_opens")),
        *((name, "INSERT") for name in ("call_outcomes", "dead_letters", "noted_opens")),
        *((name, "UPDATE") for name in ("list_publications", "caregiver_states", "dead_letters", "noted_opens")),
        ("dead_letters", "DELETE"),
    },
    WATCHER: {
        *((name, "SELECT") for name in ("list_publications", "model_versions", "clusters", "whittle_indices")),
        *((name, "SELECT") for name in ("incidents", "experiment_rollouts")),
    },
}


@pytest.fixture
def owner(debian_url: str) -> Iterator[psycopg.Connection]:
    """The owner of a migrated schema with roles applied, and one row in each table that a test here reads."""
    migrate(debian_url)
    with connect(debian_url) as connection:
        apply_roles(connection)
        yield connection


@pytest.fixture
def user_url(debian_server: DebianPostgres, bouncer: PgBouncer, debian_url: str) -> Iterator[str]:
    """Through the pooler, a user who has no role yet; `user_name` finds her name."""
    name = f"user_{uuid.uuid4().hex[:8]}"
    debian_server.create_role(name, password="hers")
    yield bouncer.url(debian_server.url(database_of(debian_url), user=name, password="hers"))
    with connect(debian_url) as connection:
        connection.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


def database_of(url: str) -> str:
    return str(conninfo_to_dict(url)["dbname"])


def grant(owner: psycopg.Connection, role: str, url: str) -> None:
    user = sql.Identifier(str(conninfo_to_dict(url)["user"]))
    owner.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(role), user))


def is_allowed(connection: psycopg.Connection, role: str, statement: sql.Composable) -> bool:
    """Whether the role may run a statement, whatever else the statement may break; nothing stays of it."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
            connection.execute(statement)
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.WrongObjectType):  # or what no view can do
        return False
    except (psycopg.IntegrityError, psycopg.errors.FeatureNotSupported):
        return True
    return True


def tried(connection: psycopg.Connection, role: str, name: str, verb: str) -> bool:
    column = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped LIMIT 1",
        (f"bandicoot.{name}",),
    ).fetchone()
    assert column is not None
    names = [sql.Identifier("bandicoot", name), sql.Identifier(column[0])]
    return is_allowed(connection, role, sql.SQL(TRIES[verb]).format(*names))


@pytest.mark.parametrize("role", ROLES)
def test_a_role_may_do_exactly_what_its_users_need(owner: psycopg.Connection, role: str) -> None:
    cases = [(name, verb) for name in OBJECTS for verb in TRIES]
    assert {(name, verb) for name, verb in cases if tried(owner, role, name, verb)} == ALLOWED[role]


@pytest.mark.parametrize("role", ROLES)
def test_what_is_added_later_is_refused_until_a_right_is_listed(owner: psycopg.Connection, role: str) -> None:
    owner.execute("CREATE TABLE bandicoot.later (x int); CREATE VIEW bandicoot.later_view AS TABLE bandicoot.call_list")
    owner.execute("CREATE MATERIALIZED VIEW bandicoot.later_copy AS TABLE bandicoot.call_list")
    owner.execute("CREATE SEQUENCE bandicoot.later_numbers; ALTER TABLE bandicoot.call_outcomes ADD COLUMN later text")
    for _ in range(2):
        for name in ("later", "later_view", "later_copy"):
            assert not any(tried(owner, role, name, verb) for verb in TRIES)
        assert not is_allowed(owner, role, sql.SQL("SELECT nextval('bandicoot.later_numbers')"))
        assert not is_allowed(owner, role, sql.SQL("CREATE TABLE bandicoot.mine (x int)"))
        assert apply_roles(owner) == []
    assert tried(owner, WRITER, "call_outcomes", "SELECT")
    assert not is_allowed(owner, CALLER, sql.SQL("SELECT later FROM bandicoot.call_outcomes"))


def test_a_watcher_counts_callers_and_called_without_seeing_who_they_are(owner: psycopg.Connection) -> None:
    for counted in (
        "SELECT call_date, district, count(*) FROM bandicoot.call_list GROUP BY 1, 2",
        "SELECT outcome, count(*) FROM bandicoot.call_outcomes GROUP BY 1",
        "SELECT state, ab_arm, count(*) FROM bandicoot.caregiver_states GROUP BY 1, 2",
        "SELECT experiment, count(*) FROM bandicoot.experiment_assignments GROUP BY 1",
        "SELECT kind, count(*) FROM bandicoot.dead_letters GROUP BY 1",
    ):
        assert is_allowed(owner, WATCHER, sql.SQL(counted)), counted
    for named in (
        *("call_list", "call_outcomes", "caregiver_states", "dead_letters"),
        *("current_call_list", "caregiver_keys"),
    ):
        statement = sql.SQL("SELECT caregiver_id FROM {}").format(sql.Identifier("bandicoot", named))
        assert not is_allowed(owner, WATCHER, statement), named
    assert not is_allowed(owner, WATCHER, sql.SQL("SELECT caregiver_key FROM bandicoot.experiment_assignments"))
    assert not is_allowed(owner, WATCHER, sql.SQL("SELECT recorded_by FROM bandicoot.call_outcomes"))
    assert not is_allowed(owner, WATCHER, sql.SQL("SELECT found FROM bandicoot.dead_letters"))


def test_rights_given_by_hand_are_taken_back_and_lost_ones_given_again(owner: psycopg.Connection) -> None:
    assert apply_roles(owner) == []
    owner.execute("GRANT ALL ON bandicoot.caregiver_keys TO bandicoot_reader")
    owner.execute("GRANT SELECT ON bandicoot.caregiver_states TO PUBLIC; GRANT ALL ON SCHEMA bandicoot TO PUBLIC")
    owner.execute("GRANT SELECT (recorded_by) ON bandicoot.call_outcomes TO bandicoot_caller")
    owner.execute("REVOKE INSERT ON bandicoot.call_outcomes FROM bandicoot_caller")
    assert set(apply_roles(owner)) == {
        "granted INSERT on bandicoot.call_outcomes to bandicoot_caller",
        "revoked CREATE on schema bandicoot from PUBLIC",
        *(
            f"revoked {verb} on bandicoot.caregiver_keys from bandicoot_reader"
            for verb in ("DELETE", "INSERT", "REFERENCES", "SELECT", "TRIGGER", "TRUNCATE", "UPDATE")
        ),
        "revoked SELECT (recorded_by) on bandicoot.call_outcomes from bandicoot_caller",
        "revoked SELECT on bandicoot.caregiver_states from PUBLIC",
        "revoked USAGE on schema bandicoot from PUBLIC",
    }
    assert apply_roles(owner) == []


def test_a_caller_reads_the_list_and_records_outcomes_once_through_a_pooler(
    owner: psycopg.Connection, user_url: str
) -> None:
    grant(owner, CALLER, user_url)
    publish(owner, list_rows(["A", "B"]))
    insert = (
        "INSERT INTO bandicoot.call_outcomes (call_id, caregiver_id, call_date, attempted_at, outcome, recorded_by) "
        "VALUES ('c-1', 'A', '2026-11-20', now(), 'reached', 'centre-7') ON CONFLICT (call_id) DO NOTHING"
    )
    with connect(user_url) as caller:
        listed = caller.execute("SELECT caregiver_id FROM bandicoot.current_call_list ORDER BY rank").fetchall()
        assert listed == [("A",), ("B",)]
        assert [caller.execute(insert).rowcount for _ in range(2)] == [1, 0]
        at = datetime(2026, 11, 20, 5, tzinfo=UTC)
        others = pa.concat_tables([outcome("A", DAY, at, call_id=call_id) for call_id in ("c-1", "c-2")])
        assert record_outcomes(caller, others) == 1
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            caller.execute("SELECT outcome FROM bandicoot.call_outcomes")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            caller.execute(insert.replace("NOTHING", "UPDATE SET outcome = 'busy'"))
    stored = owner.execute("SELECT call_id, recorded_by FROM bandicoot.call_outcomes ORDER BY call_id").fetchall()
    assert stored == [("c-1", "centre-7"), ("c-2", "desk 4")]


def test_a_writer_needs_neither_ownership_nor_temporary_tables_for_everybody(
    owner: psycopg.Connection, user_url: str
) -> None:
    database = sql.Identifier(owner.info.dbname)
    owner.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    assert apply_roles(owner) == [
        f"granted {verb} on database {owner.info.dbname} to {role}"
        for role, verb in (
            (READER, "CONNECT"),
            (CALLER, "CONNECT"),
            (WRITER, "CONNECT"),
            (WRITER, "TEMPORARY"),
            (SERVICE, "CONNECT"),
            (SERVICE, "TEMPORARY"),
            (WATCHER, "CONNECT"),
        )
    ]
    grant(owner, WRITER, user_url)
    with connect(user_url) as writer:
        record_rollout(writer, experiment=EXPERIMENT, rollout_share=0.5, in_force_at=NIGHT)
        give_keys(writer, ["A", "B"])
        publish(writer, list_rows(["A"]), states=state_rows({1: "U", 2: "R"}))
        assert pending_keys(writer, call_date=DAY, pending_days=3).num_rows == 0
        assert read_call_list(writer)["caregiver_id"].to_pylist() == ["A"]
        with pytest.raises(InvalidInputError, match=r"may not.*permission denied.*bandicoot database roles"):
            record_outcomes(writer, outcome("A", DAY, NIGHT))


def test_a_service_answers_and_takes_in_with_its_own_user_through_a_pooler_and_changes_no_list_or_key(
    owner: psycopg.Connection, user_url: str
) -> None:
    owner.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(owner.info.dbname)))
    apply_roles(owner)
    give_keys(owner, ["A", "B"])
    publish(owner, list_rows(["A"]), states=state_rows({1: "U", 2: "R"}))
    key = create_key(owner, "centre 7", scopes=["read"], tier="fast", created_at=NIGHT)[1]
    grant(owner, SERVICE, user_url)
    opens = pa.table({"caregiver_key": [1], "open_date": pa.array([DAY], pa.date32())})
    with connect(user_url) as service:
        assert list_keys(service) == [key]
        assert read_call_list(service)["caregiver_id"].to_pylist() == ["A"]
        called = CallOutcome("c-1", "A", DAY, NIGHT, "reached")
        assert record_each(service, [called], recorded_by="centre 7") == ["recorded"]
        assert record_each(service, [called], recorded_by="centre 7") == ["known"]
        assert note_opens(service, opens, state_days=7, lookback_days=42) == 1
        for refused in (
            "UPDATE bandicoot.api_keys SET revoked_at = NULL",
            "DELETE FROM bandicoot.call_list",
            "UPDATE bandicoot.call_outcomes SET outcome = 'busy'",
            "SELECT * FROM bandicoot.experiment_assignments",
            "SELECT * FROM bandicoot.incidents",
            "CREATE TABLE bandicoot.mine (x int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(refused)  # type: ignore[arg-type]
    assert owner.execute("SELECT state FROM bandicoot.caregiver_states WHERE caregiver_id = 'A'").fetchall() == [("R",)]
    assert owner.execute("SELECT outcome FROM bandicoot.call_outcomes").fetchall() == [("reached",)]
    assert list_keys(owner) == [key]


def test_a_writer_is_told_who_must_upgrade_and_may_go_on_when_the_schema_is_current(
    owner: psycopg.Connection, user_url: str, debian_url: str
) -> None:
    grant(owner, WRITER, user_url)
    installation = Installation(Settings(database_url=user_url))
    with pytest.raises(InvalidInputError, match=r"making room for Dagster's storage: .* may not"):
        installation.prepare()
    assert f"created schema {DAGSTER_SCHEMA}" in apply_roles(owner, dagster_schema=DAGSTER_SCHEMA)
    installation.prepare()
    with installation.published() as connection:
        connection.execute(sql.SQL("CREATE TABLE {}.runs (x int)").format(sql.Identifier(DAGSTER_SCHEMA)))
    assert apply_roles(owner, dagster_schema=DAGSTER_SCHEMA) == []
    downgrade(debian_url, "0001")
    with pytest.raises(
        OutdatedSchemaError, match=r"revision 0001, expected .* have postgres, who owns it, run `bandic"
    ):
        installation.prepare()
    migrate(debian_url)
    installation.prepare()
    owner.execute("UPDATE bandicoot.alembic_version SET version_num = '9999'")
    with pytest.raises(OutdatedSchemaError, match=r"revision 9999, expected .*; install the release that has it"):
        installation.prepare()
    installation.close()


def test_a_user_without_a_role_is_told_how_to_get_one(owner: psycopg.Connection, user_url: str) -> None:
    with pytest.raises(InvalidInputError, match=r"may not read schema bandicoot.*bandicoot database roles"):
        migrate(user_url)


def test_a_migration_opens_what_it_adds_to_the_roles(owner: psycopg.Connection, debian_url: str) -> None:
    downgrade(debian_url, "base")
    migrate(debian_url)
    assert apply_roles(owner) == []
    assert tried(owner, WRITER, "experiment_rollouts", "INSERT")
    assert tried(owner, SERVICE, "api_keys", "SELECT")


def test_only_the_owner_applies_roles_and_none_may_be_a_superuser(owner: psycopg.Connection, user_url: str) -> None:
    owner.execute("REVOKE ALL ON bandicoot.call_list FROM bandicoot_writer")
    grant(owner, WRITER, user_url)
    with connect(user_url) as writer, pytest.raises(InvalidInputError, match="permission denied"):
        apply_roles(writer)
    owner.execute("ALTER ROLE bandicoot_caller SUPERUSER")
    try:
        with pytest.raises(InvalidInputError, match="bandicoot_caller is a superuser"):
            apply_roles(owner)
    finally:
        owner.execute("ALTER ROLE bandicoot_caller NOSUPERUSER")
