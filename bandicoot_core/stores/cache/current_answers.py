"""What PostgreSQL answers about the present: the newest list, the indices behind it, and caregivers' states.

These are the answers that Redis repeats: the indices are those of the model that made the newest published list, the
states those that a publication last brought, with clusters of that publication's model. How a list gets there belongs
to published, how states do to current_states; asking Redis first, to current_reader.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.rows import dict_row

from bandicoot_core.stores.cache.keys import CaregiverFacts, StatesAsOf
from bandicoot_core.stores.postgres.arrow_copy import stream_out
from bandicoot_core.stores.postgres.connections import reading

_STANDING = """
    SELECT newest.call_date, newest.run_id, newest.published_at, newest.model_version,
        brought.states_as_of_date, brought.run_id, brought.published_at, brought.model_version,
        newest.transaction_id, brought.transaction_id
    FROM (SELECT *, xmin::text AS transaction_id FROM bandicoot.list_publications
          ORDER BY call_date DESC LIMIT 1) AS newest
    LEFT JOIN (SELECT *, xmin::text AS transaction_id FROM bandicoot.list_publications
               WHERE states_as_of_date IS NOT NULL
               ORDER BY states_as_of_date DESC LIMIT 1) AS brought ON true
"""
"""The transactions tell two publications apart that say the same of themselves, as when a run publishes again."""

_FACTS = sql.SQL(", ").join(map(sql.Identifier, CaregiverFacts.model_fields))

_STATES_OF = sql.SQL("SELECT caregiver_id, {} FROM bandicoot.caregiver_states WHERE caregiver_id = ANY(%s)").format(
    _FACTS
)

_ALL_STATES = sql.SQL(
    """
    SELECT caregiver_id, (SELECT row_to_json(value)::text FROM (
        SELECT {}, %s::text AS publication, %s::date AS as_of_date, %s::text AS model_version) AS value)
    FROM bandicoot.caregiver_states
    """
).format(_FACTS)


@dataclass(frozen=True)
class Standing:
    """What is current in PostgreSQL: the newest list, and as of when the states stand."""

    publication: str
    """A name that changes with every publication that changes the newest list or the states."""
    call_date: date
    published_at: datetime
    model_version: str
    states: StatesAsOf | None
    """None before the first publication that brought states."""


def standing(connection: psycopg.Connection) -> Standing | None:
    """What is current; None before the first publication."""
    with reading(connection, "asking for the newest list"):
        row = connection.execute(_STANDING).fetchone()
    if row is None:
        return None
    as_of_date, model_version = row[4], row[7]
    stamps = "\n".join(map(_stamp, row))
    return Standing(
        publication=hashlib.sha256(stamps.encode()).hexdigest()[:16],
        call_date=row[0],
        published_at=row[2].astimezone(UTC),
        model_version=row[3],
        states=None if as_of_date is None else StatesAsOf(as_of_date=as_of_date, model_version=model_version),
    )


def states_of(connection: psycopg.Connection, caregiver_ids: Sequence[str]) -> Mapping[str, CaregiverFacts]:
    """The facts of those of the caregivers who are known, by caregiver_id, in their order."""
    if not caregiver_ids:
        return {}
    with reading(connection, "reading states"), connection.cursor(row_factory=dict_row) as cursor:
        rows: list[dict[str, Any]] = cursor.execute(_STATES_OF, (list(caregiver_ids),)).fetchall()
    known = {row.pop("caregiver_id"): CaregiverFacts(**row) for row in rows}
    return {caregiver_id: known[caregiver_id] for caregiver_id in caregiver_ids if caregiver_id in known}


def stream_state_values(
    connection: psycopg.Connection, current: Standing, states: StatesAsOf
) -> Iterator[pa.RecordBatch]:
    """Every caregiver_id with her CachedState as JSON, made by PostgreSQL; columns caregiver_id and value."""
    schema = pa.schema([pa.field("caregiver_id", pa.string()), pa.field("value", pa.string())])
    parameters = (current.publication, states.as_of_date, states.model_version)
    return stream_out(connection, _ALL_STATES, parameters, schema)


def is_storable(caregiver_id: str) -> bool:
    """Whether PostgreSQL could hold the id at all: no U+0000, nothing that is not Unicode text."""
    return "\0" not in caregiver_id and caregiver_id.encode("utf-8", "ignore").decode() == caregiver_id


def _stamp(value: Any) -> str:
    """The value in letters, the same whatever the session's time zone."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value.isoformat() if isinstance(value, date) else str(value)
