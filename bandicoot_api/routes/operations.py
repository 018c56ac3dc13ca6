"""`GET /health`, `GET /ready` and `GET /metrics`: for what runs the service. They ask for no key and show no data."""

import asyncio
from datetime import date
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field

from bandicoot_api.service import Service, service_of
from bandicoot_api.watch import DatabaseAwayError
from bandicoot_core.calendar import start_of_day

router = APIRouter(tags=["operations"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = Field("ok", examples=["ok"])


class Readiness(BaseModel):
    """What the service stands on."""

    is_ready: bool = Field(examples=[True])
    database: Literal["ok", "away"]
    cache: Literal["ok", "away", "not configured"]
    model_version: str | None = Field(description="Model of the newest list; null before the first")
    list_date: date | None = Field(description="Day of the newest list")
    list_age_hours: float | None = Field(description="Hours since that day began in India")
    is_list_fresh: bool
    is_memory_tight: bool


@router.get("/health", summary="Whether the process answers")
async def health() -> Health:
    """Asks no other server."""
    return Health()


@router.get(
    "/ready",
    response_model=Readiness,
    summary="Whether right answers can be given",
    responses={503: {"model": Readiness, "description": "They cannot: something is away, or the list is too old"}},
)
async def ready(request: Request) -> JSONResponse:
    """Database, cache, model and the list's age. A cache that is away does not make it unready."""
    found = await _readiness(service_of(request))
    return JSONResponse(found.model_dump(mode="json"), status_code=200 if found.is_ready else 503)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus's text"}},
)
async def metrics(request: Request) -> Response:
    """Of this process alone."""
    service = service_of(request)
    await _readiness(service)
    return Response(generate_latest(service.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _readiness(service: Service) -> Readiness:
    database: Literal["ok", "away"] = "ok"
    try:
        version = await service.watch.version()
    except DatabaseAwayError:
        version, database = None, "away"
    service.metrics.is_database_away.set(database == "away")
    standing = version.standing if version is not None else None
    told = version or service.watch.last_told
    if told is not None:  # a list grows old also while PostgreSQL is away
        service.metrics.list_age_seconds.set((service.clock() - start_of_day(told.standing.call_date)).total_seconds())
    age = None
    if standing is not None:
        age = (service.clock() - start_of_day(standing.call_date)).total_seconds()
    is_fresh = age is not None and age <= service.options.api_max_list_age_hours * 3600
    return Readiness(
        is_ready=database == "ok" and standing is not None and is_fresh,
        database=database,
        cache=await _cache(service),
        model_version=standing.model_version if standing else None,
        list_date=standing.call_date if standing else None,
        list_age_hours=None if age is None else round(age / 3600, 2),
        is_list_fresh=is_fresh,
        is_memory_tight=service.memory.is_tight,
    )


async def _cache(service: Service) -> Literal["ok", "away", "not configured"]:
    cache = service.stores.cache
    if cache is None:
        return "not configured"
    return "ok" if await asyncio.to_thread(cache.ask, lambda client: client.ping()) else "away"
