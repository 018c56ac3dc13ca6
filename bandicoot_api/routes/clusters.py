"""`POST /assign_cluster`: which cluster new caregivers would be in, by their registry features alone."""

import importlib
import re
from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from bandicoot_api.away import current_version, in_lane
from bandicoot_api.guarded_route import Guard, guarded
from bandicoot_api.problems import responses
from bandicoot_api.service import Service, service_of

router = APIRouter(
    tags=["clusters"],
    route_class=guarded(Guard("read", lambda service: service.bulk, lambda service: service.max_bulk)),
    responses=responses(),
)

_RFC_3339 = (
    r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)


def _written(value: object) -> object:
    """Numbers, also as text, would be taken for seconds since 1970; years far away have no end of a warm-up."""
    if not isinstance(value, str) or not re.fullmatch(_RFC_3339, value):
        raise ValueError("expected an instant of 2000 to 2099 as 2026-11-20T10:00:00+05:30")
    return value


def _whole(value: object) -> object:
    """In JSON 24.0 is the integer 24."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Text = Annotated[str, Field(max_length=200)]
_Age = Annotated[int, Field(ge=10, le=60, strict=True), BeforeValidator(_whole)]
_Parity = Annotated[int, Field(ge=0, le=20, strict=True), BeforeValidator(_whole)]
_Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_written),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _RFC_3339}),
]


class NewCaregiver(BaseModel):
    """Registry features of a caregiver; what is not recorded may be left out."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "enrolled_at": "2026-11-20T10:00:00+05:30",
                "age": 24,
                "district": "Gaya",
                "parity": 1,
                "phone_reliable": True,
                "enrollment_source": "hospital",
            }
        },
    )

    enrolled_at: _Instant = Field(description="When she enrolled, with its time zone")
    age: _Age | None = Field(None, description="At enrolment, in years")
    district: _Text | None = None
    parity: _Parity | None = Field(None, description="Children born")
    phone_reliable: Annotated[bool, Field(strict=True)] | None = None
    enrollment_source: _Text | None = None


class NewCaregivers(BaseModel):
    """Some new caregivers."""

    model_config = ConfigDict(extra="forbid")

    caregivers: Annotated[list[NewCaregiver], Field(min_length=1, max_length=10_000)]


class Assigned(BaseModel):
    """The cluster of one caregiver."""

    cluster_id: int = Field(examples=[5])
    confidence: float = Field(description="Chance of this cluster given her features", ge=0, le=1, examples=[0.43])
    warm_up_end_date: date = Field(description="First day on which she may be called (Asia/Kolkata)")


class Assignments(BaseModel):
    """Clusters in the order of the caregivers."""

    model_version: str
    assignments: list[Assigned]


@router.post("/assign_cluster", summary="Clusters of new caregivers, by features alone")
async def assign_clusters(request: Request, new: Annotated[NewCaregivers, Body()]) -> Assignments:
    """Nothing is stored: a caregiver gets her cluster for good when the registry has her and a model is trained."""
    service = service_of(request)
    version = await current_version(service)
    return await in_lane(
        service, service.database_lane, lambda: _assigned(service, version.standing.model_version, new)
    )


def _assigned(service: Service, model_version: str, new: NewCaregivers) -> Assignments:
    # scikit-learn and the engine take seconds to import; only a process that is asked this pays for it.
    core = importlib.import_module("bandicoot_core.pipeline.new_caregivers")
    held: tuple[str, Any] | None = service.mapper
    if held is None or held[0] != model_version:
        held = service.mapper = model_version, core.mapper_of(service.stores, model_version)
    rows = [row.model_dump(exclude={"enrolled_at"}) for row in new.caregivers]
    moments: list[datetime] = [row.enrolled_at for row in new.caregivers]
    found = core.assign_by_features(held[1], rows, moments, warm_up_weeks=service.stores.settings.warm_up_weeks)
    return Assignments(
        model_version=model_version,
        assignments=[
            Assigned(cluster_id=row.cluster_id, confidence=row.p_cluster, warm_up_end_date=row.warm_up_end_date)
            for row in found
        ],
    )
