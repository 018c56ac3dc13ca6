"""`GET /call-list/{date}`: the published list of a day, page by page."""

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, Field

from bandicoot_api import audit
from bandicoot_api.away import on_database
from bandicoot_api.guarded_route import Guard, client_of, guarded
from bandicoot_api.problems import Problem, responses
from bandicoot_api.routes.recommend import District
from bandicoot_api.service import Service, service_of
from bandicoot_core.stores.published.list_pages import read_page

router = APIRouter(
    tags=["lists"],
    route_class=guarded(Guard("read", lambda service: service.reads, lambda service: service.max_body)),
    responses=responses(404, 409),
)


class ListRow(BaseModel):
    """One caregiver on a published list."""

    rank: int = Field(description="Order in which to call, 1 first", examples=[1])
    caregiver_id: str = Field(examples=["CG-012345"])
    district: str | None = Field(examples=["Gaya"])
    state: str = Field(description="U or R", examples=["U"])
    cluster_id: int = Field(examples=[3])
    whittle_index: float = Field(examples=[0.344])
    index_low: float = Field(examples=[0.290])
    index_high: float = Field(examples=[0.401])
    own_index: float | None = Field(description="What a call is worth to her, by her own weeks", examples=[1.32])
    p_top_k: float | None = Field(description="Chance that she is among those worth most", examples=[0.97])
    reason: str
    days_since_last_open: int | None = Field(examples=[36])
    last_call_date: date | None
    ab_arm: str = Field(examples=["treatment"])
    propensity: float = Field(description="Chance with which she was listed", examples=[1.0])


class ListPage(BaseModel):
    """A page of a published list."""

    call_date: date
    model_version: str
    run_id: str
    published_at: datetime
    n_rows: int = Field(description="Rows of the whole list")
    is_stale: bool = Field(description="Whether PostgreSQL was away, so that a newer publication may exist")
    rows: list[ListRow]
    next_after_rank: int | None = Field(description="`after_rank` of the next page; null at the end")


@router.get("/call-list/{call_date}", summary="The published list of a day")
async def read_call_list(
    request: Request,
    call_date: Annotated[date, Path(description="Day of the list (Asia/Kolkata)", examples=["2026-11-28"])],
    after_rank: Annotated[int, Query(ge=0, le=2**31 - 1, description="Rank after which the page begins")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="Rows of a page at most")] = 100,
    district: District = None,
    published_at: Annotated[
        AwareDatetime | None,
        Query(
            description="As the first page told it: 409 when the list was published again since, so that pages of two "
            "lists are never put together",
            examples=["2026-11-27T19:32:10.123456Z"],
        ),
    ] = None,
) -> ListPage:
    """In calling order. While PostgreSQL is away the newest list is served from Redis, and is_stale says so."""
    page = await _read_page(service_of(request), call_date, after_rank, limit, district)
    if published_at is not None and published_at != page.published_at:
        raise Problem(
            409,
            f"the list of {call_date} was published again at {page.published_at.isoformat()}; begin anew",
            code="published_again",
            details={"published_at": page.published_at.isoformat()},
        )
    audit.note_recommended(
        request,
        client_of(request),
        {
            "list_date": call_date,
            "district": district,
            "after_rank": after_rank,
            "returned": len(page.rows),
            "model_version": page.model_version,
        },
    )
    return page


async def _read_page(service: Service, call_date: date, after_rank: int, limit: int, district: str | None) -> ListPage:
    if service.watch.is_away:
        return await _stale_page(service, call_date, after_rank, limit, district)
    try:
        found = await on_database(
            service,
            lambda connection: read_page(
                connection, call_date, after_rank=after_rank, limit=limit + 1, district=district
            ),
        )
    except Problem as problem:
        if problem.status != 503 or not service.watch.is_away:
            raise
        return await _stale_page(service, call_date, after_rank, limit, district)
    if found is None:
        raise Problem(404, f"no list is published for {call_date}; see /ready for the day of the newest")
    publication, rows = found
    return ListPage(
        call_date=publication.call_date,
        model_version=publication.model_version,
        run_id=publication.run_id,
        published_at=publication.published_at,
        n_rows=publication.n_rows,
        is_stale=False,
        **_page(rows, limit),
    )


async def _stale_page(service: Service, call_date: date, after_rank: int, limit: int, district: str | None) -> ListPage:
    snapshot = await service.newest_list.read_cached()
    if snapshot is None or snapshot.call_date != call_date:
        raise Problem(503, "PostgreSQL does not answer, and Redis does not hold that list; come again", retry_after=5)
    rows = [
        row.model_dump()
        for row in snapshot.rows
        if row.rank > after_rank and (district is None or row.district == district)
    ]
    if len(rows) <= limit and len(snapshot.rows) < snapshot.n_rows:
        raise Problem(503, "PostgreSQL does not answer, and Redis holds only the list's beginning", retry_after=5)
    return ListPage(
        call_date=snapshot.call_date,
        model_version=snapshot.model_version,
        run_id=snapshot.run_id,
        published_at=snapshot.published_at,
        n_rows=snapshot.n_rows,
        is_stale=True,
        **_page(rows[: limit + 1], limit),
    )


def _page(rows: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """The rows of a page, of which one more than the limit was asked for, and where the next one begins."""
    shown = rows[:limit]
    return {
        "rows": [ListRow.model_validate(row, from_attributes=False, extra="ignore") for row in shown],
        "next_after_rank": shown[-1]["rank"] if len(rows) > limit else None,
    }
