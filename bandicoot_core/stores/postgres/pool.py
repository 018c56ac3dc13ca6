"""Connections to the published schema that are kept open between uses: to connect takes longer than most look-ups do.

What a connection is, and what its transactions set, belongs to connections. Any number of threads may share a pool.
"""

import logging
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg_pool

from bandicoot_core.errors import BusyError
from bandicoot_core.stores.postgres.connections import Limits, Session, connect, session_parameters

_WAIT_SECONDS = 30.0
_IMPATIENT_SECONDS = 0.5
_IDLE_SECONDS = 60.0

# Its worker reports what it could not open; here that is asked once more, and raised.
logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


class Pool:
    """At most `max_size` connections of one process to one server; unused ones are closed after a minute."""

    def __init__(self, url: str, *, limits: Limits | None = None, max_size: int) -> None:
        self._url = url
        self._limits = limits
        self._max_size = max_size
        self._open()

    @contextmanager
    def connection(self) -> Iterator[Session]:
        """A connection for the block, without an open transaction.

        Raises UnreachableError when the server does not answer, and BusyError when all connections are in use and
        none comes back within half a minute.
        """
        if os.getpid() != self._process:
            # A forked process has none of the threads, and must not touch the connections, which are its parent's.
            self._open()
        pool = self._pool
        connection = self._borrow()
        try:
            with connection:
                yield connection
        finally:
            pool.putconn(connection)

    def close(self) -> None:
        """End the connections; those in use when they are given back. The pool cannot be used any more."""
        self._finalizer()

    def _open(self) -> None:
        limits = self._limits

        def configure(connection: Session) -> None:
            connection.limits = limits

        self._process = os.getpid()
        self._pool = psycopg_pool.ConnectionPool(
            self._url,
            connection_class=Session,
            kwargs=session_parameters(self._url),
            min_size=0,
            max_size=self._max_size,
            num_workers=1,
            max_idle=_IDLE_SECONDS,
            # Whoever wants a connection tries anew; the pool's own tries come at twice the distance each time, and a
            # server that was away for a minute would be missed for another.
            reconnect_timeout=_IMPATIENT_SECONDS,
            configure=configure,
            # A connection that the server has closed meanwhile is replaced before anybody gets it.
            check=psycopg_pool.ConnectionPool.check_connection,
            open=True,
        )
        self._finalizer = weakref.finalize(self, _close, self._pool, self._process)

    def _borrow(self) -> Session:
        try:
            return self._pool.getconn(timeout=_IMPATIENT_SECONDS)
        except psycopg_pool.PoolTimeout:
            # The pool goes on trying and does not say why it fails; a connection of our own does.
            connect(self._url).close()
        try:
            return self._pool.getconn(timeout=_WAIT_SECONDS)
        except psycopg_pool.PoolTimeout as error:
            raise BusyError(
                f"all {self._max_size} connections to the published schema are in use, and none came back in "
                f"{_WAIT_SECONDS:.0f} s; run again, or raise BANDICOOT_POOL_SIZE"
            ) from error


def _close(pool: psycopg_pool.ConnectionPool[Session], process: int) -> None:
    if os.getpid() == process:
        pool.close()
