"""What PostgreSQL says when it cannot go on, as errors with a remedy: lost, busy, full, or not permitted.

Only faults of the surroundings belong here. Rows that break a constraint are explained where they are written, and a
statement that is wrong is a fault of the program, which stays what it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as server

from bandicoot_core.errors import (
    BandicootError,
    BusyError,
    PermissionDeniedError,
    StorageFullError,
    UnreachableError,
)

_BUSY = (server.DeadlockDetected, server.LockNotAvailable, server.SerializationFailure, server.QueryCanceled)
_FULL = (server.DiskFull, server.OutOfMemory, server.ConfigurationLimitExceeded)


@contextmanager
def foreseen_errors(connection: psycopg.Connection, where: str) -> Iterator[None]:
    """Errors of the surroundings inside the block are raised as BandicootErrors; all others stay what they are.

    Raises UnreachableError when the connection is lost, BusyError when others hold what is needed (deadlock, lock or
    statement timeout), StorageFullError when a disk or a limit of the server is used up, PermissionDeniedError when
    the role lacks a right. `where` names the database for the message.
    """
    try:
        yield
    except psycopg.Error as error:
        foreseen = explained(error, where=where, is_lost=connection.closed)
        if foreseen is None:
            raise
        raise foreseen from error


def explained(error: psycopg.Error, *, where: str, is_lost: bool) -> BandicootError | None:
    """The BandicootError for an error of the server; None when it is none of the surroundings'."""
    said = " ".join(str(error).split())
    if isinstance(error, _FULL) or _says_full(said):
        return StorageFullError(
            f"{where}: the server has no room left ({said}); nothing of the transaction was kept, and what was "
            "committed before stays in place; make room on the server's disk or raise its limit, then run again"
        )
    if isinstance(error, server.InsufficientPrivilege):
        return PermissionDeniedError(
            f"{where}: {said}; nothing of the transaction was kept; grant the right to the role in the URL, or use the "
            "role that has it, then run again"
        )
    if isinstance(error, _BUSY):
        return BusyError(
            f"{where}: others held what was needed ({said}); nothing of the transaction was kept; run again when they "
            "have ended"
        )
    if is_lost or isinstance(error, server.ReadOnlySqlTransaction | server.AdminShutdown | server.CrashShutdown):
        return UnreachableError(
            f"{where}: the connection was lost or the server is not ready to write ({said}); what was committed before "
            "stays in place; run again when the server answers"
        )
    return None


def _says_full(said: str) -> bool:
    return "No space left on device" in said
