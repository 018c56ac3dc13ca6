"""`GET /caregivers/{caregiver_id}`: what is known of one caregiver now, and whether she may be called."""

from datetime import date
from typing import Annotated, Any, Literal

import psycopg
from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, Field

from bandicoot_api.away import current_version, on_database
from bandicoot_api.guarded_route import Guard, guarded
from bandicoot_api.problems import Problem, responses
from bandicoot_api.service import service_of
from bandicoot_core.stores.cache.current_answers import is_storable
from bandicoot_core.stores.cache.keys import StatesAsOf
from bandicoot_core.stores.postgres.connections import reading
from bandicoot_core.stores.published.live_ranking import live_version, standing_of

router = APIRouter(
    tags=["caregivers"],
    route_class=guarded(Guard("read", lambda service: service.reads, lambda service: service.max_body)),
    responses=responses(404),
)


class Eligibility(BaseModel):
    """Whether she may be called, and if not, by which criteria."""

    is_eligible: bool
    excluded_by: list[str] = Field(
        description="Criteria that fail, in the order in which they are applied", examples=[["cool-down"]]
    )
    why: str = Field(description="The same in a sentence")


class Caregiver(BaseModel):
    """One caregiver as of now."""

    caregiver_id: str = Field(examples=["CG-012345"])
    call_date: date = Field(description="Day for which eligibility is told (Asia/Kolkata)")
    as_of_date: date = Field(description="Day at whose end her facts last changed, or of an open since")
    model_version: str
    district: str | None
    state: Literal["U", "R"]
    cluster_id: int | None = Field(description="Null before her first assignment")
    priority_score: float | None = Field(description="What a call is worth to her, in responsive weeks")
    whittle_index: float | None = Field(description="Index of her cluster in her state")
    index_low: float | None
    index_high: float | None
    p_passive: float | None = Field(description="Chance to be responsive next week without a call")
    p_active: float | None = Field(description="The same with a call")
    last_open_date: date | None
    last_contact_date: date | None
    warm_up_end_date: date
    status: str
    ab_arm: str
    eligibility: Eligibility


@router.get("/caregivers/{caregiver_id:path}", summary="One caregiver: state, cluster, index, eligibility")
async def read_caregiver(
    request: Request,
    caregiver_id: Annotated[
        str, Path(min_length=1, max_length=500, description="As the source names her", examples=["CG-012345"])
    ],
) -> Caregiver:
    """Facts of the published states, with opens and calls that came in since."""
    service = service_of(request)
    await current_version(service)  # waits for PostgreSQL no longer than configured
    rules = service.watch.rules()

    def read(connection: psycopg.Connection) -> tuple[StatesAsOf | None, dict[str, Any] | None]:
        # Of one moment: with a publication in between, the cluster could be of another model than the index.
        with reading(connection, "reading a caregiver", is_snapshot=True):
            version = live_version(connection, rules)
            states = version.standing.states if version is not None else None
            if states is None or not is_storable(caregiver_id):
                return states, None
            return states, standing_of(connection, rules, caregiver_id, model_version=states.model_version)

    states, row = await on_database(service, read)
    if states is None:
        raise Problem(503, "no states are published yet; come again after the next night", code="not_ready")
    if row is None:
        raise Problem(404, "no caregiver is known by this id; give it as the source spells it")
    failed = row.pop("failed")
    score = row["whittle_index"] if rules.index_level == "cluster" else row["own_index"]
    why = "she may be called" if not failed else f"she may not be called: {', '.join(failed)}"
    return Caregiver(
        **{name: value for name, value in row.items() if name != "own_index"},
        call_date=rules.call_date,
        model_version=states.model_version,
        priority_score=score,
        eligibility=Eligibility(is_eligible=not failed, excluded_by=failed, why=why),
    )
