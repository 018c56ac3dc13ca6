"""A block over a connection to PostgreSQL whose errors come out with a remedy, whatever statement met them.

What each error means stands in database_errors.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from bandicoot_core.stores.postgres.errors import explain

_GOING_DOWN = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow)


@contextmanager
def foreseen_errors(connection: psycopg.Connection, doing: str) -> Iterator[None]:
    """Errors of the server inside the block are raised as database_errors names them; all others as they are.

    Raises UnreachableError when the connection is lost, BusyError when others or a lack of room stood in the way,
    InvalidInputError when rows are refused or the user lacks a right. `doing` says what was under way.
    """
    try:
        yield
    except psycopg.Error as error:
        # A server that goes down says so before the connection is seen to be closed.
        is_lost = connection.closed or isinstance(error, _GOING_DOWN)
        foreseen = explain(error, doing, is_lost=is_lost)
        if foreseen is None:
            raise
        raise foreseen from error
