"""One mark on the call sheet as one recorded outcome, however often its form arrives.

The form says which call to her it is of: the first, the second. It is recorded only while so many calls are there, and
its call_id says the same, so that a double tap, a reload and two people at once make one outcome and no more. What an
outcome must look like belongs to pipeline.outcomes.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Literal

import psycopg
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bandicoot_api.problems import Problem
from bandicoot_core.pipeline.outcomes import Id, RowResult, record_call_outcomes
from bandicoot_core.stores.published.call_sheet import ListedNow, find_listed

Marked = Literal["recorded", "known", "unlisted"]

_FIELDS: Final = ("call_date", "caregiver_id", "attempt", "outcome")


class Mark(BaseModel):
    """What a row's form says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    call_date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    caregiver_id: Id
    attempt: int = Field(ge=1, le=1000)
    outcome: Literal["reached", "no_answer", "busy", "wrong_number", "refused"]


def mark_of(fields: Mapping[str, str]) -> Mark:
    """The mark of a form; Problem 422 when a field is not as the page made it."""
    try:
        return Mark.model_validate({name: fields[name] for name in _FIELDS if name in fields})
    except ValidationError as error:
        raise Problem(422, "the form is not as the page made it") from error


def record_mark(
    connection: psycopg.Connection, mark: Mark, *, recorded_by: str, now: datetime
) -> tuple[Marked, ListedNow | None]:
    """What became of a mark, and where she stood before it. Raises Problem 422, BusyError and UnreachableError."""
    try:
        call_date = datetime.strptime(f"{mark.call_date} +0000", "%Y-%m-%d %z").date()
    except ValueError as error:
        raise Problem(422, "the form is not as the page made it") from error
    listed = find_listed(connection, call_date, mark.caregiver_id)
    if listed is None:
        return "unlisted", None
    if listed.n_attempts != mark.attempt - 1:
        return "known", listed
    row = {
        "call_id": call_id_of(mark, listed),
        "caregiver_id": mark.caregiver_id,
        "call_date": mark.call_date,
        "attempted_at": now,
        "outcome": mark.outcome,
    }
    return _became(record_call_outcomes(connection, [row], recorded_by=recorded_by, now=now)[0]), listed


def call_id_of(mark: Mark, listed: ListedNow) -> str:
    """The same for the same call: the publication, her rank in it, and which call to her it is.

    It says nothing about the caregiver: a call_id stays when she has asked to be forgotten.
    """
    return f"sheet:{mark.call_date}:{listed.published_at.astimezone(UTC):%Y%m%dT%H%M%S%f}:{listed.rank}:{mark.attempt}"


def _became(result: RowResult) -> Marked:
    if result.result != "refused":
        return "recorded" if result.result == "recorded" else "known"
    if result.column == "call_id":  # somebody else was a moment earlier
        return "known"
    if result.column == "caregiver_id":  # forgotten since
        return "unlisted"
    raise Problem(422, "the form is not as the page made it")
