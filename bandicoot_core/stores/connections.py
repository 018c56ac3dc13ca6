"""Connections to PostgreSQL: opening one, whole transactions, and the advisory locks of schema `bandicoot`.

URLs are libpq URIs (`postgresql://user:password@host/database?host=/socket/folder`). What is written or read over a
connection belongs to the modules of the tables. No message made here shows a password.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from bandicoot_core.errors import InvalidInputError, InvalidSettingError, UnreachableError


class Lock(IntEnum):
    """What an advisory lock guards; the numbers are arbitrary, and the same in every release."""

    MIGRATION = 1_650_552_421
    CALL_LIST = 1_650_552_422
    STATES = 1_650_552_423
    KEYS = 1_650_552_424
    MODELS = 1_650_552_425
    CACHE = 1_650_552_426
    ASSET_WRITERS = 1_650_552_431
    PARTITION_WRITER = 1_650_552_432


def connect(url: str, *, timeout_seconds: float = 10) -> psycopg.Connection:
    """A connection in autocommit mode, in UTF-8, with ISO dates and UTC times; the caller closes it.

    Raises InvalidSettingError when `url` is not a libpq URI, and UnreachableError when no connection is made within
    `timeout_seconds`: it names the database and the server, never the password.
    """
    parameters = url_parameters(url)
    try:
        connection = psycopg.connect(
            url, autocommit=True, client_encoding="utf8", connect_timeout=max(1, round(timeout_seconds))
        )
        connection.execute("SET TimeZone TO 'UTC'; SET DateStyle TO 'ISO'")
    except psycopg.OperationalError as error:
        raise UnreachableError(
            f"no connection to {_describe(parameters)}: {' '.join(str(error).split())}; start the server, or correct "
            "host, database, user and password in the URL, then run again"
        ) from None
    return connection


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
def whole_transaction(connection: psycopg.Connection, doing: str) -> Iterator[None]:
    """A transaction that is committed when the block ends and undone as a whole when it fails.

    Raises ValueError when the connection is inside a transaction already, since nothing would be committed then;
    InvalidInputError when rows break a constraint; UnreachableError when the connection is lost. `doing` says, for
    those messages, what was under way.
    """
    status = connection.info.transaction_status
    if status == TransactionStatus.UNKNOWN:
        raise UnreachableError(f"the connection is closed; {doing} needs an open one: connect again")
    if status != TransactionStatus.IDLE:
        raise ValueError(
            f"{doing} commits by itself, but the connection is inside a transaction ({status.name}); "
            "commit or roll back first, or open the connection with connect()"
        )
    try:
        with connection.transaction():
            yield
    except psycopg.IntegrityError as error:
        raise InvalidInputError(_describe_violation(error, doing)) from error
    except psycopg.OperationalError as error:
        if not connection.closed:
            raise
        raise UnreachableError(
            f"{doing}: the connection to the server was lost ({' '.join(str(error).split())}); what was committed "
            "before stays in place; run again when the server answers"
        ) from error


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


def _describe_violation(error: psycopg.IntegrityError, doing: str) -> str:
    found = error.diag
    where = f"{found.schema_name}.{found.table_name}" if found.table_name else "the database"
    detail = " ".join(part for part in (found.message_detail, found.context) if part) or str(error)
    return (
        f"{doing}: {where} refuses the rows, {found.message_primary} ({' '.join(detail.split())}); nothing was "
        "written; mend the rows and run again"
    )
