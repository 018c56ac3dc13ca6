"""A programme's source tables on a real PostgreSQL, filled with short literal rows, names and phones included."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any

import psycopg
from psycopg import sql

SCHEMA = "suvita_production"
FULL_NAME = "Sunita Kumari Devi"
PHONE_NUMBER = "+919812345678"

IST = timezone(timedelta(hours=5, minutes=30))

COLUMNS = {
    "caregivers": (
        "caregiver_id text, full_name text, phone_number text, district text, enrolled_at timestamptz, age integer, "
        "parity smallint, phone_reliable boolean, enrollment_source character varying(40), status text"
    ),
    "sms_logs": (
        "message_id text, caregiver_id text, full_name text, phone_number text, message_type text, "
        "sent_at timestamptz, delivered_at timestamptz, opened_at timestamptz, clicked_at timestamptz, status text"
    ),
    "vaccinations": (
        "caregiver_id text, full_name text, phone_number text, child_id text, vaccine_name text, scheduled_date date, "
        "actual_date date"
    ),
}
INSTANTS = ("sent_at", "delivered_at", "opened_at", "clicked_at")


def ist(text: str) -> datetime:
    """An instant from its wall clock in Asia/Kolkata, as `2026-11-20 09:30`."""
    return datetime.fromisoformat(text).replace(tzinfo=IST)


class SourceProgramme:
    """The three tables in a schema of a database, without constraints, so that anything can be put in them."""

    def __init__(self, url: str, schema: str = SCHEMA, *, is_new: bool = True) -> None:
        self.url = url
        self.schema = schema
        if not is_new:
            return
        self.execute("CREATE SCHEMA {schema}")
        for table, columns in COLUMNS.items():
            self.execute(f"CREATE TABLE {{schema}}.{table} ({columns})")

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement; {schema} stands for the schema."""
        with psycopg.connect(self.url) as connection:
            connection.execute(sql.SQL(statement).format(schema=sql.Identifier(self.schema)), parameters)

    def caregiver(self, caregiver_id: str | None, **values: Any) -> None:
        """One row of the registry, a good one but for the values given."""
        self._insert(
            "caregivers",
            {
                "caregiver_id": caregiver_id,
                "full_name": FULL_NAME,
                "phone_number": PHONE_NUMBER,
                "district": "Patna",
                "enrolled_at": ist("2026-01-05 10:00"),
                "age": 24,
                "parity": 1,
                "phone_reliable": True,
                "enrollment_source": "hospital",
                "status": "active",
            },
            values,
        )

    def message(self, message_id: str | None, caregiver_id: str | None = "CG-1", **values: Any) -> None:
        """One message; instants may be given as IST wall clocks."""
        instants = {name: ist(values[name]) for name in INSTANTS if isinstance(values.get(name), str)}
        row = {
            "message_id": message_id,
            "caregiver_id": caregiver_id,
            "message_type": "reminder",
            "status": "delivered",
        }
        self._insert("sms_logs", {**row, "full_name": FULL_NAME, "phone_number": PHONE_NUMBER}, values | instants)

    def dose(self, caregiver_id: str | None, vaccine_name: str | None, actual_date: date | None) -> None:
        """One dose, due the day before it was given."""
        row = {
            "caregiver_id": caregiver_id,
            "full_name": FULL_NAME,
            "phone_number": PHONE_NUMBER,
            "child_id": f"child of {caregiver_id}",
            "vaccine_name": vaccine_name,
            "scheduled_date": actual_date and actual_date - timedelta(days=1),
            "actual_date": actual_date,
        }
        self._insert("vaccinations", row, {})

    def call(self, call_id: str, caregiver_id: str, attempted_at: str, outcome: str = "reached") -> None:
        """One outcome in bandicoot.call_outcomes of the same database, attempted at an IST wall clock."""
        at = ist(attempted_at)
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "INSERT INTO bandicoot.call_outcomes VALUES (%s, %s, %s, %s, %s, 'health worker 7')",
                (call_id, caregiver_id, at.date(), at, outcome),
            )

    def _insert(self, table: str, row: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        row = {**row, **values}
        names = ", ".join(row)
        marks = ", ".join(["%s"] * len(row))
        self.execute(f"INSERT INTO {{schema}}.{table} ({names}) VALUES ({marks})", list(row.values()))
