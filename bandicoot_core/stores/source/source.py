"""The programme's PostgreSQL, read-only: one snapshot of it, and day-wise streams of its rows.

Rows come as Arrow batches through ADBC, which streams PostgreSQL's binary COPY in bounded memory. Which columns and
conditions belongs to source_tables; nothing is judged or written here.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_postgresql import dbapi
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bandicoot_core.errors import UnreachableError
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.server_errors import foreseen_errors
from bandicoot_core.stores.source.lag import require_complete
from bandicoot_core.stores.source.schema import check_source_schema
from bandicoot_core.stores.source.tables import SOURCE_TABLES, read_query

_CONNECT_SECONDS = 10
_SERIALIZATION_FAILURE = "40001"
_CONFLICT = "conflict with recovery"


class Source:
    """The programme's database: where it is. Connections are opened by the methods and closed by them."""

    def __init__(self, url: str, schema: str) -> None:
        self._url = url
        self.schema = schema

    def check_schema(self, tables: Iterable[str] = tuple(SOURCE_TABLES)) -> None:
        """SchemaDriftError unless the tables have the columns and types they are read with, column by column.

        UnreachableError when the server does not answer; it names host and database, never the password.
        """
        with (
            connect(self._url, timeout_seconds=_CONNECT_SECONDS) as connection,
            foreseen_errors(connection, f"looking at the tables of {self._where()}"),
        ):
            check_source_schema(connection, self.schema, tables)

    @contextmanager
    def snapshot(self, *, complete_until: datetime | None = None) -> Iterator["SourceSnapshot"]:
        """The source as it is at the first read: a REPEATABLE READ READ ONLY transaction, ended on exit.

        UnreachableError when the server does not answer, goes away before the block ends, or, as a replica, gives up
        the read; LaggingSourceError when it is a replica that may lack what happened before `complete_until` (UTC).
        """
        # Its errors are made for people; ADBC's own are not told apart. Asked before the snapshot is taken, a replica
        # can only have come further by then.
        with (
            connect(self._url, timeout_seconds=_CONNECT_SECONDS) as connection,
            foreseen_errors(connection, f"asking {self._where()} how far it is"),
        ):
            if complete_until is not None:
                require_complete(connection, self.schema, complete_until, where=self._where())
        target = make_conninfo(
            self._url, connect_timeout=_CONNECT_SECONDS, client_encoding="utf8", application_name="bandicoot"
        )
        try:
            connection = dbapi.connect(target)
        except adbc_driver_manager.Error as error:
            raise UnreachableError(f"no connection to {self._where()}; start the server and run again") from error
        with connection:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                yield SourceSnapshot(connection, self.schema)
            except Exception as error:
                if _was_given_up(error):
                    raise UnreachableError(
                        f"{self._where()}, a replica, gave up the read because it had to follow its primary; "
                        "partitions written before stay in place; run again, or raise max_standby_streaming_delay or "
                        "turn hot_standby_feedback on in the replica"
                    ) from error
                if _answers(connection):
                    raise
                raise UnreachableError(
                    f"the connection to {self._where()} was lost while it was read; partitions written before stay in "
                    "place; run again when the server answers"
                ) from error

    def _where(self) -> str:
        parameters = conninfo_to_dict(self._url)
        host = parameters.get("host") or parameters.get("hostaddr") or "the local socket"
        return f"the source, PostgreSQL database {str(parameters.get('dbname') or 'of the user')!r} on {host}"


class SourceSnapshot:
    """An open snapshot of the source; made by Source.snapshot."""

    def __init__(self, connection: Any, schema: str) -> None:
        self._connection = connection
        self._schema = schema

    @contextmanager
    def rows(self, table: str, first_day: date, last_day: date) -> Iterator[pa.RecordBatchReader]:
        """The rows of a table of SOURCE_TABLES that belong to the Asia/Kolkata days first_day to last_day.

        The columns are the table's, in its order: text as string, whole numbers as int64, instants as
        timestamp[us, UTC], dates as date32; an infinite date or instant is null. The order of rows is not fixed. The
        reader can be read once, inside the block.
        """
        query = read_query(SOURCE_TABLES[table], self._schema, first_day, last_day)
        with self._connection.cursor() as cursor:
            cursor.execute(query.as_string(None))
            with cursor.fetch_record_batch() as reader:
                yield reader


def _was_given_up(error: Exception) -> bool:
    """Whether a replica has cancelled the read: a read-only transaction has no other failure to serialize."""
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "sqlstate", None) == _SERIALIZATION_FAILURE:
            return True
        cause = cause.__cause__ or cause.__context__
    return _CONFLICT in str(error)  # the engine hands on the text alone


def _answers(connection: Any) -> bool:
    """Whether the server still answers on this connection; what was under way on it is given up."""
    try:
        connection.rollback()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
    except adbc_driver_manager.Error:
        return False
    return True
