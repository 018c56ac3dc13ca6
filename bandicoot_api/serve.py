"""Serving the application with uvicorn, until it is interrupted or terminated."""

import json
import logging
import logging.config
from datetime import UTC, datetime
from typing import Any

import uvicorn

from bandicoot_api.app import create_app
from bandicoot_api.service import Clock, within_requests
from bandicoot_api.wire import SERVER_OPTIONS
from bandicoot_core.errors import UnreachableError
from bandicoot_core.settings import LogOptions, load_list_options, load_service_options, load_settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.call_lists import migrate

_log = logging.getLogger(__name__)


def serve(*, host: str, port: int, clock: Clock) -> None:
    """Answer on an address until the process is told to end.

    The published schema is brought to this release's revision where this user may do that. A server that is away does
    not keep the service from starting. Raises InvalidSettingError when a setting is out of bounds,
    OutdatedSchemaError when the schema is at another revision and this user may not change that.
    """
    options = load_service_options()
    stores = Installation(within_requests(load_settings(), options))
    _set_up_logs(is_json=LogOptions().log_format == "json")
    try:
        migrate(stores.database_url, limits=stores.limits)
    except UnreachableError as error:
        _log.warning("%s", error)
    uvicorn.run(
        create_app(stores, options, load_list_options(), clock=clock),
        host=host,
        port=port,
        **SERVER_OPTIONS,
    )


class _JsonLines(logging.Formatter):
    """One object per line; what is JSON already, as the audit's lines are, keeps its own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "severity": record.levelname,
            "logger": record.name,
        }
        message = record.getMessage()
        if record.name == "bandicoot_api.audit":
            line |= json.loads(message)
        else:
            line["message"] = message
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _set_up_logs(*, is_json: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(
        _JsonLines() if is_json else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
