"""Outcomes of calls one by one: which are new, which were known, which contradict what is known.

What an outcome must look like belongs to pipeline.outcomes; reading whole days for the lake, to recorded_calls; adding
many that are right for certain, to call_lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import psycopg

from bandicoot_core.stores.postgres.connections import reading, repeated

RECORDED, KNOWN, CONFLICTING, UNKNOWN_CAREGIVER = "recorded", "known", "conflicting", "unknown_caregiver"

_KNOWN_CAREGIVERS = "SELECT caregiver_id FROM bandicoot.caregiver_keys WHERE caregiver_id = ANY(%s)"

_INSERT = """
    INSERT INTO bandicoot.call_outcomes (call_id, caregiver_id, call_date, attempted_at, outcome, recorded_by)
    SELECT * FROM unnest(%s::text[], %s::text[], %s::date[], %s::timestamptz[], %s::text[], %s::text[])
    ON CONFLICT (call_id) DO NOTHING RETURNING call_id
"""

_STORED = """
    SELECT call_id, caregiver_id, call_date, attempted_at, outcome FROM bandicoot.call_outcomes
    WHERE call_id = ANY(%s)
"""

_OF_LIST = """
    SELECT DISTINCT ON (caregiver_id) caregiver_id, outcome FROM bandicoot.call_outcomes
    WHERE call_date = %s ORDER BY caregiver_id, attempted_at DESC, call_id DESC
"""


@dataclass(frozen=True)
class CallOutcome:
    """One attempted call; `attempted_at` is an aware instant, `call_date` the IST day of its list."""

    call_id: str
    caregiver_id: str
    call_date: date
    attempted_at: datetime
    outcome: str


def record_each(connection: psycopg.Connection, outcomes: Sequence[CallOutcome], *, recorded_by: str) -> list[str]:
    """What became of each outcome, in their order: RECORDED, KNOWN, CONFLICTING or UNKNOWN_CAREGIVER.

    A call_id that is there already, or comes twice, is KNOWN when it says the same, CONFLICTING otherwise; nothing
    that is there is changed. When this returns, what was recorded is committed. Raises BusyError and UnreachableError.
    """
    if not outcomes:
        return []

    def record() -> list[str]:
        wanted = list({each.caregiver_id for each in outcomes})
        caregivers = {row[0] for row in connection.execute(_KNOWN_CAREGIVERS, (wanted,))}
        first: dict[str, CallOutcome] = {}
        for each in outcomes:
            if each.caregiver_id in caregivers:
                first.setdefault(each.call_id, each)
        rows = list(first.values())
        columns = (
            [row.call_id for row in rows],
            [row.caregiver_id for row in rows],
            [row.call_date for row in rows],
            [row.attempted_at for row in rows],
            [row.outcome for row in rows],
            [recorded_by] * len(rows),
        )
        new = {row[0] for row in connection.execute(_INSERT, columns)}
        stored = {row[0]: CallOutcome(*row) for row in connection.execute(_STORED, (list(first),))}
        return [_result(each, caregivers, first, new, stored) for each in outcomes]

    return repeated(connection, "recording call outcomes", record)


def outcomes_of(connection: psycopg.Connection, call_date: date) -> dict[str, str]:
    """The last outcome of each caregiver whose call from the list of a day was attempted, by caregiver_id."""
    with reading(connection, "reading outcomes"):
        return dict(connection.execute(_OF_LIST, (call_date,)).fetchall())


def _result(
    each: CallOutcome,
    caregivers: set[str],
    first: dict[str, CallOutcome],
    new: set[str],
    stored: dict[str, CallOutcome],
) -> str:
    if each.caregiver_id not in caregivers:
        return UNKNOWN_CAREGIVER
    if each.call_id in new and first[each.call_id] is each:
        return RECORDED
    return KNOWN if stored[each.call_id] == each else CONFLICTING
