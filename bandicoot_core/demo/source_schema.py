"""The tables of the programme's production database, `suvita_production`, as the demo creates them.

Columns and indexes only; what goes into them is in `rows`, how in `load`. The schema of the same name may be a real
production database: nothing here touches tables that the demo did not create itself.
"""

from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from bandicoot_core.errors import InvalidInputError

SCHEMA: LiteralString = "suvita_production"

DEMO_LOCK = 7_236_001
"""Key of the advisory lock under which a demo is created, filled and extended; any number that nothing else uses."""

_TABLES: dict[str, LiteralString] = {
    "caregivers": """
        caregiver_id text PRIMARY KEY,
        full_name text,
        phone_number text,
        district text,
        enrolled_at timestamptz NOT NULL,
        age integer,
        parity integer,
        phone_reliable boolean,
        enrollment_source text,
        status text NOT NULL
    """,
    "sms_logs": """
        message_id text PRIMARY KEY,
        caregiver_id text NOT NULL,
        message_type text NOT NULL,
        sent_at timestamptz NOT NULL,
        delivered_at timestamptz,
        opened_at timestamptz,
        clicked_at timestamptz,
        status text NOT NULL
    """,
    "vaccinations": """
        caregiver_id text NOT NULL,
        child_id text NOT NULL,
        vaccine_name text NOT NULL,
        scheduled_date date,
        actual_date date
    """,
    "demo_programme": """
        is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
        seed bigint NOT NULL,
        n_caregivers bigint NOT NULL,
        start_date date NOT NULL,
        as_of_date date NOT NULL,
        parameters jsonb NOT NULL
    """,
}


@dataclass(frozen=True)
class SourceIndex:
    """An index of a source table; instants that mostly never happen are indexed only where they did."""

    table: LiteralString
    name: LiteralString
    definition: LiteralString
    is_unique: bool = False


INDEXES = (
    SourceIndex("sms_logs", "sms_logs_caregiver_id", "(caregiver_id)"),
    SourceIndex("sms_logs", "sms_logs_sent_at", "(sent_at)"),
    SourceIndex("sms_logs", "sms_logs_delivered_at", "(delivered_at) WHERE delivered_at IS NOT NULL"),
    SourceIndex("sms_logs", "sms_logs_opened_at", "(opened_at) WHERE opened_at IS NOT NULL"),
    SourceIndex("sms_logs", "sms_logs_clicked_at", "(clicked_at) WHERE clicked_at IS NOT NULL"),
    SourceIndex("vaccinations", "vaccinations_dose", "(child_id, vaccine_name)", is_unique=True),
    SourceIndex("vaccinations", "vaccinations_caregiver_id", "(caregiver_id)"),
    SourceIndex("vaccinations", "vaccinations_actual_date", "(actual_date) WHERE actual_date IS NOT NULL"),
)

SOURCE_TABLES = ("caregivers", "sms_logs", "vaccinations")


def create_source_schema(connection: psycopg.Connection) -> None:
    """Create the schema, its tables and indexes where they are missing; one transaction, any number of times.

    Raises InvalidInputError when the schema holds tables that no demo created: that may be the real programme.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [DEMO_LOCK])
        _refuse_foreign_schema(connection)
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(SCHEMA)))
        for table, columns in _TABLES.items():
            connection.execute(
                sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(source_table(table), sql.SQL(columns))
            )
        create_indexes(connection)


def source_table(name: str) -> sql.Identifier:
    """The qualified name of a source table."""
    return sql.Identifier(SCHEMA, name)


def create_indexes(connection: psycopg.Connection) -> None:
    """Create the indexes that are missing."""
    for index in INDEXES:
        kind = sql.SQL("UNIQUE INDEX" if index.is_unique else "INDEX")
        connection.execute(
            sql.SQL("CREATE {} IF NOT EXISTS {} ON {} {}").format(
                kind, sql.Identifier(index.name), source_table(index.table), sql.SQL(index.definition)
            )
        )


def drop_indexes(connection: psycopg.Connection) -> None:
    """Drop the indexes, so that many rows can be loaded before they are built again."""
    for index in INDEXES:
        connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(sql.Identifier(SCHEMA, index.name)))


def has_demo_tables(connection: psycopg.Connection) -> bool:
    """Whether a demo created the schema."""
    return _exists(connection, "demo_programme")


def _refuse_foreign_schema(connection: psycopg.Connection) -> None:
    if has_demo_tables(connection):
        return
    foreign = [f"{SCHEMA}.{table}" for table in SOURCE_TABLES if _exists(connection, table)]
    if foreign:
        raise InvalidInputError(
            f"{', '.join(foreign)} exist, and no demo created them ({SCHEMA}.demo_programme is missing): this may be a "
            "real programme, and nothing was changed; point the demo to a database of its own"
        )


def _exists(connection: psycopg.Connection, table: str) -> bool:
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{SCHEMA}.{table}"]).fetchone()
    return row is not None and bool(row[0])
