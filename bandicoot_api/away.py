"""Work on PostgreSQL beside the event loop, bounded in time; while PostgreSQL is known to be away it is not begun."""

from collections.abc import Callable
from typing import TypeVar

import psycopg

from bandicoot_api.lanes import Lane
from bandicoot_api.problems import Problem
from bandicoot_api.service import Service
from bandicoot_api.watch import DatabaseAwayError
from bandicoot_core.errors import BusyError, TransientError
from bandicoot_core.stores.published.live_ranking import LiveVersion

Result = TypeVar("Result")


async def current_version(service: Service) -> LiveVersion:
    """What is current in PostgreSQL; Problem 503 while it is away, or before the first list."""
    try:
        version = await service.watch.version()
    except DatabaseAwayError as error:
        raise away() from error
    if version is None:
        raise Problem(503, "no call list is published yet; come again after the first night", code="not_ready")
    return version


async def on_database(service: Service, work: Callable[[psycopg.Connection], Result]) -> Result:
    """The result of work on a connection; Problem 503 when PostgreSQL is away, or too many wait for it."""

    def on_connection() -> Result:
        with service.stores.published() as connection:
            return work(connection)

    return await in_lane(service, service.database_lane, on_connection)


async def in_lane(service: Service, lane: Lane, work: Callable[[], Result]) -> Result:
    """The result of work that needs PostgreSQL, in a thread of a lane; Problem 503 as above."""
    if service.watch.is_away:
        await current_version(service)
    try:
        return await lane.run(work)
    except BusyError:
        raise
    except TransientError as error:
        service.watch.note_away(error)
        raise away() from error


def away() -> Problem:
    """PostgreSQL is away, and nothing else knows the answer."""
    return Problem(503, "PostgreSQL does not answer, and nothing else knows this; come again", retry_after=5)
