"""`POST /train_clusters`, `POST /precompute_indices` and `GET /jobs/{run_id}`: starting training, and its progress.

Here: who may start what, how often, and what is answered. How Dagster is asked belongs to dagster_runs.
"""

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from bandicoot_api import audit
from bandicoot_api.guarded_route import Guard, client_of, guarded
from bandicoot_api.problems import Problem, problem_of, responses
from bandicoot_api.service import Service, service_of
from bandicoot_core.calendar import day_of, last_closed_week
from bandicoot_core.errors import BandicootError

if TYPE_CHECKING:
    from bandicoot_api.dagster_runs import DagsterRuns

_STARTING = Guard("admin", lambda service: service.trainings, lambda service: service.max_body, is_scarce=True)
_LOOKING = Guard("read", lambda service: service.reads, lambda service: service.max_body)

TRAIN_CLUSTERS, PRECOMPUTE_INDICES = "weekly_training", "precompute_indices"
"""The jobs that may be started, as Dagster names them."""
_TRAININGS = frozenset({TRAIN_CLUSTERS, PRECOMPUTE_INDICES})
"""They write the same indices and promote the same model, so one of them runs at a time."""

_SUNDAY = 6


class AskedRun(BaseModel):
    """What is to be trained."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"week": "2026-11-22"}})

    week: date | None = Field(
        None,
        description="Last week of the training window, by its Sunday; the newest that has ended when left out",
    )


class StartedRun(BaseModel):
    """A run that is queued."""

    run_id: UUID = Field(examples=["3f0d6f0e-6f43-4c5e-9d0b-7a3c1f7d2b11"])
    job: str = Field(description="Dagster's name of it", examples=[TRAIN_CLUSTERS])
    week: date = Field(examples=["2026-11-22"])


class Job(BaseModel):
    """What became of a run."""

    run_id: UUID = Field(examples=["3f0d6f0e-6f43-4c5e-9d0b-7a3c1f7d2b11"])
    job: str = Field(examples=[TRAIN_CLUSTERS])
    week: str | None = Field(description="Week it is for; null when somebody ran many at once", examples=["2026-11-22"])
    status: str = Field(
        description="As Dagster says it: QUEUED, NOT_STARTED, STARTING, STARTED, CANCELING, then SUCCESS, FAILURE or "
        "CANCELED",
        examples=["SUCCESS"],
    )
    is_over: bool = Field(description="Whether nothing more will come of it")
    created_at: datetime = Field(description="When it was asked for (UTC)")
    started_at: datetime | None = Field(description="When it began (UTC); null before")
    ended_at: datetime | None = Field(description="When it ended (UTC); null before")
    failed_steps: list[str] = Field(
        description="Assets that were not made; `model_version` when the model was refused by its checks",
        examples=[["model_version"]],
    )


_STARTED: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "It is queued",
        "headers": {"Location": {"description": "Where its status is told", "schema": {"type": "string"}}},
    }
}
_starting = APIRouter(tags=["training"], route_class=guarded(_STARTING), responses=responses(409))
_looking = APIRouter(tags=["training"], route_class=guarded(_LOOKING), responses=responses(404))

AskedBody = Annotated[AskedRun | None, Body()]


@_starting.post("/train_clusters", status_code=202, responses=_STARTED, summary="Train the model of a week")
async def train_clusters(request: Request, response: Response, asked: AskedBody = None) -> StartedRun:
    """Clusters, chances and indices anew; the model is promoted when its checks pass.

    One run of both jobs at a time: 409 while one is under way, and `details.run_id` names it. A refused start is not
    counted.
    """
    return await _started(request, response, TRAIN_CLUSTERS, asked)


@_starting.post(
    "/precompute_indices", status_code=202, responses=_STARTED, summary="Make the indices of a week's clusters again"
)
async def precompute_indices(request: Request, response: Response, asked: AskedBody = None) -> StartedRun:
    """Chances and indices anew, of the clusters that the week has; the model is promoted when its checks pass.

    One run of both jobs at a time: 409 while one is under way, and `details.run_id` names it. A refused start is not
    counted.
    """
    return await _started(request, response, PRECOMPUTE_INDICES, asked)


@_looking.get("/jobs/{run_id}", summary="What became of a run")
async def read_job(
    request: Request,
    run_id: Annotated[
        UUID,
        Path(description="As the start of the run told it", examples=["3f0d6f0e-6f43-4c5e-9d0b-7a3c1f7d2b11"]),
    ],
) -> Job:
    """Of runs of these two jobs, whoever started them."""
    run = await _runs(service_of(request)).status(str(run_id))
    if run is None or run.job not in _TRAININGS:
        raise Problem(404, "no training run is known by this id")
    return Job(
        run_id=UUID(run.run_id),
        job=run.job,
        week=run.partition,
        status=run.status,
        is_over=run.is_over,
        created_at=run.created_at,
        started_at=run.started_at,
        ended_at=run.ended_at,
        failed_steps=list(run.failed_steps),
    )


router = APIRouter()
router.include_router(_starting)
router.include_router(_looking)


async def _started(request: Request, response: Response, job: str, asked: AskedRun | None) -> StartedRun:
    service, client = service_of(request), client_of(request)
    # A refused start is given back, but asking costs something too.
    await _LOOKING.count(request, client, service)
    facts: dict[str, Any] = {"job": job}
    request.state.audited = facts
    runs = _runs(service)
    week = facts["week"] = _week(service, asked)
    run_id = await _launched(runs, job, week, {"bandicoot/asked_by": f"{client.client} ({client.key_id})"})
    audit.note_admin(request, client, {**facts, "result": "started", "run_id": run_id})
    response.headers["Location"] = f"/jobs/{run_id}"
    return StartedRun(run_id=UUID(run_id), job=job, week=week)


async def _launched(runs: "DagsterRuns", job: str, week: date, tags: dict[str, str]) -> str:
    from bandicoot_api.dagster_runs import RunUnderWayError  # noqa: PLC0415 - only where it is configured

    try:
        return await runs.start(job, partition=week.isoformat(), tags=tags, besides=_TRAININGS - {job})
    except RunUnderWayError as error:
        raise Problem(409, str(error), details={"run_id": error.run_id}) from error
    except BandicootError as error:
        raise problem_of(error) from error


def _week(service: Service, asked: AskedRun | None) -> date:
    newest = last_closed_week(day_of(service.clock()))
    week = asked.week if asked is not None else None
    if week is None:
        return newest
    problem = ""
    if week.weekday() != _SUNDAY:
        problem = f"expected a Sunday, which names a week; {week} is a {week:%A}"
    elif week > newest:
        problem = f"the week {week} has not ended; the newest that has is {newest}"
    if problem:
        raise Problem(422, problem, details={"problems": [{"where": "body.week", "expected": problem}]})
    return week


def _runs(service: Service) -> "DagsterRuns":
    if service.runs is None:
        raise Problem(
            503,
            "this service knows no Dagster, so it cannot start training; BANDICOOT_API_DAGSTER_URL has to name one",
            code="not_configured",
        )
    return service.runs
