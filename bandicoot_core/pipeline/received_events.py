"""Events that are told as they happen: each durably in the lake once, in its own day, and then in the published states.

The order makes at least once in and exactly once in effect: first the lake, where an event that is there already
changes nothing; then the published states and the cache, which may be brought up to date any number of times; then the
letters of those that are no event. Only after that may the caller acknowledge. Whatever breaks in between, the same
messages come again and finish the job.

What an event looks like belongs to engagement.event_decoding, where messages come from to stores.events, and pulling
them in turn to event_sources.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import ibis
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import PROGRAMME_TIME_ZONE, days_between
from bandicoot_core.contracts import ENGAGED_EVENT_TYPES, RECEIVED_EVENTS, conform
from bandicoot_core.engagement.event_decoding import (
    EVENTS_SCHEMA,
    REFUSED,
    UNKNOWN_CAREGIVER,
    DeadLetter,
    Record,
    decode_events,
    looks_like_telephone,
)
from bandicoot_core.engagement.states import STATE_DAYS
from bandicoot_core.errors import BandicootError
from bandicoot_core.pipeline.told_events import RECEIVED, received_on
from bandicoot_core.stores.cache.cache import Cache, drop_states
from bandicoot_core.stores.cache.fill import no_fill_under_way
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.dead_letters import delete_letters, keep_letters, known_by_now
from bandicoot_core.stores.published.keys import keys_of
from bandicoot_core.stores.published.received_opens import distrust_cached_states, note_opens
from bandicoot_core.stores.published.suppression import suppressed_ids

_WAIT_FOR_FILL_SECONDS = 15.0
_LETTERS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Ingested:
    """What became of some messages: every one is counted in exactly one of the first five."""

    n_new: int = 0
    """Events the lake did not have."""
    n_repeated: int = 0
    """Events it had, or that came twice."""
    n_waiting: int = 0
    """Events of caregivers who are not known yet: letters that are taken in later."""
    n_dead: int = 0
    """Messages that are no event."""
    n_forgotten: int = 0
    """Events of caregivers who asked to be forgotten; nothing of them is kept."""
    n_states: int = 0
    """Rows of bandicoot.caregiver_states that have changed."""
    partitions: Mapping[str, Manifest] = field(default_factory=dict)
    """The partitions of `received_events` that have changed, by day."""

    @property
    def n_messages(self) -> int:
        """All of them."""
        return self.n_new + self.n_repeated + self.n_waiting + self.n_dead + self.n_forgotten

    def __add__(self, other: "Ingested") -> "Ingested":
        """Both together; of a partition that both have changed, the later manifest."""
        return Ingested(
            self.n_new + other.n_new,
            self.n_repeated + other.n_repeated,
            self.n_waiting + other.n_waiting,
            self.n_dead + other.n_dead,
            self.n_forgotten + other.n_forgotten,
            self.n_states + other.n_states,
            {**self.partitions, **other.partitions},
        )


def ingest_messages(
    stores: Installation, records: Iterable[Record], *, source: str, received_at: datetime, holder: str
) -> Ingested:
    """Take in messages of a source; when this returns, nothing of them can be lost, and they may be acknowledged.

    `source` names where they come from, `holder` who is at work, for others who wait; `received_at` is an aware
    instant. Raises UnreachableError, BusyError or PartitionHeldError when a store is not to be had, StorageFullError
    when there is no room: the same messages have to be brought again then.
    """
    return ingest_and_tell(stores, records, source=source, received_at=received_at, holder=holder)[0]


def ingest_and_tell(
    stores: Installation, records: Iterable[Record], *, source: str, received_at: datetime, holder: str
) -> tuple[Ingested, list[DeadLetter]]:
    """The same, with the letters of messages that could not be taken in, or not yet."""
    events, letters = decode_events(records, received_at=received_at)
    ingested, waiting = _take_in(stores, events, holder=holder)
    letters = [*letters, *waiting]
    with stores.published() as connection:
        keep_letters(connection, source, letters, received_at=received_at)
    n_waiting = sum(letter.kind == UNKNOWN_CAREGIVER for letter in letters)
    return ingested + Ingested(n_waiting=n_waiting, n_dead=len(letters) - n_waiting), letters


def ingest_waiting(stores: Installation, *, holder: str) -> Ingested:
    """Take in the events of caregivers who have become known since; raises what ingest_messages raises."""
    total, after = Ingested(), 0
    while True:
        with stores.published() as connection:
            letters = known_by_now(connection, after=after, limit=_LETTERS_AT_ONCE)
        if not letters.num_rows:
            return total
        events = letters.rename_columns({"letter_id": "position"}).cast(EVENTS_SCHEMA)
        ingested, waiting = _take_in(stores, events, holder=holder)
        # Whose key has gone again in between waits on; who was forgotten has no letters any more.
        kept = {int(letter.position) for letter in waiting}
        with stores.published() as connection:
            delete_letters(connection, sorted(set(letters["letter_id"].to_pylist()) - kept))
        total, after = total + ingested, letters["letter_id"][-1].as_py()


def opens_since(stores: Installation, day: date, *, until: date) -> pa.Table:
    """The opens received for the days after `day`, up to `until` [RECEIVED_EVENTS], in memory: the days are few.

    Who publishes states asks after taking Lock.STATES: what reaches the lake later than this is noted in the states
    after that lock is given back. No connection is opened, since a pooler may have none to spare while one publishes.
    Raises ConflictingWriteError when a partition was replaced twice meanwhile.
    """
    days = [each.isoformat() for each in days_between(day, until)][1:]
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        rows = reader.scan(RECEIVED_EVENTS, RECEIVED, received_on(stores.lake.partitions(RECEIVED), days))
        return rows.filter(rows.event_type.isin(ENGAGED_EVENT_TYPES)).to_pyarrow()


def _take_in(stores: Installation, events: pa.Table, *, holder: str) -> tuple[Ingested, list[DeadLetter]]:
    """Bring events [EVENTS_SCHEMA] into the lake, the published states and the cache; those left over are letters."""
    if not events.num_rows:
        return Ingested(), []
    local = events["occurred_at"].cast(pa.timestamp("us", tz=PROGRAMME_TIME_ZONE.key))
    events = events.append_column("day", pc.local_timestamp(local).cast(pa.date32()))
    days = sorted(set(events["day"].to_pylist()))
    # Keys are looked up inside: who is being forgotten has her rows removed after, or no key any more.
    with stores.sole_writer(RECEIVED, [day.isoformat() for day in days], holder=holder):
        with stores.published() as connection:
            known, n_forgotten, letters = _with_keys(connection, events)
        n_new, partitions = _write_days(stores, known)
    n_states = _bring_up_to_date(stores, known)
    ingested = Ingested(
        n_new=n_new,
        n_repeated=known.num_rows - n_new,
        n_forgotten=n_forgotten,
        n_states=n_states,
        partitions=partitions,
    )
    return ingested, letters


def _with_keys(connection: psycopg.Connection, events: pa.Table) -> tuple[pa.Table, int, list[DeadLetter]]:
    """The events of known caregivers with their keys, how many are of forgotten ones, and letters of the others."""
    keys = keys_of(connection, events["caregiver_id"])
    place = pc.index_in(events["caregiver_id"], value_set=keys["caregiver_id"].combine_chunks())
    known = events.append_column("caregiver_key", keys["caregiver_key"].take(place)).filter(pc.is_valid(place))
    unknown = events.filter(pc.is_null(place))
    forgotten = pc.is_in(unknown["caregiver_id"], value_set=suppressed_ids(connection, unknown["caregiver_id"]))
    letters = [_letter(row) for row in unknown.filter(pc.invert(forgotten)).to_pylist()]
    return known, unknown.num_rows - len(letters), letters


def _letter(event: Mapping[str, Any]) -> DeadLetter:
    position, caregiver_id = event["position"], event["caregiver_id"]
    if looks_like_telephone(caregiver_id):
        reason = "no caregiver has this id, and it looks like a telephone number, which is not kept"
        return DeadLetter(position, REFUSED, reason, "caregiver_id")
    return DeadLetter(
        position,
        UNKNOWN_CAREGIVER,
        "no caregiver has this id yet; taken in when the registry has her",
        "caregiver_id",
        event_type=event["event_type"],
        caregiver_id=caregiver_id,
        occurred_at=event["occurred_at"],
        message_id=event["message_id"],
    )


def _write_days(stores: Installation, known: pa.Table) -> tuple[int, dict[str, Manifest]]:
    """Add events to the partitions of their days; how many were new, and the partitions that have changed."""
    n_new, partitions = 0, {}
    for day in sorted(set(known["day"].to_pylist())):
        rows = conform(known.filter(pc.equal(known["day"], pa.scalar(day))), RECEIVED_EVENTS)
        with stores.engine() as engine:
            n_added, manifest = _write_day(stores, engine, day, rows)
        n_new += n_added
        if manifest is not None:
            partitions[day.isoformat()] = manifest
    return n_new, partitions


def _write_day(stores: Installation, engine: Backend, day: date, rows: pa.Table) -> tuple[int, Manifest | None]:
    """Add rows to a day's partition: how many it did not have, and its new manifest, None when it had all."""
    key = day.isoformat()
    before = stores.lake.manifest(RECEIVED, key)
    arrived = engine.create_table("arrived_events", ibis.memtable(rows).distinct(), temp=True)
    with stores.lake.reader(engine) as reader:
        if before is None:
            together, n_before = arrived, 0
        else:
            stored = reader.scan(RECEIVED_EVENTS, RECEIVED, [key])
            # A file knows that it holds no nulls, a table of the engine does not; a union wants both alike.
            new = arrived.cast(dict(stored.schema().items()))
            together = engine.create_table("events_of_day", stored.union(new, distinct=True), temp=True)
            n_before = before.n_rows()
        n_added = int(together.count().to_pyarrow().as_py()) - n_before
        if not n_added:
            return 0, None
        counts = together.group_by("event_type").aggregate(n=together.count()).to_pyarrow().to_pylist()
        facts = {f"n_{row['event_type']}": row["n"] for row in sorted(counts, key=lambda row: str(row["event_type"]))}
        data = {"data": (RECEIVED_EVENTS, together)}
        return n_added, stores.lake.write(RECEIVED, key, data, engine=engine, facts=facts)


def _bring_up_to_date(stores: Installation, known: pa.Table) -> int:
    """Who has opened a message is responsive in bandicoot.caregiver_states from now on; how many rows have changed."""
    opens = known.filter(pc.is_in(known["event_type"], value_set=pa.array(ENGAGED_EVENT_TYPES)))
    if not opens.num_rows:
        return 0
    with stores.published() as connection:
        rows = opens.select(["caregiver_key", "day"]).rename_columns(["caregiver_key", "open_date"])
        n_changed = note_opens(connection, rows, state_days=STATE_DAYS, lookback_days=stores.settings.lookback_days)
        if stores.cache is not None:
            # Also when nothing changed: an earlier try may have ended before it came to this.
            _drop_cached(stores, stores.cache, connection, pc.unique(opens["caregiver_id"]).to_pylist())
    return n_changed


def _drop_cached(
    stores: Installation, cache: Cache, connection: psycopg.Connection, caregiver_ids: Sequence[str]
) -> None:
    try:
        with (
            connect(stores.database_url, limits=stores.limits) as guard,
            no_fill_under_way(guard, wait_seconds=_WAIT_FOR_FILL_SECONDS),
        ):
            drop_states(cache, caregiver_ids)
    except BandicootError:
        # What could not be removed must not be believed: readers ask PostgreSQL until the cache is filled again.
        distrust_cached_states(connection)
