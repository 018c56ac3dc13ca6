"""The application: every address, guard and document of the service, over one installation."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import psutil
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from bandicoot_api.edge import Admission, Edge
from bandicoot_api.guarded_route import client_of
from bandicoot_api.problems import add_handlers
from bandicoot_api.routes import caregivers, clusters, events, lists, operations, outcomes, recommend, runs
from bandicoot_api.service import Clock, open_service
from bandicoot_api.sheet import routes as sheet
from bandicoot_api.sheet.session import open_sessions
from bandicoot_core.settings import ListOptions, ServiceOptions
from bandicoot_core.stores.installation import Installation

__all__ = ["client_of", "create_app"]

_DESCRIPTION = """Whom a health worker's call would help most, on request.

Every address but `/health`, `/ready`, `/metrics`, this document and the call sheet asks for
`Authorization: Bearer bdc_...`. A key may `read`, `call` (report outcomes and events) or `admin` (start training).
Days are Asia/Kolkata days, instants UTC.
"""

_THREADS = 32
"""Threads that wait for Redis, and for what takes no time; who waits for PostgreSQL has lanes of their own."""


def create_app(stores: Installation, options: ServiceOptions, list_options: ListOptions, *, clock: Clock) -> FastAPI:
    """The service as an ASGI application. No server is asked before the first request."""
    service = open_service(stores, options, list_options, clock=clock)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS, "service"))
        yield
        if service.runs is not None:
            await service.runs.close()
        service.close()

    app = FastAPI(
        title="Bandicoot",
        version=version("bandicoot"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.sessions = open_sessions(options.api_session_secret)
    add_handlers(app)
    for module in (recommend, lists, caregivers, outcomes, events, clusters, runs, sheet, operations):
        app.include_router(module.router)
    # The last one added is the outermost: refusals of Admission too may be read by pages of the origins allowed.
    app.add_middleware(
        Admission,
        metrics=service.metrics,
        memory=service.memory,
        timeout_seconds=options.api_timeout_seconds,
        make_room=service.make_room,
    )
    if options.api_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(options.api_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
            expose_headers=[
                "X-Request-Id",
                "Retry-After",
                "Location",
                "Content-Disposition",
                "X-List-Version",
                "X-Model-Version",
                "X-Generated-At",
                "X-Evaluated",
                "X-Tier",
                "X-Tier-Reason",
                "X-Stale",
                "X-Cached",
            ],
        )
    app.add_middleware(Edge, metrics=service.metrics, age_of_process=_age_of_process)
    app.openapi = _document(app)  # type: ignore[method-assign]  # FastAPI's own way to change the document
    return app


def _age_of_process() -> float:
    return time.time() - psutil.Process().create_time()


def _document(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """The OpenAPI document with the key of which guarded routes ask a scope."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            made.setdefault("components", {})["securitySchemes"] = {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A key made with `bandicoot api keys create`",
                }
            }
            app.openapi_schema = made
        return app.openapi_schema

    return document
