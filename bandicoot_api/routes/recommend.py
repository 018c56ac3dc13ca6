"""`GET /recommend` and `GET /recommend/export`: whom to call now."""

import csv
import io
import json
from collections import OrderedDict
from collections.abc import Awaitable, Iterator
from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from bandicoot_api import audit
from bandicoot_api.guarded_route import Guard, client_of, guarded
from bandicoot_api.problems import responses
from bandicoot_api.recommending import Answer, Asked, TierReason, recommend
from bandicoot_api.service import Service, service_of

_MOST_KNOWN = 1024
_LONGEST_KNOWN = 200
_KNOWN: OrderedDict[bytes, Asked] = OrderedDict()
"""What queries of /recommend ask, as they are written. They are few, and to check one takes half of a warm answer."""


def _of_known_question(request: Request) -> Awaitable[Response] | None:
    if request.scope["route"].path != _PATH:
        return None
    asked = _KNOWN.get(request.scope["query_string"])
    return None if asked is None else _recommended(request, asked)


_PATH = "/recommend"
router = APIRouter(
    tags=["recommendations"],
    route_class=guarded(
        Guard("read", lambda service: service.reads, lambda service: service.max_body), known=_of_known_question
    ),
    responses=responses(404),
)

MAX_BUDGET = 1000

Budget = Annotated[int, Query(ge=1, le=MAX_BUDGET, description="Caregivers at most", examples=[25])]
STORABLE = r"^[^\x00]+$"
"""Text that PostgreSQL can hold: it knows no U+0000."""

District = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        pattern=STORABLE,
        description="Only caregivers of this district; 404 when nobody is known there",
        examples=["Gaya"],
    ),
]
ExcludeControl = Annotated[
    bool,
    Query(
        description="False ranks the experiment's control arm too, in tier standard: the published list, which tier "
        "fast takes, has nobody of it. Nobody of it may be called"
    ),
]
ModelVersion = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        pattern=STORABLE,
        description="Refuse the answer, with 404, unless it is of this model",
        examples=["2026-11-15-3f2a"],
    ),
]


class Recommendation(BaseModel):
    """One caregiver to call."""

    rank: int = Field(description="Order in which to call, 1 first", examples=[1])
    caregiver_id: str = Field(description="Caregiver as the source names her", examples=["CG-012345"])
    district: str | None = Field(description="District of the registry; null when unknown", examples=["Gaya"])
    state: Literal["U", "R"] = Field(description="Unresponsive or responsive in the last 7 days", examples=["U"])
    cluster_id: int = Field(description="Cluster of passive behaviour", examples=[3])
    priority_score: float = Field(
        description="What a call is worth to her by the index that ranks first, in responsive weeks", examples=[1.32]
    )
    whittle_index: float = Field(description="Index of her cluster in her state", examples=[0.344])
    index_low: float = Field(description="Lower end of the interval of whittle_index", examples=[0.290])
    index_high: float = Field(description="Upper end of the interval of whittle_index", examples=[0.401])
    reason: str = Field(
        description="Why she should be called, for the health worker",
        examples=[
            "Unresponsive for 36 days; a call lifts the chance of an open next week from 4% to 16% for families like "
            "this"
        ],
    )
    days_since_last_open: int | None = Field(description="Null when none in the lookback", examples=[36])
    days_since_contact: int | None = Field(
        description="Days since a call was last attempted; null when none in the lookback", examples=[44]
    )
    ab_arm: str = Field(description="Arm of the running experiment", examples=["treatment"])


class Filters(BaseModel):
    """What was asked."""

    budget: int
    district: str | None
    exclude_control: bool
    model_version: str | None


class Metadata(BaseModel):
    """What an answer says of itself."""

    call_date: date = Field(description="Day of the calls (Asia/Kolkata)")
    evaluated: int = Field(description="Caregivers who were looked at", examples=[200_000])
    eligible: int = Field(description="Of them, those who may be called", examples=[144_000])
    returned: int = Field(description="Caregivers in this answer", examples=[25])
    filters: Filters
    generated_at: datetime = Field(description="When the answer was made (UTC)")
    tier: Literal["fast", "standard"] = Field(description="From the published list, or ranked as of then")
    tier_reason: TierReason = Field(description="What decided on the tier")
    list_version: str = Field(description="Version of the data it was made from")
    list_date: date = Field(description="Day of the newest published list")
    states_as_of_date: date | None = Field(description="Day at whose end the states stood, with opens noted since")
    model_version: str = Field(examples=["2026-11-15-3f2a"])
    is_stale: bool = Field(description="Whether today's list was not published yet, or PostgreSQL was away")
    cached: bool = Field(description="Whether the answer had been made for an earlier request")


class RecommendResponse(BaseModel):
    """Whom to call, in order."""

    metadata: Metadata
    recommendations: list[Recommendation]


@router.get(_PATH, response_model=RecommendResponse, summary="Whom to call now")
async def read_recommendations(
    request: Request,
    budget: Budget = 100,
    district: District = None,
    exclude_control: ExcludeControl = True,
    model_version: ModelVersion = None,
) -> Response:
    """The caregivers whom a call would help most, first things first.

    A key of tier `standard` has everybody ranked as of now: calls and opens that came in since the night count. A key
    of tier `fast` gets the published list. The answer says which it was, and why.
    """
    asked = Asked(budget, district, exclude_control, model_version)
    _remember(request.scope["query_string"], asked)
    return await _recommended(request, asked)


@router.get(
    "/recommend/export",
    summary="The same as CSV",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One line for each caregiver, after a line of names",
            "content": {"text/csv": {"schema": {"type": "string"}}},
        }
    },
)
async def export_recommendations(
    request: Request,
    budget: Budget = 100,
    district: District = None,
    exclude_control: ExcludeControl = True,
    model_version: ModelVersion = None,
) -> StreamingResponse:
    """The rows of /recommend as CSV in UTF-8; what the answer says of itself is in the headers."""
    answer = await _answered(request, Asked(budget, district, exclude_control, model_version))
    found = json.loads(answer.body)
    told = found["metadata"]
    headers = {
        "Content-Disposition": f'attachment; filename="recommendations-{told["call_date"]}.csv"',
        "X-List-Version": str(told["list_version"]),
        "X-Model-Version": str(told["model_version"]),
        "X-Generated-At": str(told["generated_at"]),
        "X-Evaluated": str(told["evaluated"]),
        "X-Tier": str(told["tier"]),
        "X-Tier-Reason": str(told["tier_reason"]),
        "X-Stale": str(told["is_stale"]).lower(),
        "X-Cached": str(told["cached"]).lower(),
    }
    return StreamingResponse(_lines(found["recommendations"]), media_type="text/csv; charset=utf-8", headers=headers)


def _remember(query: bytes, asked: Asked) -> None:
    if len(query) > _LONGEST_KNOWN:
        return
    _KNOWN[query] = asked
    while len(_KNOWN) > _MOST_KNOWN:
        _KNOWN.popitem(last=False)


async def _recommended(request: Request, asked: Asked) -> Response:
    answer = await _answered(request, asked)
    return Response(answer.body, media_type="application/json")


async def _answered(request: Request, asked: Asked) -> Answer:
    service, client = service_of(request), client_of(request)
    answer = await recommend(service, asked, tier=client.tier)
    _tell(service, request, asked, answer)
    return answer


def _tell(service: Service, request: Request, asked: Asked, answer: Answer) -> None:
    service.metrics.answers.labels(answer.source).inc()
    # Counted in the text: it is kept as text, and reading it would take longer than sending it.
    n_recommended = answer.body.count(b'{"rank":')
    service.metrics.recommendations.labels(answer.tier, answer.tier_reason).inc(n_recommended)
    audit.note_recommended(
        request,
        client_of(request),
        {
            "budget": asked.budget,
            "district": asked.district,
            "exclude_control": asked.exclude_control,
            "tier": answer.tier,
            "tier_reason": answer.tier_reason,
            "list_version": answer.version,
            "model_version": answer.model_version,
            "returned": n_recommended,
        },
    )


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """A hundred lines at a time; text that a spreadsheet would take for a formula is quoted with an apostrophe."""
    names = list(Recommendation.model_fields)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    for number, row in enumerate(rows, start=1):
        writer.writerow([_harmless(row[name]) for name in names])
        if number % 100 == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
