"""Addresses of the call sheet: the page, signing in and out, a mark, and the style; and who may use them.

Whoever holds a key that may read and call signs in with it. Each request looks the key up again, so that a session ends
when the key does. What a form from elsewhere, or too many of them, get is a page in words.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute

from bandicoot_api import audit
from bandicoot_api.away import current_version, on_database
from bandicoot_api.problems import Problem, outward_problem_of
from bandicoot_api.rate_limits import Limit
from bandicoot_api.service import Service, service_of
from bandicoot_api.sheet import texts
from bandicoot_api.sheet.forms import fields_of, is_of_own_page
from bandicoot_api.sheet.marking import mark_of, record_mark
from bandicoot_api.sheet.pages import STYLE_PATH, page, style
from bandicoot_api.sheet.session import LASTS, Session, Sessions, place_of
from bandicoot_api.sheet.shown import PAGE_SIZE, Part, Shown, shown, shown_from_cache
from bandicoot_core.calendar import day_of
from bandicoot_core.errors import BandicootError
from bandicoot_core.stores.published.api_keys import ApiKey
from bandicoot_core.stores.published.call_sheet import Chosen, read_sheet

_NEEDED: Final = frozenset({"read", "call"})
"""A key shows the list and marks calls, or does not sign in at all."""


class SheetRoute(APIRoute):
    """A route whose refusals are pages in words."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, with every foreseen error as a page."""
        handle = super().get_route_handler()

        async def handle_in_words(request: Request) -> Response:
            try:
                return await handle(request)
            except Problem as problem:
                return _refusal(request, problem)
            except RequestValidationError:
                return _refusal(request, Problem(422, "a part of the address is out of its bounds"))
            except BandicootError as error:
                return _refusal(request, outward_problem_of(error, request.scope.get("request_id", "")))

        return handle_in_words


router = APIRouter(tags=["call sheet"], route_class=SheetRoute)

_HTML: Final[dict[str, Any]] = {"content": {"text/html": {"schema": {"type": "string"}}}}


@router.get(
    "/",
    summary="The call sheet: the newest list as a page for a phone",
    response_class=HTMLResponse,
    responses={
        200: {**_HTML, "description": "The list, or the page where to sign in"},
        422: {**_HTML, "description": "A part of the address is out of its bounds, in words"},
        429: {**_HTML, "description": "Too many requests, in words"},
        503: {**_HTML, "description": "There is no list, in words"},
    },
)
async def read_call_sheet(
    request: Request,
    district: Annotated[
        str | None, Query(max_length=200, description="Rows of one district; empty: of none", examples=["Gaya"])
    ] = None,
    show: Annotated[Chosen, Query(description="Everybody, who is not called yet, or who may be tried again")] = "all",
    page_number: Annotated[int, Query(alias="page", ge=1, le=10_000, description="Page, from 1")] = 1,
    said: Annotated[str, Query(max_length=20, description="What the last mark came to")] = "",
) -> Response:
    """Signed in by cookie (see `POST /sign-in`), 25 caregivers a page; without one, the form to sign in."""
    service = service_of(request)
    visitor = await _visitor(request, service)
    if visitor is None:
        return page(request, "sign_in.html", problem=None)
    session, key = visitor
    await _count(service, key)
    part = Part(_storable(district), show, page_number)
    found = await _shown(service, part)
    audit.note_recommended(
        request, key, {"list_date": found.call_date, "district": part.district, "returned": len(found.rows)}
    )
    return page(
        request,
        "sheet.html",
        s=found,
        token=_sessions(request).token(session),
        client=key.client,
        said=texts.marked(int(said)) if said.isascii() and said.isdigit() else texts.SAID.get(said),
    )


@router.get(STYLE_PATH, include_in_schema=False)
async def read_style(request: Request) -> Response:
    """The style sheet."""
    return style(request)


@router.get("/sign-in", include_in_schema=False)
@router.get("/sign-out", include_in_schema=False)
@router.get("/mark", include_in_schema=False)
async def go_to_the_sheet() -> Response:
    """To the page: these addresses stand in the browser's bar after a form that was refused."""
    return RedirectResponse("/", 303)


@router.post("/sign-in", include_in_schema=False)
async def sign_in(request: Request) -> Response:
    """Begin a session with a key.

    Only wrong keys are counted, by address: nobody can keep others out by guessing where many share an address, and a
    key's 256 random bits are not guessed at any pace.
    """
    service = service_of(request)
    fields = await fields_of(request)
    if not is_of_own_page(request):
        raise _from_elsewhere(service)
    key = await service.clients.find(fields.get("key", "").strip())
    if key is None:
        service.metrics.refused.labels("key").inc()
        address = request.client.host if request.client is not None else ""
        limit = Limit("sign-in", service.options.api_sign_ins_per_minute, 60)
        await _wait(service, place_of(address), limit)
        return page(request, "sign_in.html", status=401, problem=texts.WRONG_KEY)
    if not key.scopes >= _NEEDED:
        service.metrics.refused.labels("scope").inc()
        audit.note_refused(request, key, "scope")
        return page(request, "sign_in.html", status=403, problem=texts.WRONG_SCOPE)
    audit.note_signed_in(request, key)
    response = RedirectResponse("/", 303)
    _set_cookie(request, response, _sessions(request).begin(key.key_id, service.clock()), int(LASTS.total_seconds()))
    return response


@router.post("/sign-out", include_in_schema=False)
async def sign_out(request: Request) -> Response:
    """Take the cookie back from this browser."""
    service = service_of(request)
    fields = await fields_of(request)
    # From another site the cookie is not sent, and what is answered would take it away all the same.
    if not is_of_own_page(request):
        raise _from_elsewhere(service)
    visitor = await _visitor(request, service)
    if visitor is not None:
        _require_own_form(request, service, visitor[0], fields)
    response = RedirectResponse("/", 303)
    _set_cookie(request, response, "", 0)
    return response


@router.post("/mark", include_in_schema=False)
async def mark(request: Request) -> Response:
    """Record what came of one call, and show the part of the list again that the form was on."""
    service = service_of(request)
    fields = await fields_of(request)
    visitor = await _visitor(request, service)
    if visitor is None:
        return page(request, "sign_in.html", status=401, problem=texts.ENDED)
    session, key = visitor
    _require_own_form(request, service, session, fields)
    await _count(service, key)
    wanted, part, now = mark_of(fields), _part_of(fields), service.clock()
    await current_version(service)  # waits for PostgreSQL no longer than configured
    became, listed = await on_database(
        service, lambda connection: record_mark(connection, wanted, recorded_by=key.client, now=now)
    )
    service.watch.look_again()
    service.metrics.outcomes.labels("refused" if became == "unlisted" else became).inc()
    if became != "recorded" or listed is None:
        # allowed: open-redirect, a part's link is a query of this page
        return RedirectResponse(part.link(said=became), 303)
    # Who is shown again is shown where she stands; of who has left the part, the page says that she is marked.
    fragment = f"r{listed.rank}" if part.chosen == "all" else ""
    # allowed: open-redirect, a part's link is a query of this page
    return RedirectResponse(part.link(said=str(listed.rank), fragment=fragment), 303)


async def _shown(service: Service, part: Part) -> Shown:
    """The part of the list from PostgreSQL, or without marks from Redis; Problem 503 when neither has it."""
    today = day_of(service.clock())
    try:
        await current_version(service)
        sheet = await on_database(
            service,
            lambda connection: read_sheet(
                connection, district=part.district, chosen=part.chosen, page=part.page, page_size=PAGE_SIZE
            ),
        )
    except Problem as problem:
        snapshot = await service.newest_list.read_cached() if service.watch.is_away else None
        if snapshot is None:
            raise
        if problem.status != 503:
            raise
        return await asyncio.to_thread(shown_from_cache, snapshot, part, today)
    if sheet is None:
        raise Problem(503, "no call list is published yet", code="not_ready")
    return shown(sheet, part, today)


async def _visitor(request: Request, service: Service) -> tuple[Session, ApiKey] | None:
    """The session of a request and its key, which is valid now and may use the sheet; TransientError without keys."""
    session = _sessions(request).find(request.cookies.get(_cookie_name(request), ""), service.clock())
    if session is None:
        return None
    await service.clients.refresh_if_old()
    key = service.clients.by_id(session.key_id)
    return (session, key) if key is not None and key.scopes >= _NEEDED else None


def _require_own_form(request: Request, service: Service, session: Session, fields: dict[str, str]) -> None:
    if not is_of_own_page(request) or not _sessions(request).is_token(session, fields.get("token", "")):
        raise _from_elsewhere(service)


def _from_elsewhere(service: Service) -> Problem:
    service.metrics.refused.labels("form").inc()
    return Problem(403, "the form is not of a page of this session")


async def _count(service: Service, key: ApiKey) -> None:
    """Count a page or a mark; a key may be that of a whole centre."""
    await _wait(service, key.key_id, Limit("sheet", service.options.api_bulk_per_minute, 60))


async def _wait(service: Service, whose: str, limit: Limit) -> None:
    wait = await service.rate_limits.wait_seconds(whose, limit)
    if wait:
        service.metrics.refused.labels("rate").inc()
        raise Problem(429, "too many requests", retry_after=wait)


def _sessions(request: Request) -> Sessions:
    sessions = request.app.state.sessions
    assert isinstance(sessions, Sessions)  # noqa: S101 - set by create_app
    return sessions


def _part_of(fields: dict[str, str]) -> Part:
    """The part of the list that a form was on; what is none is the whole list."""
    district = fields.get("district")
    show, number = fields.get("show", "all"), fields.get("page", "1")
    chosen: Chosen = "open" if show == "open" else "again" if show == "again" else "all"
    is_page = number.isascii() and number.isdigit() and len(number) <= 4 and int(number) >= 1
    return Part(_storable(district), chosen, int(number) if is_page else 1)


def _storable(district: str | None) -> str | None:
    """The name as it is, or one that nobody has when PostgreSQL could hold no such text."""
    return "?" if district is not None and "\0" in district else district


def _is_https(request: Request) -> bool:
    """Whether the browser speaks https, to this process or to what stands before it.

    Who lies about it can only keep a cookie of their own from being sent.
    """
    forwarded = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return forwarded == "https" or urlsplit(str(request.url)).scheme == "https"


def _cookie_name(request: Request) -> str:
    """Over https a name that browsers take from this host alone, and for the whole of it."""
    return "__Host-bandicoot" if _is_https(request) else "bandicoot"


def _set_cookie(request: Request, response: Response, value: str, seconds: int) -> None:
    response.set_cookie(
        _cookie_name(request),
        value,
        max_age=seconds,
        path="/",
        secure=_is_https(request),
        httponly=True,
        samesite="strict",
    )


def _refusal(request: Request, problem: Problem) -> Response:
    title, words = texts.PROBLEM.get(problem.status, texts.PROBLEM[500])
    if problem.code == "not_ready":
        title, words = texts.NOT_READY
    response = page(
        request,
        "refusal.html",
        status=problem.status,
        title=title,
        words=words,
        reference=request.scope.get("request_id", ""),
    )
    response.headers.update(problem.headers)
    return response
