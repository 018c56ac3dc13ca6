"""Forms that a browser sends: from a page of ours, small, and of one kind; a Problem for any other.

Whose session a form belongs to is checked by the routes.
"""

from typing import Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request

from bandicoot_api.problems import Problem

MAX_BYTES: Final = 8 * 1024
_MAX_FIELDS: Final = 20
_TYPE: Final = "application/x-www-form-urlencoded"


async def fields_of(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name. Problem 413, 415 or 400 for what is none."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_BYTES:
        raise _too_large()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _TYPE:
        raise Problem(415, f"expected a form of type {_TYPE}")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise _too_large()
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict"))
    except ValueError as error:
        raise Problem(400, "the form cannot be read") from error


def is_of_own_page(request: Request) -> bool:
    """Whether the browser says that the form is on a page of this service.

    Browsers say it in Sec-Fetch-Site over https, older ones and plain http in Origin, the oldest in Referer. Who says
    nothing at all is no browser that could be used here.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    came_from = request.headers.get("origin") or request.headers.get("referer")
    if came_from is None:
        return False
    try:
        return urlsplit(came_from).netloc == request.headers.get("host")
    except ValueError:
        return False


def _too_large() -> Problem:
    return Problem(413, f"the form is larger than {MAX_BYTES:,} bytes", details={"max_bytes": MAX_BYTES})
