"""What every request passes first and every answer last: its name, its time, its headers, its measure.

Also the two refusals that need to know nothing of a request: too little memory, and too much time. Whose request it
is, how often and how large belongs to guarded_route.
"""

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bandicoot_api.memory import Memory
from bandicoot_api.metrics import Metrics
from bandicoot_api.problems import Problem

_log = logging.getLogger(__name__)

_ALWAYS_SERVED = ("/health", "/ready", "/metrics")
_ROOM_SECONDS = 1.0
"""How often what can be made again is let go of, at most."""

_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"strict-transport-security", b"max-age=31536000; includeSubDomains"),
)
_NO_STORE = (b"cache-control", b"no-store")
_NOTHING_LOADED = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
_GIVEN_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_UNKNOWN_ROUTE = "(none)"


class Edge:
    """ASGI middleware around everything else: names, marks and measures."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, age_of_process: Callable[[], float]) -> None:
        self.app = app
        self._metrics = metrics
        self._age_of_process = age_of_process
        self._is_cold = True
        self._timers: dict[tuple[str, str, int], Any] = {}
        self._sizes: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = scope["request_id"] = _request_id(scope)
        status = 0

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_marks(message, request_id)]
            await send(message)

        await self.app(scope, receive, send_marked)
        self._measure(scope, status, time.perf_counter() - started)

    def _measure(self, scope: Scope, status: int, seconds: float) -> None:
        if self._is_cold:
            self._is_cold = False
            self._metrics.cold_starts.inc()
            self._metrics.cold_start_seconds.set(self._age_of_process())
        route = getattr(scope.get("route"), "path", _UNKNOWN_ROUTE)
        method = scope["method"] if route != _UNKNOWN_ROUTE else "(any)"
        key = (route, method, status // 100)
        timer = self._timers.get(key)
        if timer is None:
            timer = self._timers[key] = self._metrics.seconds.labels(route, method, f"{status // 100}xx")
        timer.observe(seconds)
        size = _announced_size(scope)
        if size:
            if route not in self._sizes:
                self._sizes[route] = self._metrics.request_bytes.labels(route)
            self._sizes[route].observe(size)


class Admission:
    """ASGI middleware that ends what takes too long, and sends requests away while memory is short."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        memory: Memory,
        timeout_seconds: float,
        make_room: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app = app
        self._metrics = metrics
        self._memory = memory
        self._timeout_seconds = timeout_seconds
        self._make_room = make_room
        self._monotonic = monotonic
        self._room_made_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id, has_begun = scope["request_id"], False

        async def send_noted(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        problem = self._refusal(scope)
        if problem is None:
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await self.app(scope, receive, send_noted)
            except TimeoutError:
                self._metrics.refused.labels("timeout").inc()
                problem = Problem(
                    504,
                    f"the request took longer than {self._timeout_seconds:g} s and was ended; ask for less, or again "
                    "later",
                )
            except Exception:
                _log.exception("request %s failed", request_id)
                problem = Problem(500, "a fault of the service; it is written in its log under the request's id")
        if problem is not None:
            if has_begun:  # so only its end can tell
                raise ConnectionError(f"the answer to request {request_id} was broken off")
            await _send_problem(problem, request_id, send)

    def _refusal(self, scope: Scope) -> Problem | None:
        if not self._memory.is_full or scope["path"] in _ALWAYS_SERVED:
            return None
        # Making room stops everybody for a moment: not for each of a thousand requests.
        now = self._monotonic()
        if now - self._room_made_at >= _ROOM_SECONDS:
            self._room_made_at = now
            self._make_room()
            self._memory.look_again()
            if not self._memory.is_full:
                return None
        self._metrics.refused.labels("admission").inc()
        return Problem(503, "memory is short here; ask again in a few seconds", code="overloaded", retry_after=5)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _GIVEN_ID.fullmatch(value):
            return str(value.decode())
    return uuid.uuid4().hex


def _announced_size(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


def _marks(message: Message, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers that every answer has, but for those that its route has chosen itself."""
    given = {name for name, _ in message.get("headers", ())}
    marks = [*_HEADERS, (b"x-request-id", request_id.encode())]
    marks += [mark for mark in (_NO_STORE, _NOTHING_LOADED) if mark[0] not in given]
    return marks


async def _send_problem(problem: Problem, request_id: str, send: Send) -> None:
    body = json.dumps(problem.body(request_id)).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
