"""Templates and style of the call sheet as answers: whole pages, compressed, that load one file and nothing else.

Which page, and what is on it, is decided by the routes; words belong to texts.
"""

import gzip
import hashlib
from importlib.resources import files
from typing import Any, Final

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from bandicoot_api.sheet import texts

_CSS: Final = (files("bandicoot_api.sheet") / "sheet.css").read_bytes()
_PACKED_CSS: Final = gzip.compress(_CSS, 9, mtime=0)
STYLE_PATH: Final = f"/sheet/{hashlib.sha256(_CSS).hexdigest()[:12]}.css"
"""Another one for another style, so that it can be kept for ever."""

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"  # no script
)

_PACKED_FROM: Final = 500
"""Bytes below which compressing costs more than it saves."""

_templates: Final = Environment(
    loader=PackageLoader("bandicoot_api.sheet"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_templates.globals.update(t=texts, style_path=STYLE_PATH)


def page(request: Request, template: str, *, status: int = 200, **shown: Any) -> Response:
    """A page made from a template.

    It is compressed, though it holds a token: the token is masked anew on each page (see session), and the cookie is
    SameSite=Strict, so that no other site can have pages of its choice made for somebody who is signed in.
    """
    body = _templates.get_template(template).render(**shown).encode()
    headers = {"Content-Security-Policy": _POLICY, "Content-Language": texts.LANGUAGE, "Vary": "Accept-Encoding"}
    if _takes_gzip(request) and len(body) >= _PACKED_FROM:
        body, headers["Content-Encoding"] = gzip.compress(body, 6, mtime=0), "gzip"
    return Response(body, status, headers, media_type="text/html")


def style(request: Request) -> Response:
    """The one style sheet, to be kept for ever."""
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding"}
    if not _takes_gzip(request):
        return Response(_CSS, 200, headers, media_type="text/css")
    return Response(_PACKED_CSS, 200, {**headers, "Content-Encoding": "gzip"}, media_type="text/css")


def _takes_gzip(request: Request) -> bool:
    for each in request.headers.get("accept-encoding", "").split(","):
        name, _, weight = each.partition(";")
        if name.strip().lower() == "gzip":
            return weight.replace(" ", "").lower() not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
