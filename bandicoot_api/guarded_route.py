"""A route that lets a request in when its key may ask that, as often, and that much; checked in this order.

Size comes first, from the header, before anything is read; a body that does not announce its size is counted as it
comes. What it may take in memory is set aside while it is worked on. A router has one guard for all its routes; what a
guard or a route of scope admin refuses is in the audit log.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Message

from bandicoot_api import audit
from bandicoot_api.problems import Problem
from bandicoot_api.rate_limits import Limit
from bandicoot_api.service import Service, service_of
from bandicoot_core.errors import BandicootError
from bandicoot_core.stores.published.api_keys import ApiKey

Scope = Literal["read", "call", "admin"]

_MEMORY_PER_BYTE = 30
"""What a byte of JSON may become in memory, in bytes: empty objects in a list are the worst."""


@dataclass(frozen=True)
class Guard:
    """What a router asks of a request."""

    scope: Scope
    limit: Callable[[Service], Limit]
    max_bytes: Callable[[Service], int]
    is_scarce: bool = False
    """Whether it may be done a few times at most: then it is counted exactly, and not when its route refuses it."""

    async def admit(self, request: Request, service: Service) -> Request:
        """The request, whose body ends at the limit and whose key is known; Problem when it is not let in."""
        request = _bounded(request, self.max_bytes(service), service)
        key = request.state.client = await _client_of(request, service)
        if self.scope not in key.scopes:
            service.metrics.refused.labels("scope").inc()
            if self.scope != "admin":
                audit.note_refused(request, key, "scope")
            raise Problem(
                403,
                f"this key may {' and '.join(sorted(key.scopes))}, but this address asks for {self.scope}; use a key "
                "with that scope",
                details={"scope": self.scope},
            )
        await self.count(request, key, service)
        return request

    async def count(self, request: Request, key: ApiKey, service: Service) -> None:
        """Count the request; Problem when the key has asked too often."""
        limit = self.limit(service)
        counts = service.exact_limits if self.is_scarce else service.rate_limits
        wait = await counts.wait_seconds(key.key_id, limit)
        if wait:
            service.metrics.refused.labels("rate").inc()
            raise Problem(
                429,
                f"this key may make {limit.n_requests} such requests in {limit.seconds} s; come again in {wait:.0f} s",
                details={"limit": limit.n_requests, "seconds": limit.seconds},
                retry_after=wait,
            )


def guarded(guard: Guard, *, known: Callable[[Request], Awaitable[Response] | None] | None = None) -> type[APIRoute]:
    """The class of routes behind a guard.

    `known` may begin the answer to a question whose parameters were checked before; None has FastAPI check them.
    """

    class GuardedRoute(APIRoute):
        def __init__(self, *given: Any, **options: Any) -> None:
            # The document says which scope is asked for, from the guard itself.
            options["openapi_extra"] = {**(options.get("openapi_extra") or {}), "security": [{"key": [guard.scope]}]}
            super().__init__(*given, **options)
            self.guard = guard

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_guarded(request: Request) -> Response:
                if guard.scope != "admin":
                    return await admitted_and_handled(request)
                try:
                    return await admitted_and_handled(request)
                except BaseException as error:
                    _note_refused(request, error)
                    raise

            async def admitted_and_handled(request: Request) -> Response:
                service = service_of(request)
                admitted = await guard.admit(request, service)
                with service.memory.reserved(_MEMORY_PER_BYTE * _size_of_body(request, guard, service)) as has_room:
                    try:
                        if not has_room:
                            raise _no_room(service)
                        answer = known(admitted) if known is not None else None
                        return await (answer if answer is not None else handle(admitted))
                    except HTTPException as error:
                        # FastAPI reads some bodies itself, and would make a bad request of one that is too long.
                        await give_back(service, admitted)
                        if isinstance(error.__cause__, Problem):
                            raise error.__cause__ from None
                        raise
                    except (Problem, BandicootError, RequestValidationError):
                        await give_back(service, admitted)
                        raise

            async def give_back(service: Service, admitted: Request) -> None:
                if guard.is_scarce:
                    await service.exact_limits.give_back(client_of(admitted).key_id, guard.limit(service))

            return handle_guarded

    return GuardedRoute


def client_of(request: Request) -> ApiKey:
    """The key with which a request was let in."""
    key = request.state.client
    assert isinstance(key, ApiKey)  # noqa: S101 - set by the guard
    return key


async def _client_of(request: Request, service: Service) -> ApiKey:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    key = await service.clients.find(text.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        service.metrics.refused.labels("key").inc()
        raise Problem(401, "expected the header `Authorization: Bearer bdc_...` with a key that is valid now")
    return key


def _size_of_body(request: Request, guard: Guard, service: Service) -> int:
    """Bytes of the body as announced; as many as it may have when it does not announce them."""
    if request.method in ("GET", "HEAD"):
        return 0
    announced = request.headers.get("content-length", "")
    return int(announced) if announced.isdigit() else guard.max_bytes(service)


def _note_refused(request: Request, error: BaseException) -> None:
    """An admin call that came to nothing, of a key that is known."""
    key = getattr(request.state, "client", None)
    if not isinstance(key, ApiKey):
        return
    told: dict[str, Any] = {"result": "failed", "status": 500}
    if isinstance(error, Problem):
        told = {"result": "refused", "status": error.status, "code": error.code, **error.details}
    elif isinstance(error, RequestValidationError):
        told = {"result": "refused", "status": 422, "code": "invalid_input"}
    elif isinstance(error, HTTPException):
        told = {"result": "refused", "status": error.status_code}
    elif isinstance(error, asyncio.CancelledError):
        told = {"result": "broken off"}
    audit.note_admin(request, key, {**getattr(request.state, "audited", {}), **told})


def _bounded(request: Request, max_bytes: int, service: Service) -> Request:
    """The request with a body that is refused as soon as it is too long."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise _too_large(max_bytes, service)
    receive, n_bytes = request.receive, 0

    async def receive_bounded() -> Message:
        nonlocal n_bytes
        message = await receive()
        n_bytes += len(message.get("body", b""))
        if n_bytes > max_bytes:
            raise _too_large(max_bytes, service)
        return message

    return Request(request.scope, receive_bounded)


def _no_room(service: Service) -> Problem:
    service.metrics.refused.labels("admission").inc()
    return Problem(
        503,
        "memory is short here for so large a body; send fewer rows at once, or come again",
        code="overloaded",
        retry_after=5,
    )


def _too_large(max_bytes: int, service: Service) -> Problem:
    service.metrics.refused.labels("size").inc()
    return Problem(
        413,
        f"the body is larger than {max_bytes:,} bytes; send fewer rows at once",
        details={"max_bytes": max_bytes},
    )
