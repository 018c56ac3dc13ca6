"""`POST /call-outcomes`: what came of calls."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from bandicoot_api.away import on_database
from bandicoot_api.bodies import one_or_many, rows_of
from bandicoot_api.guarded_route import Guard, client_of, guarded
from bandicoot_api.problems import ErrorBody, Problem, responses
from bandicoot_api.service import service_of
from bandicoot_core.pipeline.outcomes import ReportedOutcome, record_call_outcomes

router = APIRouter(
    tags=["outcomes"],
    route_class=guarded(Guard("call", lambda service: service.bulk, lambda service: service.max_bulk)),
    responses=responses(415),
)


class OutcomeResult(BaseModel):
    """What became of one row."""

    row: int = Field(description="Its place in the body, from 0")
    call_id: str | None = Field(examples=["centre-7-000123"])
    result: Literal["recorded", "known", "refused"] = Field(examples=["refused"])
    column: str | None = Field(description="Column at fault, when refused", examples=["caregiver_id"])
    problem: str | None = Field(
        description="What was expected, when refused", examples=["expected a caregiver who is known"]
    )


class OutcomeResults(BaseModel):
    """What became of every row."""

    n_recorded: int
    n_known: Annotated[int, Field(description="Told before; they count once")]
    n_refused: int
    results: list[OutcomeResult]


_EXAMPLE = [
    {
        "call_id": "centre-7-000123",
        "caregiver_id": "CG-012345",
        "call_date": "2026-11-28",
        "attempted_at": "2026-11-28T11:04:00+05:30",
        "outcome": "reached",
    }
]


@router.post(
    "/call-outcomes",
    summary="Report what came of calls",
    response_model=OutcomeResults,
    responses={
        200: {"description": "All rows are recorded, now or before"},
        207: {"model": OutcomeResults, "description": "Some rows are; `results` says which and why not the others"},
        422: {
            "model": ErrorBody,
            "description": "No row is. Each is judged by its form and by what is known: the caregiver, the days that "
            "calls may be of, other calls of that `call_id`; `details.results` says what was expected",
        },
    },
    openapi_extra=one_or_many(ReportedOutcome.model_json_schema(), _EXAMPLE),
)
async def report_outcomes(request: Request, response: Response) -> OutcomeResults:
    """One outcome or many. Each is recorded once by its `call_id`; one that is wrong does not keep back the others.

    422 when no row can be recorded: then `details.results` says why.
    """
    service, client = service_of(request), client_of(request)
    rows = await rows_of(request)
    now = service.clock()
    found = await on_database(
        service,
        lambda connection: record_call_outcomes(connection, rows, recorded_by=client.client, now=now),
    )
    service.watch.look_again()
    counts = {word: sum(row.result == word for row in found) for word in ("recorded", "known", "refused")}
    for word, n in counts.items():
        service.metrics.outcomes.labels(word).inc(n)
    results = OutcomeResults(
        n_recorded=counts["recorded"],
        n_known=counts["known"],
        n_refused=counts["refused"],
        results=[OutcomeResult(**vars(row)) for row in found],
    )
    if counts["refused"] == len(found):
        first = found[0]
        raise Problem(
            422,
            f"no row is recorded; row 0, {first.column or 'as a whole'}: {first.problem}",
            details=results.model_dump(mode="json"),
        )
    if counts["refused"]:
        response.status_code = 207
    return results
