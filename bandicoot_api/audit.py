"""Who asked for what: a line of JSON for each recommendation, admin call, signing in and refused scope.

A line names the key, never its secret, and no caregiver: a list follows from its version and filters.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import Request

from bandicoot_core.stores.published.api_keys import ApiKey

_log = logging.getLogger("bandicoot_api.audit")


def note_recommended(request: Request, key: ApiKey, facts: Mapping[str, Any]) -> None:
    """A list was given out."""
    _note("recommended", request, key, facts)


def note_admin(request: Request, key: ApiKey, facts: Mapping[str, Any]) -> None:
    """Something was started, or refused to start."""
    _note("admin", request, key, facts)


def note_signed_in(request: Request, key: ApiKey) -> None:
    """A session of the call sheet began."""
    _note("signed_in", request, key, {})


def note_refused(request: Request, key: ApiKey, guard: str) -> None:
    """A valid key asked for what it may not."""
    _note("refused", request, key, {"guard": guard})


def _note(what: str, request: Request, key: ApiKey, facts: Mapping[str, Any]) -> None:
    if not _log.isEnabledFor(logging.INFO):
        return
    line = {
        "audit": what,
        "key_id": key.key_id,
        "client": key.client,
        "request_id": request.scope.get("request_id", ""),
        "method": request.method,
        "route": getattr(request.scope.get("route"), "path", ""),
        **facts,
    }
    _log.info("%s", json.dumps(line, default=str, separators=(",", ":")))
