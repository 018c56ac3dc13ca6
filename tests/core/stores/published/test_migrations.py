"""What a migration leaves in the database, and what happens when several come at once or one fails."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import alembic.command
import psycopg
import pytest
import sqlalchemy.exc
from alembic.script import ScriptDirectory

from bandicoot_core.contracts import ColumnType, TableContract
from bandicoot_core.errors import InvalidInputError, UnreachableError
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.call_lists import migrate, read_call_list
from bandicoot_core.stores.published.migrations import HEAD_REVISION
from bandicoot_core.stores.published.migrations.upgrade import alembic_config, describe_column, sqlalchemy_url
from bandicoot_core.stores.published.tables import PUBLISHED_TABLES, PUBLISHED_VIEWS

ROOT = Path(__file__).parents[4]

POSTGRES_TYPES: dict[ColumnType, str] = {
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float64": "double precision",
    "string": "text",
    "bool": "boolean",
    "date": "date",
    "timestamp": "timestamp with time zone",
}


def expected_columns(contract: TableContract) -> list[tuple[str, str, bool, str]]:
    return [
        (
            column.name,
            "jsonb" if column.unit == "JSON" else POSTGRES_TYPES[column.type],
            column.is_nullable,
            describe_column(column),
        )
        for column in contract.columns
    ]


def stored_columns(connection: psycopg.Connection, relation: str) -> list[tuple[str, str, bool, str]]:
    return connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull, col_description(attrelid, attnum) "
        "FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        (f"bandicoot.{relation}",),
    ).fetchall()


def relations(connection: psycopg.Connection) -> set[tuple[str, str]]:
    return set(
        connection.execute(
            "SELECT relname, relkind::text FROM pg_class WHERE relnamespace = to_regnamespace('bandicoot') "
            "AND relkind IN ('r', 'v')"
        )
    )


def in_python(code: str, url: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code, url], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_the_schema_holds_the_tables_and_views_of_the_contracts_and_no_others(published: psycopg.Connection) -> None:
    expected = {(name, "r") for name in PUBLISHED_TABLES} | {(name, "v") for name in PUBLISHED_VIEWS}
    assert relations(published) == expected | {("alembic_version", "r")}


@pytest.mark.parametrize("table", PUBLISHED_TABLES)
def test_a_table_has_its_contracts_columns_in_order_type_nullability_and_meaning(
    published: psycopg.Connection, table: str
) -> None:
    assert stored_columns(published, table) == expected_columns(PUBLISHED_TABLES[table])
    comment = published.execute("SELECT obj_description(%s::regclass)", (f"bandicoot.{table}",)).fetchone()
    assert comment == (PUBLISHED_TABLES[table].description,)


@pytest.mark.parametrize("view", PUBLISHED_VIEWS)
def test_a_view_has_its_contracts_columns_in_order_type_and_meaning(published: psycopg.Connection, view: str) -> None:
    def shown(columns: list[tuple[str, str, bool, str]]) -> list[tuple[str, str, str]]:
        return [(name, kind, comment) for name, kind, _, comment in columns]

    assert shown(stored_columns(published, view)) == shown(expected_columns(PUBLISHED_VIEWS[view]))


@pytest.mark.parametrize("table", PUBLISHED_TABLES)
def test_the_allowed_values_of_a_contract_are_held_by_the_database(published: psycopg.Connection, table: str) -> None:
    checks = " ".join(
        row[0]
        for row in published.execute(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'",
            (f"bandicoot.{table}",),
        )
    )
    for column in PUBLISHED_TABLES[table].columns:
        if column.allowed is not None:
            allowed = ", ".join(f"'{value}'::text" for value in column.allowed)
            assert f"({column.name} = ANY (ARRAY[{allowed}]))" in checks


def test_the_newest_revision_known_without_alembic_is_the_only_head_of_the_files() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [HEAD_REVISION]


def test_a_migration_of_a_current_schema_does_not_even_load_alembic(published_url: str) -> None:
    code = """
import sys
from bandicoot_core.stores.published.call_lists import migrate
migrate(sys.argv[1])
print("alembic" in sys.modules)
"""
    process = in_python(code, published_url)
    assert process.communicate()[0] == "False\n"


def test_processes_that_migrate_at_once_all_succeed(database_url: str) -> None:
    code = "import sys; from bandicoot_core.stores.published.call_lists import migrate; migrate(sys.argv[1])"
    processes = [in_python(code, database_url) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 3
    with connect(database_url) as connection:
        assert connection.execute("SELECT version_num FROM bandicoot.alembic_version").fetchall() == [(HEAD_REVISION,)]


def test_threads_that_migrate_at_once_all_succeed(database_url: str) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(migrate, [database_url] * 4)) == [None] * 4


def test_a_migration_that_fails_leaves_nothing_behind_and_can_be_repeated(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("CREATE SCHEMA bandicoot; CREATE TABLE bandicoot.whittle_indices (x int)")
        with pytest.raises(sqlalchemy.exc.ProgrammingError, match="already exists"):
            migrate(database_url)
        assert relations(connection) == {("whittle_indices", "r")}
        connection.execute("DROP TABLE bandicoot.whittle_indices")
        migrate(database_url)
        assert len(relations(connection)) == len(PUBLISHED_TABLES) + len(PUBLISHED_VIEWS) + 1


def test_an_older_schema_keeps_its_lists_and_its_readers_rights(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("CREATE SCHEMA bandicoot")
        connection.execute("DROP ROLE IF EXISTS list_reader; CREATE ROLE list_reader LOGIN")
        try:
            upgrade(database_url, "0001")
            connection.execute(
                "INSERT INTO bandicoot.call_list VALUES (DATE '2026-11-19', 1, 'CG-1', 'Pune', 'U', 3, 0.5, 0.4, 0.6, "
                "'because', 20, NULL, 'treatment', 1.0, 'm-1', 'run-1', now())"
            )
            connection.execute(
                "INSERT INTO bandicoot.list_publications VALUES (DATE '2026-11-19', 1, 5, 'm-1', 'run-1', now(), NULL)"
            )
            connection.execute("GRANT USAGE ON SCHEMA bandicoot TO list_reader")
            connection.execute("GRANT SELECT ON bandicoot.current_call_list TO list_reader")
            before = connection.execute("SELECT * FROM bandicoot.current_call_list").fetchall()
            migrate(database_url)
            assert connection.execute("SELECT * FROM bandicoot.current_call_list").fetchall() == [
                (*before[0], None, None)
            ]
            assert read_call_list(connection)["p_top_k"].to_pylist() == [None]
            connection.execute("SET ROLE list_reader")
            assert connection.execute("SELECT caregiver_id FROM bandicoot.current_call_list").fetchall() == [("CG-1",)]
            connection.execute("RESET ROLE")
        finally:
            connection.execute("DROP OWNED BY list_reader CASCADE; DROP ROLE list_reader")


def upgrade(url: str, revision: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url))
    config = alembic_config()
    with engine.begin() as session:
        config.attributes["connection"] = session
        alembic.command.upgrade(config, revision)
    engine.dispose()


def test_a_schema_that_an_administrator_made_is_enough_for_a_role_without_further_rights(database_url: str) -> None:
    with connect(database_url) as connection:
        connection.execute("DROP ROLE IF EXISTS plain_writer; CREATE ROLE plain_writer LOGIN")
        try:
            connection.execute("CREATE SCHEMA bandicoot AUTHORIZATION plain_writer")
            migrate(database_url + "&options=-crole%3Dplain_writer")
            owner = connection.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'call_list'").fetchone()
            assert owner == ("plain_writer",)
        finally:
            connection.execute("DROP OWNED BY plain_writer CASCADE; DROP ROLE plain_writer")


def test_a_schema_of_a_newer_release_is_refused_with_what_to_do(
    published: psycopg.Connection, published_url: str
) -> None:
    published.execute("UPDATE bandicoot.alembic_version SET version_num = '9999'")
    with pytest.raises(InvalidInputError, match=r"9999.*newer release.*install that release"):
        migrate(published_url)


def test_a_server_that_does_not_answer_is_named(database_url: str) -> None:
    with pytest.raises(UnreachableError, match="'absent'"):
        migrate(database_url.replace("/test_", "/absent?x=").split("?")[0] + "?" + database_url.split("?")[1])


def test_sqlalchemy_connects_with_the_same_url(database_url: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(database_url))
    with connect(database_url) as connection, engine.connect() as session:
        assert session.exec_driver_sql("SELECT current_database()").scalar() == connection.info.dbname
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:p%40%2F@h:5433/db", {"username": "u", "password": "p@/", "host": "h", "port": "5433"}),
        ("postgresql://u@/db?host=/var/run/x&sslmode=disable", {"host": "/var/run/x", "sslmode": "disable"}),
        ("postgresql://u@%2Fvar%2Frun%2Fx/db", {"host": "/var/run/x", "database": "db"}),
        ("postgresql://u@a:1,b:2/db", {"host": "a,b", "port": "1,2"}),
    ],
)
def test_a_sqlalchemy_url_keeps_every_parameter(url: str, expected: dict[str, str]) -> None:
    converted = sqlalchemy_url(url)
    found = {
        "username": converted.username,
        "password": converted.password,
        "database": converted.database,
        **converted.query,
    }
    assert converted.drivername == "postgresql+psycopg"
    assert {name: found[name] for name in expected} == expected
