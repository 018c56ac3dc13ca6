"""How the source is read on a night: no big table is scanned whole, whatever the range of days."""

from collections.abc import Iterator
from datetime import date, timedelta

import psycopg
import pytest
from psycopg import sql

from bandicoot_core.demo.source_schema import SCHEMA, create_source_schema
from bandicoot_core.pipeline.extraction import DAYS_PER_READ
from bandicoot_core.settings import Settings
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.source.lag import newest_message_query
from bandicoot_core.stores.source.tables import SMS_LOGS_TABLE, SOURCE_TABLES, read_query

DAY = date(2026, 9, 1)
REREAD_DAYS = Settings.model_fields["reread_days"].default


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection]:
    """Half a year of messages and doses in tables with the indexes of the programme."""
    with connect(database_url) as connection:
        create_source_schema(connection)
        connection.execute(
            """
            INSERT INTO suvita_production.sms_logs (message_id, caregiver_id, message_type, sent_at, delivered_at,
                opened_at, clicked_at, status)
            SELECT 'M-' || n, 'CG-' || n % 5000, 'reminder', at, at + interval '1 minute',
                CASE WHEN n % 3 = 0 THEN at + interval '9 hours' END,
                CASE WHEN n % 9 = 0 THEN at + interval '10 hours' END, 'delivered'
            FROM (SELECT n, timestamptz '2026-05-01 00:00+05:30' + n * interval '2 minutes' AS at
                  FROM generate_series(1, 120000) AS n) AS messages
            """
        )
        connection.execute(
            """
            INSERT INTO suvita_production.vaccinations
            SELECT 'CG-' || n, 'child ' || n, 'BCG', date '2026-05-01' + n / 250,
                CASE WHEN n % 4 > 0 THEN date '2026-05-01' + n / 250 END
            FROM generate_series(1, 40000) AS n
            """
        )
        connection.execute("ANALYZE suvita_production.sms_logs, suvita_production.vaccinations")
        yield connection


def plan(connection: psycopg.Connection, query: sql.Composed) -> str:
    lines = connection.execute(sql.SQL("EXPLAIN (COSTS OFF) {}").format(query)).fetchall()
    return "\n".join(line for (line,) in lines)


def test_days_of_a_big_table_are_read_through_its_indexes(connection: psycopg.Connection) -> None:
    for table in ("sms_logs", "vaccinations"):
        for n_days in (1, 1 + REREAD_DAYS, DAYS_PER_READ):
            query = read_query(SOURCE_TABLES[table], SCHEMA, DAY - timedelta(days=n_days - 1), DAY)
            found = plan(connection, query)
            assert "Seq Scan" not in found, (table, n_days)
            for column in SOURCE_TABLES[table].happens:
                assert f"{table}_{column}" in found, (table, n_days, found)
    found = plan(connection, newest_message_query(SCHEMA))
    assert "Seq Scan" not in found
    assert found.count("Limit") == len(SMS_LOGS_TABLE.happens), "the newest message is at the ends of the indexes"
