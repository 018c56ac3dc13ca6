"""Incidents in schema `bandicoot`: opened, told on channels, and closed when they are over.

An incident is committed before anybody is told, and what was told is noted after: a crash in between tells it once
more, never not at all. What is a problem and what is said about it is decided in alarms.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, Protocol

import psycopg
from psycopg.rows import dict_row

from bandicoot_core.stores.postgres.connections import reading, repeated
from bandicoot_core.stores.published.contract_checks import require_instant

_OPEN = """
    INSERT INTO bandicoot.incidents (kind, asset, partition, cause, next_step, severity, opened_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (kind, asset, partition) WHERE recovered_at IS NULL DO NOTHING
    RETURNING incident_id
"""

_CLOSE = """
    UPDATE bandicoot.incidents SET recovered_at = greatest(%s, opened_at)
    WHERE incident_id = %s AND recovered_at IS NULL RETURNING incident_id
"""

_SELECT: LiteralString = """
    SELECT incident_id, kind, asset, partition, cause, next_step, severity, opened_at, told_at, told_channels,
        recovered_at, recovery_told_at, recovery_told_channels
    FROM bandicoot.incidents
"""

_TOLD = """
    UPDATE bandicoot.incidents SET told_at = %(at)s, told_channels = trim(told_channels || ' ' || %(channel)s)
    WHERE incident_id = %(id)s AND NOT %(channel)s = ANY (string_to_array(told_channels, ' '))
"""

_RECOVERY_TOLD = """
    UPDATE bandicoot.incidents
    SET recovery_told_at = %(at)s, recovery_told_channels = trim(recovery_told_channels || ' ' || %(channel)s)
    WHERE incident_id = %(id)s AND NOT %(channel)s = ANY (string_to_array(recovery_told_channels, ' '))
"""

_READING = "reading incidents"


class NewIncident(Protocol):
    """What an incident begins with."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def asset(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> str: ...  # noqa: D102
    @property
    def cause(self) -> str: ...  # noqa: D102
    @property
    def next_step(self) -> str: ...  # noqa: D102
    @property
    def severity(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class IncidentRecord:
    """One incident; see the contract of bandicoot.incidents. Instants are UTC."""

    incident_id: int
    kind: str
    asset: str
    partition: str
    cause: str
    next_step: str
    severity: str
    opened_at: datetime
    told_at: datetime | None
    told_channels: tuple[str, ...]
    recovered_at: datetime | None
    recovery_told_at: datetime | None
    recovery_told_channels: tuple[str, ...]


def record_changes(
    connection: psycopg.Connection,
    *,
    to_open: Iterable[NewIncident],
    to_close: Iterable[IncidentRecord],
    now: datetime,
) -> tuple[int, int]:
    """Open some incidents and close others in one transaction; returns how many were opened and closed.

    One that is open already, or closed already, is left as it is: two that look at once do it once.
    """
    moment = require_instant(now, "now")
    opened, closed = list(to_open), list(to_close)

    def record() -> tuple[int, int]:
        # In one order, so that two that look at once do not wait for each other.
        n_closed = sum(
            connection.execute(_CLOSE, (moment, each.incident_id)).rowcount
            for each in sorted(closed, key=lambda each: each.incident_id)
        )
        n_opened = sum(
            connection.execute(
                _OPEN,
                (each.kind, each.asset, each.partition, each.cause, each.next_step, each.severity, moment),
            ).rowcount
            for each in sorted(opened, key=lambda each: (each.kind, each.asset, each.partition))
        )
        return n_opened, n_closed

    return repeated(connection, "recording incidents", record)


def open_incidents(connection: psycopg.Connection) -> list[IncidentRecord]:
    """The incidents that are not over, the oldest first."""
    return _read(connection, _SELECT + " WHERE recovered_at IS NULL ORDER BY opened_at, incident_id", ())


def recent_incidents(connection: psycopg.Connection, *, since: datetime) -> list[IncidentRecord]:
    """The incidents that are not over, or were at `since`, the oldest first."""
    query = _SELECT + " WHERE recovered_at IS NULL OR recovered_at >= %s ORDER BY opened_at, incident_id"
    return _read(connection, query, (since,))


def note_told(connection: psycopg.Connection, incident: IncidentRecord, channel: str, *, told_at: datetime) -> None:
    """Note that a channel has told what the record says: that the incident began, or that it is over."""
    statement = _TOLD if incident.recovered_at is None else _RECOVERY_TOLD
    values = {"at": require_instant(told_at, "told_at"), "channel": channel, "id": incident.incident_id}
    repeated(connection, "noting that an alarm was told", lambda: connection.execute(statement, values))


def _read(connection: psycopg.Connection, query: LiteralString, values: tuple[object, ...]) -> list[IncidentRecord]:
    with reading(connection, _READING), connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query, values).fetchall()
    return [
        IncidentRecord(
            **{
                **row,
                "told_channels": tuple(row["told_channels"].split()),
                "recovery_told_channels": tuple(row["recovery_told_channels"].split()),
            }
        )
        for row in rows
    ]
