"""How this process logs: as Dagster does, or every line as one JSON object, as the setting `log_format` says.

Dagster fixes the format of its consoles: of a run's, of ticks' and of its servers'. It makes them through two hooks of
the standard library, the class of loggers and that of `dictConfig`, and through these every handler that writes to a
standard stream is given the formatter of json_lines, whichever library made it. In text nothing is touched.

What a line holds belongs to json_lines; how the daemon and the webserver come to log alike, to server_logs. Dagster is
not imported before JSON is asked for: the command line waits for it long enough.
"""

import logging
import logging.config
import os
import sys
import threading
from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

import click
from pydantic import SecretStr

from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.settings import load_log_options, load_settings

_log = logging.getLogger("bandicoot")
_SHORTEST_SECRET = 4
"""A shorter password is no secret, and would blot out words."""

_formatter: logging.Formatter | None = None
_assets: set[str] = set()


def logs_are_json() -> bool:
    """Whether this process was set up to log JSON."""
    return _formatter is not None


def set_up_logs(*, assets: Collection[str] = ()) -> None:
    """Log from here on as the setting says; a second call only adds the names of assets.

    InvalidSettingError when `log_format` is neither text nor json.
    """
    global _formatter  # noqa: PLW0603 - logging is the process's own
    _assets.update(assets)
    if load_log_options().log_format == "text":
        return
    from bandicoot_dagster.json_lines import json_formatter  # noqa: PLC0415 - structlog takes a tenth of a second

    is_first = _formatter is None
    _formatter = json_formatter(assets=_assets, secrets=_secrets(os.environ))
    for handler in _handlers():
        _write_json(handler)
    if is_first:
        logging.setLoggerClass(_JsonLogger)
        logging.config.dictConfigClass = _JsonConfigurator
        logging.captureWarnings(True)
        sys.excepthook = _log_uncaught
        threading.excepthook = _log_uncaught_in_thread
    logging.lastResort = json_handler(logging.WARNING)


def say(line: str) -> None:
    """Tell the person, or whatever reads the logs, how a command gets on: one line on standard error."""
    tell(line, logging.INFO)


def tell(line: str, level: int, *, error: BaseException | None = None) -> None:
    """The same at a level of its own; of an error JSON also has class and stack."""
    if not logs_are_json():
        click.echo(line, err=True)
        return
    if not _log.handlers:
        _log.addHandler(json_handler(logging.DEBUG))
        _log.setLevel(logging.DEBUG)
        _log.propagate = False
    _log.log(level, "%s", line, exc_info=error)


def json_handler(level: int) -> "logging.StreamHandler[Any]":
    """A handler that writes JSON to standard error, once `logs_are_json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(level)
    handler.setFormatter(_formatter)
    return handler


class _JsonLogger(logging.Logger):
    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 - the standard library's name
        _write_json(hdlr)
        super().addHandler(hdlr)


class _JsonConfigurator(logging.config.DictConfigurator):
    def configure_handler(self, config: dict[str, Any]) -> logging.Handler:
        handler: logging.Handler = super().configure_handler(config)
        _write_json(handler)
        return handler


def _write_json(handler: logging.Handler) -> None:
    """Only what goes to a person's terminal or a container's log: a file has the format its owner chose."""
    if isinstance(handler, logging.StreamHandler) and handler.stream in (sys.stdout, sys.stderr):
        handler.setFormatter(_formatter)


def _handlers() -> Iterable[logging.Handler]:
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    return [handler for logger in loggers if isinstance(logger, logging.Logger) for handler in logger.handlers]


def _secrets(environment: Mapping[str, str]) -> set[str]:
    """Passwords in the URLs of the settings, and whole URLs that are secrets, as they may stand in a message."""
    try:
        values = [value.get_secret_value() for _, value in load_settings() if isinstance(value, SecretStr)]
    except InvalidSettingError:
        values = []
    storage = environment.get("BANDICOOT_DAGSTER_STORAGE", "")
    found: set[str] = set()
    for url in (*values, storage):
        password = urlsplit(url).password or ""
        # A webhook's address is itself the right to post there.
        found.update((password, unquote(password), url if url.startswith("https://") else ""))
    return {secret for secret in found if len(secret) >= _SHORTEST_SECRET}


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        tell("interrupted", logging.WARNING)
        return
    tell(f"{kind.__name__}: {error}", logging.CRITICAL, error=error.with_traceback(trace))


def _log_uncaught_in_thread(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None:
        _log_uncaught(failed.exc_type, failed.exc_value, failed.exc_traceback)
