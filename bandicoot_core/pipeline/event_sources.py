"""Bringing in what waits in a subscription or lies in a folder, batch by batch, each acknowledged after it is kept.

What becomes of a batch belongs to received_events; how a broker or a folder is asked, to stores.events.
"""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from bandicoot_core.pipeline.received_events import Ingested, ingest_messages
from bandicoot_core.stores.events.files import EventFile, list_event_files, read_event_file
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.dead_letters import delete_letters_of
from bandicoot_core.stores.published.ingested_files import ingested_versions, note_ingested

if TYPE_CHECKING:
    from bandicoot_core.stores.events.subscription import Subscription

MESSAGES_AT_ONCE = 5_000
RECORDS_AT_ONCE = 50_000

SETTLED_AFTER = timedelta(seconds=5)
"""A local file that was changed later than this is still being written, as far as one can tell."""


def consume_subscription(
    stores: Installation,
    subscription: "Subscription",
    *,
    clock: Callable[[], datetime],
    seconds: float,
    holder: str,
    messages_at_once: int = MESSAGES_AT_ONCE,
) -> Ingested:
    """Take in what waits, until nothing does or so many seconds are over; a batch that was begun is finished.

    A batch is acknowledged when all of it is kept, and handed back when that failed: then the error is raised, and the
    broker delivers it again. `clock` gives the moment in UTC. Raises what ingest_messages and Subscription raise.
    """
    total, until = Ingested(), time.monotonic() + seconds
    while time.monotonic() < until:
        batch = subscription.pull(messages_at_once)
        if not batch.records:
            break
        try:
            total += ingest_messages(
                stores, batch.records, source=subscription.name, received_at=clock(), holder=holder
            )
        except BaseException:
            subscription.release(batch)
            raise
        subscription.acknowledge(batch)
    return total


def new_files(stores: Installation, folder: str, *, now: datetime) -> list[EventFile]:
    """The files of a folder that were not taken in yet in the version they have, in the order of their places."""
    found = list_event_files(
        folder, settled_before=now - SETTLED_AFTER, timeout_seconds=stores.settings.lake_timeout_seconds
    )
    if not found:
        return []
    with stores.published() as connection:
        known = ingested_versions(connection)
    return [file for file in found if known.get(file.uri) != file.version]


def ingest_file(stores: Installation, file: EventFile, *, clock: Callable[[], datetime], holder: str) -> Ingested:
    """Take in one file and note that it was. One that has changed since is read anew: only what is new in it counts.

    Broken off at any point, it is read from its beginning the next time. Raises what ingest_messages raises.
    """
    with stores.published() as connection:
        delete_letters_of(connection, file.uri)
    total = Ingested()
    timeout_seconds = stores.settings.lake_timeout_seconds
    for records in read_event_file(file, records_at_once=RECORDS_AT_ONCE, timeout_seconds=timeout_seconds):
        total += ingest_messages(stores, records, source=file.uri, received_at=clock(), holder=holder)
    with stores.published() as connection:
        note_ingested(
            connection,
            file.uri,
            file.version,
            n_records=total.n_messages,
            n_new=total.n_new,
            n_dead=total.n_dead,
            ingested_at=clock(),
        )
    return total
