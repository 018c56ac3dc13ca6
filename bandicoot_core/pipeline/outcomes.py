"""Outcomes of calls as they are reported: each judged by itself, so that one that is wrong keeps back no other.

What is stored, and that a call counts once, belongs to stores.published.recorded_outcomes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

import psycopg
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from bandicoot_core.calendar import day_of
from bandicoot_core.stores.published.recorded_outcomes import (
    CONFLICTING,
    KNOWN,
    UNKNOWN_CAREGIVER,
    CallOutcome,
    record_each,
)

CLOCK_SKEW = timedelta(minutes=10)
"""How far ahead of this clock a call may say it was attempted."""

_BEGINS_WITH_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

OLDEST = timedelta(days=366)
"""How old a call may be: nothing looks further back."""

Result = Literal["recorded", "known", "refused"]


def _storable(text: str) -> str:
    if "\0" in text or text.encode("utf-8", "ignore").decode() != text:
        raise ValueError("expected text that PostgreSQL can store: no U+0000, nothing that is not Unicode")
    return text


def _written(value: object) -> object:
    """Numbers, also as text, would be taken for seconds since 1970."""
    if not isinstance(value, str | date) or (isinstance(value, str) and not _BEGINS_WITH_DAY.match(value)):
        raise ValueError("expected ISO 8601 text")
    return value


Id = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_storable)]


class ReportedOutcome(BaseModel):
    """One attempted call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    call_id: Id = Field(description="Idempotency key, chosen by the writer; the same call told again counts once")
    caregiver_id: Id = Field(description="Caregiver as the list names her")
    call_date: Annotated[date, BeforeValidator(_written)] = Field(
        description="Day of the list the call came from (Asia/Kolkata)"
    )
    attempted_at: Annotated[AwareDatetime, BeforeValidator(_written)] = Field(
        description="When the call was attempted, with its time zone"
    )
    outcome: Literal["reached", "no_answer", "busy", "wrong_number", "refused"]


@dataclass(frozen=True)
class RowResult:
    """What became of one row."""

    row: int
    """Its place among the rows, from 0."""
    call_id: str | None
    """None when it has none that can be read."""
    result: Result
    column: str | None = None
    """Column at fault."""
    problem: str | None = None
    """What was expected."""


def record_call_outcomes(
    connection: psycopg.Connection, rows: Sequence[Mapping[str, Any]], *, recorded_by: str, now: datetime
) -> list[RowResult]:
    """Record what is right of some rows, and say of each what became of it.

    A row has the fields of ReportedOutcome, from JSON or as Python values. `now` is an aware instant, against which
    days and instants are bounded. What is recorded is committed when this returns. Raises BusyError and
    UnreachableError; the same rows may then be sent again.
    """
    results: dict[int, RowResult] = {}
    read: dict[int, CallOutcome] = {}
    for number, row in enumerate(rows):
        try:
            reported = ReportedOutcome.model_validate(row)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            column = _printable(".".join(str(part) for part in first["loc"])) or None
            results[number] = RowResult(number, _call_id(row), "refused", column, str(first["msg"]))
            continue
        problem = _out_of_bounds(reported, now)
        if problem is not None:
            results[number] = RowResult(number, reported.call_id, "refused", *problem)
            continue
        read[number] = CallOutcome(
            reported.call_id,
            reported.caregiver_id,
            reported.call_date,
            reported.attempted_at.astimezone(UTC),
            reported.outcome,
        )
    recorded = record_each(connection, list(read.values()), recorded_by=recorded_by)
    for (number, outcome), became in zip(read.items(), recorded, strict=True):
        results[number] = _told(number, outcome.call_id, became)
    return [results[number] for number in range(len(rows))]


def _out_of_bounds(reported: ReportedOutcome, now: datetime) -> tuple[str, str] | None:
    """The column that is out of its bounds, and what was expected."""
    if reported.call_date > day_of(now):
        return "call_date", f"expected a day up to today in India, {day_of(now)}"
    if reported.call_date < day_of(now - OLDEST):
        return "call_date", f"expected a day of the last {OLDEST.days} days"
    if reported.attempted_at > now + CLOCK_SKEW:
        return "attempted_at", f"expected an instant before now, {now.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if reported.attempted_at < now - OLDEST:
        return "attempted_at", f"expected an instant of the last {OLDEST.days} days"
    return None


def _told(number: int, call_id: str, became: str) -> RowResult:
    if became == UNKNOWN_CAREGIVER:
        return RowResult(number, call_id, "refused", "caregiver_id", "expected a caregiver who is known")
    if became == CONFLICTING:
        problem = "this call_id is known with another content; give each call an id of its own"
        return RowResult(number, call_id, "refused", "call_id", problem)
    return RowResult(number, call_id, "known" if became == KNOWN else "recorded")


def _call_id(row: object) -> str | None:
    found = row.get("call_id") if isinstance(row, Mapping) else None
    return _printable(found) if isinstance(found, str) and len(found) <= 200 else None


def _printable(text: str) -> str:
    """The text as an answer can hold it: field names and ids that are refused may be no Unicode, or long."""
    return text[:200].encode("utf-8", "backslashreplace").decode()
