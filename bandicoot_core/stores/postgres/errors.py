"""What PostgreSQL's errors mean here: which class of this project's errors, and what a person does next.

Opening connections and transactions belongs to connections. No message made here shows a password, and none quotes
the rows that the server quotes: messages are kept with runs and in logs, which know no caregiver.
"""

import re

import psycopg
from psycopg import errors

from bandicoot_core.errors import BandicootError, BusyError, InvalidInputError, MissingRightError, UnreachableError

CONFLICTS = (errors.DeadlockDetected, errors.SerializationFailure)
"""The server undid the whole transaction in favour of another one: repeated, it most likely succeeds."""

_NO_ROOM = (errors.DiskFull, errors.OutOfMemory, errors.InsufficientResources, errors.ConfigurationLimitExceeded)


def explain(error: psycopg.Error, doing: str, *, is_lost: bool) -> BandicootError | None:
    """The error to raise in place of the server's, which loses what it quotes of rows; None for one nobody foresaw.

    `doing` says what was under way, `is_lost` whether the connection was closed by it. Whatever comes back, nothing of
    the transaction that met the error was committed, unless the connection was lost while it was being committed.
    """
    conceal_rows(error)
    if isinstance(error, errors.IntegrityError):
        return InvalidInputError(_describe_violation(error, doing))
    if is_lost:
        return UnreachableError(
            f"{doing}: the connection to the server was lost ({_one_line(error)}); what was committed before stays in "
            "place; run again when the server answers"
        )
    if isinstance(error, CONFLICTS):
        return BusyError(
            f"{doing}: another session changed the same at the same time ({_one_line(error)}); nothing was written; "
            "run again"
        )
    if isinstance(error, errors.LockNotAvailable):
        return BusyError(
            f"{doing}: another session holds what is needed, and did not let go in time ({_one_line(error)}); nothing "
            "was written; run again, or see who it is (pg_blocking_pids and pg_stat_activity in the operations guide); "
            "BANDICOOT_LOCK_TIMEOUT_SECONDS is how long to wait"
        )
    if isinstance(error, errors.QueryCanceled):
        return BusyError(
            f"{doing}: a statement took too long or was cancelled by an administrator ({_one_line(error)}); nothing "
            "was written; run again when the server is less busy, or raise BANDICOOT_STATEMENT_TIMEOUT_SECONDS (of "
            "whole tables: BANDICOOT_BULK_TIMEOUT_SECONDS)"
        )
    if isinstance(error, _NO_ROOM):
        return BusyError(
            f"{doing}: the server has run out of room ({_one_line(error)}); nothing was written; make room on the "
            "server, then run again"
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return UnreachableError(
            f"{doing}: the server takes no writes ({_one_line(error)}): it is a replica, or not yet promoted; nothing "
            "was written; run again when the URL leads to the primary"
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return MissingRightError(
            f"{doing}: the database user may not do that ({_one_line(error)}); nothing was written; connect as a "
            "member of bandicoot_writer, or have the schema's owner run `bandicoot database roles`"
        )
    return None


def conceal_rows(error: psycopg.Error) -> None:
    """Leave of a server's error what it says, without the rows it quotes (DETAIL and CONTEXT)."""
    if error.diag.message_primary is not None:
        error.args = (error.diag.message_primary,)


def _describe_violation(error: errors.IntegrityError, doing: str) -> str:
    found = error.diag
    where = f"{found.schema_name}.{found.table_name}" if found.table_name else "the database"
    place = re.match(r"COPY \w+, line \d+", found.context or "")
    at = f" ({place.group()})" if place else ""
    return (
        f"{doing}: {where} refuses the rows, {found.message_primary}{at}; nothing was written; mend the rows and run "
        "again"
    )


def _one_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
