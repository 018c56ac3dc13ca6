"""What the service says when it cannot do what was asked: one shape for every error, and which error means what.

The shape is `code` (a word to branch on), `message` (for a person), `details` (by code) and `request_id`. Messages
never quote a caregiver's id.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from bandicoot_core.errors import (
    BandicootError,
    InvalidInputError,
    MissingPartitionError,
    MissingRightError,
    NoChampionError,
    PartitionHeldError,
    RefusedWriteError,
    StorageFullError,
    TransientError,
)

_log = logging.getLogger(__name__)

_OF_STATUS = {
    400: "bad_request",
    401: "not_authenticated",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    409: "already_running",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_input",
    429: "too_many_requests",
    500: "internal_error",
    503: "unavailable",
    504: "timeout",
}


class ErrorBody(BaseModel):
    """Every error has this shape."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "code": "invalid_input",
                "message": "budget: expected at most 1000",
                "details": {"problems": [{"where": "query.budget", "expected": "at most 1000"}]},
                "request_id": "5f0c1d2e3a4b5c6d7e8f90a1b2c3d4e5",
            }
        }
    )

    code: str = Field(description="A word to branch on")
    message: str = Field(description="What was found, what was expected, and what to do")
    details: dict[str, Any] = Field(description="More by code, such as a limit or the run that is under way")
    request_id: str = Field(description="Names the request in the service's log")


class Problem(Exception):  # noqa: N818 - what is answered, not a fault of the program
    """An answer other than the one that was asked for."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.details = status, message, dict(details or {})
        self.code = code or _OF_STATUS[status]
        self.headers: dict[str, str] = {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(max(1, round(retry_after)))
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    def body(self, request_id: str) -> dict[str, Any]:
        """The error in its shape."""
        return {"code": self.code, "message": self.message, "details": self.details, "request_id": request_id}


_SECONDS: dict[str, Any] = {
    "description": "Seconds after which to come again",
    "schema": {"type": "integer", "minimum": 1},
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer with, for its documentation; those of every guard included."""
    words = {
        400: "The request cannot be read",
        401: "No key, or one that is not valid",
        403: "The key may not do that",
        404: "There is no such thing",
        409: "One is running already, or the list has changed",
        413: "The body is larger than the limit, which `details` names",
        415: "The body is of another type than JSON",
        422: "A value is out of its bounds",
        429: "More requests than the key may make; `Retry-After` says when to come again",
        500: "A fault of the service",
        503: "A server is away, or memory is short; `Retry-After` says when to come again",
        504: "The request took too long",
    }
    headers: dict[int, dict[str, Any]] = {
        401: {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}},
        429: {"Retry-After": {"required": True, **_SECONDS}},
        503: {"Retry-After": _SECONDS},
    }
    return {
        status: {"model": ErrorBody, "description": words[status], "headers": headers.get(status, {})}
        for status in sorted({400, 401, 403, 413, 422, 429, 500, 503, 504, *statuses})
    }


_FAULT = "a fault of the service; it is written in its log under the request's id"
_OUTWARD = {
    "not_ready": "what this needs is not made yet; come again after the next night",
    "unavailable": "a server that this needs does not do its part; come again",
}


def problem_of(error: BandicootError) -> Problem:
    """What a foreseen error means to who asked."""
    message = str(error)
    if isinstance(error, MissingRightError):
        return Problem(500, message)
    if isinstance(error, InvalidInputError):
        return Problem(422, message)
    if isinstance(error, MissingPartitionError | NoChampionError):
        return Problem(503, message, code="not_ready", retry_after=60)
    if isinstance(error, TransientError | PartitionHeldError | RefusedWriteError | StorageFullError):
        return Problem(503, message, retry_after=5)
    return Problem(500, message)


def outward_problem_of(error: BandicootError, request_id: str) -> Problem:
    """The same in words for anybody, while the log gets the error's own: they name servers, users and folders."""
    problem = problem_of(error)
    if problem.status >= 500:
        _log.warning("request %s: %s: %s", request_id, type(error).__name__, error)
        problem.message = _OUTWARD.get(problem.code, _FAULT)
    return problem


def answer(request: Request, problem: Problem) -> JSONResponse:
    """The response that tells of a problem."""
    return JSONResponse(
        problem.body(request.scope.get("request_id", "")), status_code=problem.status, headers=problem.headers
    )


def add_handlers(app: FastAPI) -> None:
    """Give every error its shape."""

    async def on_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)  # noqa: S101 - registered for this class
        return answer(request, error)

    async def on_foreseen(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, BandicootError)  # noqa: S101 - registered for this class
        return answer(request, outward_problem_of(error, request.scope.get("request_id", "")))

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
        problems = described(error.errors())
        first = problems[0]
        message = f"{first['where']}: {first['expected']}"
        if len(problems) > 1:
            message += f" (and {len(problems) - 1} more)"
        return answer(request, Problem(422, message, details={"problems": problems[:20]}))

    async def on_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
        status = error.status_code if error.status_code in _OF_STATUS else 500
        words = {
            404: "there is no such address; see /openapi.json",
            405: "this address knows other methods; see /openapi.json",
        }
        problem = Problem(status, words.get(status, str(error.detail)))
        problem.headers.update(error.headers or {})
        return answer(request, problem)

    app.add_exception_handler(Problem, on_problem)
    app.add_exception_handler(BandicootError, on_foreseen)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)


def described(errors: Sequence[Any]) -> list[dict[str, str]]:
    """Where each value is at fault and what was expected; never the value, which may name a caregiver."""
    return [{"where": _place(error["loc"]), "expected": str(error["msg"])} for error in errors] or [
        {"where": "body", "expected": "JSON"}
    ]


def _place(loc: Sequence[str | int]) -> str:
    """Names of fields, of which one that is not known may be no Unicode, or long."""
    return ".".join(str(part) for part in loc)[:200].encode("utf-8", "backslashreplace").decode()
