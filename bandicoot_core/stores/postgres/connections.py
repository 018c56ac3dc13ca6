"""Connections to PostgreSQL: opening one, transactions within limits of time, and the advisory locks of `bandicoot`.

URLs are libpq URIs (`postgresql://user:password@host/database?host=/socket/folder`). What is written or read over a
connection belongs to the modules of the tables. No message made here shows a password.

A connection may lead through a pooler that gives each transaction another session. So nothing is left in a session:
limits, time zone and date style are set within each transaction, locks end with it, and no statement is prepared.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from bandicoot_core.errors import BusyError, InvalidSettingError, UnreachableError
from bandicoot_core.stores.postgres.errors import CONFLICTS
from bandicoot_core.stores.server_errors import foreseen_errors

Result = TypeVar("Result")

ATTEMPTS = 3
"""How often work is tried that loses to another session."""

_PAUSE_SECONDS = 0.2

_SESSION: dict[str, Any] = {
    "autocommit": True,
    "client_encoding": "utf8",
    # A prepared statement lives in a session, which a pooler gives to somebody else.
    "prepare_threshold": None,
    # A server that vanished without a word is noticed within a minute; the system's default is two hours.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


class Lock(IntEnum):
    """What an advisory lock guards; the numbers are arbitrary, and the same in every release."""

    MIGRATION = 1_650_552_421
    CALL_LIST = 1_650_552_422
    STATES = 1_650_552_423
    KEYS = 1_650_552_424
    MODELS = 1_650_552_425
    CACHE = 1_650_552_426
    API_KEYS = 1_650_552_427
    ASSET_WRITERS = 1_650_552_431
    PARTITION_WRITER = 1_650_552_432


@dataclass(frozen=True)
class Limits:
    """How long things may take, in seconds: a statement, one over whole tables, the wait for a lock."""

    statement_seconds: int
    bulk_seconds: int
    lock_seconds: int


class Session(psycopg.Connection[TupleRow]):
    """A connection and the limits within which its transactions are made; None leaves those of server and user."""

    limits: Limits | None = None


def connect(url: str, *, timeout_seconds: float = 10, limits: Limits | None = None) -> Session:
    """A connection in autocommit mode and UTF-8; the caller closes it.

    Raises InvalidSettingError when `url` is not a libpq URI, and UnreachableError when no connection is made within
    `timeout_seconds`: it names the database and the server, never the password.
    """
    parameters = url_parameters(url)
    try:
        connection = Session.connect(url, **session_parameters(url, timeout_seconds))
    except psycopg.OperationalError as error:
        found = " ".join(str(error).split())
        remedy = (
            "check sslmode and sslrootcert in the URL, and that the host is named as in the server's certificate"
            if any(word in found for word in ("certificate", "does not support SSL", "no encryption"))
            else "start the server, or correct host, database, user and password in the URL"
        )
        raise UnreachableError(f"no connection to {_describe(parameters)}: {found}; {remedy}, then run again") from None
    connection.limits = limits
    return connection


def session_parameters(url: str, timeout_seconds: float = 10) -> dict[str, Any]:
    """What every connection is opened with, beside its URL; what the URL says itself goes first."""
    given = url_parameters(url)
    defaults = _SESSION | {"connect_timeout": max(1, round(timeout_seconds))}
    return {name: value for name, value in defaults.items() if name not in given}


def url_parameters(url: str) -> dict[str, object]:
    """What a libpq URI says, by parameter name; InvalidSettingError, without showing it, when it cannot be read."""
    parameters: dict[str, object] | None
    try:
        parameters = dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:
        parameters = None  # the parser's own message quotes the URL, and with it the password
    if parameters is None or _has_stray_password(parameters):
        raise InvalidSettingError(
            "the database URL cannot be read; write it as postgresql://user:password@host:port/database, with special "
            "characters in the password percent-encoded (the URL is not shown because it may hold a password)"
        )
    return parameters


@contextmanager
def whole_transaction(connection: psycopg.Connection, doing: str, *, is_bulk: bool = False) -> Iterator[None]:
    """A transaction that is committed when the block ends and undone as a whole when it fails.

    `doing` says, for messages, what is under way; `is_bulk` that whole tables are written, which may take longer.
    Raises ValueError when the connection is inside a transaction already, since nothing would be committed then;
    InvalidInputError when rows break a constraint or the user lacks a right; BusyError when another session, a limit
    of time or a lack of room stood in the way; UnreachableError when the connection is lost.
    """
    status = connection.info.transaction_status
    if status == TransactionStatus.UNKNOWN:
        raise UnreachableError(f"the connection is closed; {doing} needs an open one: connect again")
    if status != TransactionStatus.IDLE:
        raise ValueError(
            f"{doing} commits by itself, but the connection is inside a transaction ({status.name}); "
            "commit or roll back first, or open the connection with connect()"
        )
    with foreseen_errors(connection, doing), connection.transaction():
        connection.execute(_beginning(connection, is_bulk=is_bulk))
        yield


@contextmanager
def reading(
    connection: psycopg.Connection, doing: str, *, is_bulk: bool = False, is_snapshot: bool = False
) -> Iterator[None]:
    """A transaction for reads, or the one that is open already. Errors are those of whole_transaction.

    With `is_snapshot`, all reads of the block see the same moment (REPEATABLE READ READ ONLY); it needs a transaction
    of its own.
    """
    if connection.info.transaction_status == TransactionStatus.INTRANS and not is_snapshot:
        yield
        return
    with whole_transaction(connection, doing, is_bulk=is_bulk):
        if is_snapshot:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield


def repeated(
    connection: psycopg.Connection,
    doing: str,
    work: Callable[[], Result],
    *,
    is_bulk: bool = False,
    n_attempts: int = ATTEMPTS,
) -> Result:
    """The result of `work` within a whole transaction, which is tried anew when another session won a conflict.

    After a deadlock or a serialization failure the server has undone everything, so that nothing is done twice.
    `work` must bring its input anew each time. BusyError after `n_attempts`; other errors at once.
    """
    for attempt in range(1, n_attempts + 1):
        try:
            with whole_transaction(connection, doing, is_bulk=is_bulk):
                return work()
        except BusyError as error:
            if attempt == n_attempts or not isinstance(error.__cause__, CONFLICTS):
                raise
            # Two that have met go apart, not in step.
            time.sleep(_PAUSE_SECONDS * attempt * random.uniform(0.5, 1))  # noqa: S311
    raise AssertionError("unreachable: the last attempt returns or raises")


def limit(connection: psycopg.Connection, **seconds: float) -> None:
    """Set limits of time (statement_timeout, lock_timeout) for the rest of the transaction."""
    for name, value in seconds.items():
        connection.execute(_set_local(name, f"{round(value * 1000)}ms"))


def lock(connection: psycopg.Connection, guarded: Lock, part: int = 0) -> None:
    """Wait for an advisory lock and hold it to the end of the transaction; `part` divides what is guarded."""
    connection.execute("SELECT pg_advisory_xact_lock(%s::int, %s::int)", (int(guarded), part))


def _has_stray_password(parameters: dict[str, object]) -> bool:
    """Whether an unencoded @ or / in a password has pushed a part of it into the host, the port or the database."""
    places = f"{parameters.get('host', '')}{parameters.get('dbname', '')}"
    port = str(parameters.get("port", "")).replace(",", "")
    return "@" in places or bool(port and not port.isdigit())


def _describe(parameters: dict[str, object]) -> str:
    host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
    port = f" port {parameters['port']}" if parameters.get("port") else ""
    return f"PostgreSQL database {str(parameters.get('dbname') or 'of the user')!r} on {host}{port}"


def _beginning(connection: psycopg.Connection, *, is_bulk: bool) -> sql.Composed:
    """What a transaction begins with: its settings, all of which end with it. None of them takes a snapshot."""
    settings = {"TimeZone": "UTC", "DateStyle": "ISO"}
    limits = getattr(connection, "limits", None)
    if limits is not None:
        statement_seconds = limits.bulk_seconds if is_bulk else limits.statement_seconds
        settings["statement_timeout"] = f"{statement_seconds}s"
        settings["lock_timeout"] = f"{limits.lock_seconds}s"
        # A client that was stopped in the middle of a transaction keeps its locks no longer than a statement could.
        settings["idle_in_transaction_session_timeout"] = f"{limits.bulk_seconds}s"
    return sql.SQL("; ").join(_set_local(name, value) for name, value in settings.items())


def _set_local(name: str, value: str) -> sql.Composed:
    return sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(value))
