"""Bringing the programme's rows into the lake: read, give keys, set bad rows aside, write each day's partition.

One function for each source asset. How rows are read belongs to stores.source, who gets a key and a draw to
first_sight, what is wrong with a row to the intakes in engagement, when a partition is refused to intake_partitions.

Rows are read seven days at a time, kept once in the engine as temporary tables, and written day by day from there: the
source is read once, and memory does not grow with the number of days. A day has the same bytes whether it is written
alone or among others. Rows of forgotten caregivers are passed over: they are not even counted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import date, datetime, timedelta
from typing import TypeAlias

import ibis
import psycopg
import pyarrow as pa
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import end_of_day
from bandicoot_core.contracts import CALLS, CAREGIVERS, SMS_EVENTS, VACCINATIONS
from bandicoot_core.engagement.intake import (
    Intake,
    judge_calls,
    judge_vaccinations,
    take_in_calls,
    take_in_vaccinations,
    without_forgotten,
)
from bandicoot_core.engagement.message_intake import judge_messages, message_events, take_in_messages
from bandicoot_core.engagement.registry_intake import judge_caregivers, take_in_caregivers
from bandicoot_core.pipeline.first_sight import keys_of_all
from bandicoot_core.pipeline.intake_partitions import IntakeTarget, write_partitions
from bandicoot_core.pipeline.unknown_keys import refuse_unknown_keys
from bandicoot_core.settings import Settings
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.published.keys import keys_of, load_keys
from bandicoot_core.stores.published.recorded_calls import (
    NO_CALLS,
    check_calls,
    fingerprints_of_calls,
    read_calls,
    read_snapshot,
)
from bandicoot_core.stores.published.suppression import suppressed_ids
from bandicoot_core.stores.source.source import Source, SourceSnapshot

EVENT_ASSETS = ("sms_events", "vaccinations", "calls")
"""What happens on days; the registry is a snapshot at their end."""

DAYS_PER_READ = 7

OnProgress = Callable[[str, int, int], None]
"""Called after each partition with the asset, the partitions written so far, and all that will be."""

Rows: TypeAlias = pa.RecordBatchReader | pa.Table

_INCOMING, _HELD, _JUDGED, _EVENTS, _REGISTRY, _KEYS = (
    "incoming_rows",
    "held_rows",
    "judged_rows",
    "message_events",
    "registry_rows",
    "caregiver_keys",
)


def extract_caregivers(
    source: Source,
    connection: psycopg.Connection,
    lake: Lake,
    engine: Backend,
    *,
    days: Sequence[date],
    settings: Settings,
    seen_at: datetime,
    on_progress: OnProgress | None = None,
) -> list[Manifest]:
    """Write the `caregivers` partitions of some Asia/Kolkata days: the registry at the end of each.

    The registry is read once, up to the end of the last day. Every caregiver in it gets a key and a draw for the
    experiment before anything is written; `seen_at` (UTC) is recorded with new ones, and with a rollout share that was
    not in force before. `connection` is to the published schema, in autocommit.

    Raises InvalidInputError when the lake knows keys that the database has never given, since the next caregivers
    would get them; UnreachableError when a server does not answer, LaggingSourceError when the source is a replica
    without the end of the last day, SchemaDriftError when the source's columns are not as expected, and
    TooManyInvalidRowsError for the first day of which too many rows would be set aside: its partition stays as it was,
    and earlier days remain written. The other functions here raise the same but the first.
    """
    source.check_schema(["caregivers"])
    refuse_unknown_keys(connection, lake)
    recipe = {
        "districts": list(settings.districts),
        "experiment": settings.experiment,
        "rollout_share": settings.rollout_share,
    }
    target = IntakeTarget(lake, engine, CAREGIVERS, "caregivers", settings.max_invalid_share, recipe)
    with _snapshot(source, days, settings) as snapshot, _temporary(engine, _REGISTRY, _KEYS, _JUDGED):

        def take_in(rows: ibis.Table, chunk: Sequence[date]) -> Intake:
            registry = engine.create_table(_REGISTRY, rows, temp=True)
            keys = keys_of_all(registry, connection, engine, settings=settings, seen_at=seen_at, name=_KEYS)
            judged = engine.create_table(_JUDGED, judge_caregivers(registry, keys), temp=True)
            engine.drop_table(_REGISTRY)
            return take_in_caregivers(_remembered(judged, connection), chunk, districts=settings.districts)

        ordered = sorted(set(days))
        chunks = [ordered] if ordered else []
        return _write_chunks(target, chunks, lambda *span: snapshot.rows("caregivers", *span), take_in, on_progress)


def extract_sms_events(
    source: Source,
    connection: psycopg.Connection,
    lake: Lake,
    engine: Backend,
    *,
    days: Sequence[date],
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> list[Manifest]:
    """Write the `sms_events` partitions of some Asia/Kolkata days: what happened to messages on each.

    A message counts where something happened to it: sent on Monday and opened on Wednesday, it is read for both.
    Caregivers must have their keys already; parameters and errors are those of extract_caregivers.
    """
    source.check_schema(["sms_logs"])
    target = IntakeTarget(lake, engine, SMS_EVENTS, "sms_logs", settings.max_invalid_share)
    with _snapshot(source, days, settings) as snapshot, _temporary(engine, _KEYS, _JUDGED, _EVENTS):
        keys = load_keys(connection, engine, experiment=settings.experiment, name=_KEYS).drop("ab_arm")

        def take_in(rows: ibis.Table, chunk: Sequence[date]) -> Intake:
            judged = engine.create_table(_JUDGED, judge_messages(rows, keys, chunk), temp=True, overwrite=True)
            messages = _remembered(judged, connection)
            events = engine.create_table(_EVENTS, message_events(messages), temp=True, overwrite=True)
            return take_in_messages(messages, events)

        return _write_chunks(
            target, _chunks(days), lambda *span: snapshot.rows("sms_logs", *span), take_in, on_progress
        )


def extract_vaccinations(
    source: Source,
    connection: psycopg.Connection,
    lake: Lake,
    engine: Backend,
    *,
    days: Sequence[date],
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> list[Manifest]:
    """Write the `vaccinations` partitions of some Asia/Kolkata days: doses given on each.

    Caregivers must have their keys already; parameters and errors are those of extract_caregivers.
    """
    source.check_schema(["vaccinations"])
    target = IntakeTarget(lake, engine, VACCINATIONS, "vaccinations", settings.max_invalid_share, is_small=True)
    with _snapshot(source, days, settings) as snapshot, _temporary(engine, _HELD, _KEYS, _JUDGED):

        def take_in(rows: ibis.Table, chunk: Sequence[date]) -> Intake:
            judged = judge_vaccinations(*_with_their_keys(rows, connection, engine))
            held = engine.create_table(_JUDGED, judged, temp=True, overwrite=True)
            return take_in_vaccinations(_remembered(held, connection))

        return _write_chunks(
            target, _chunks(days), lambda *span: snapshot.rows("vaccinations", *span), take_in, on_progress
        )


def extract_calls(
    connection: psycopg.Connection,
    lake: Lake,
    engine: Backend,
    *,
    days: Sequence[date],
    settings: Settings,
    on_progress: OnProgress | None = None,
) -> list[Manifest]:
    """Write the `calls` partitions of some Asia/Kolkata days: calls attempted on each, from bandicoot.call_outcomes.

    Caregivers must have their keys already; parameters and errors are those of extract_caregivers. Each manifest has
    the fingerprint of the calls recorded for its day.
    """
    check_calls(connection)
    with read_snapshot(connection), _temporary(engine, _HELD, _KEYS, _JUDGED):
        recorded = fingerprints_of_calls(connection, min(days), max(days)) if days else {}
        target = IntakeTarget(
            lake,
            engine,
            CALLS,
            "call_outcomes",
            settings.max_invalid_share,
            facts={day: {"fingerprint": recorded.get(day, NO_CALLS)} for day in days},
            is_small=True,
        )

        def take_in(rows: ibis.Table, chunk: Sequence[date]) -> Intake:
            judged = judge_calls(*_with_their_keys(rows, connection, engine), chunk)
            held = engine.create_table(_JUDGED, judged, temp=True, overwrite=True)
            return take_in_calls(_remembered(held, connection))

        return _write_chunks(
            target, _chunks(days), lambda *span: nullcontext(read_calls(connection, *span)), take_in, on_progress
        )


def _snapshot(source: Source, days: Sequence[date], settings: Settings) -> AbstractContextManager[SourceSnapshot]:
    """One snapshot of the source for all days; the newest of them must be there to its end, but for what may lack."""
    tolerated = timedelta(minutes=settings.max_source_lag_minutes)
    return source.snapshot(complete_until=end_of_day(max(days)) - tolerated if days else None)


def _write_chunks(
    target: IntakeTarget,
    chunks: Sequence[Sequence[date]],
    read: Callable[[date, date], AbstractContextManager[Rows]],
    take_in: Callable[[ibis.Table, Sequence[date]], Intake],
    on_progress: OnProgress | None,
) -> list[Manifest]:
    """Read, take in and write one chunk of days after the other; `take_in` reads its rows once."""
    n_days = sum(len(chunk) for chunk in chunks)
    manifests: list[Manifest] = []
    for chunk in chunks:
        with read(chunk[0], chunk[-1]) as rows, _registered(target.engine, _INCOMING, rows) as incoming:
            intake = take_in(incoming, chunk)
        for manifest in write_partitions(target, intake, chunk):
            manifests.append(manifest)
            if on_progress is not None:
                on_progress(target.contract.name, len(manifests), n_days)
    return manifests


def _chunks(days: Sequence[date]) -> list[list[date]]:
    """The days in order, cut where one is missing and after every DAYS_PER_READ."""
    chunks: list[list[date]] = []
    for day in sorted(set(days)):
        if chunks and len(chunks[-1]) < DAYS_PER_READ and day - chunks[-1][-1] == timedelta(days=1):
            chunks[-1].append(day)
        else:
            chunks.append([day])
    return chunks


def _with_their_keys(
    rows: ibis.Table, connection: psycopg.Connection, engine: Backend
) -> tuple[ibis.Table, ibis.Table]:
    """The rows, held in the engine, and the columns caregiver_key and caregiver_id of those who occur in them.

    For assets of few rows a day: all keys are loaded only where most of them occur.
    """
    held = engine.create_table(_HELD, rows, temp=True, overwrite=True)
    ids = held.select("caregiver_id").distinct().to_pyarrow()["caregiver_id"]
    return held, engine.create_table(_KEYS, keys_of(connection, ids), temp=True, overwrite=True)


def _remembered(judged: ibis.Table, connection: psycopg.Connection) -> ibis.Table:
    """Judged rows, held in the engine, without those of forgotten caregivers, who still are in the source."""
    unknown = judged.select("unknown_id").filter(judged.unknown_id.notnull()).distinct().to_pyarrow()["unknown_id"]
    return without_forgotten(judged, ibis.memtable(pa.table({"caregiver_id": suppressed_ids(connection, unknown)})))


@contextmanager
def _registered(engine: Backend, name: str, rows: Rows) -> Iterator[ibis.Table]:
    """Rows under a name of the engine, streamed when they are read; a reader can be read once."""
    engine.con.register(name, rows)
    try:
        yield engine.table(name)
    finally:
        engine.con.unregister(name)


@contextmanager
def _temporary(engine: Backend, *names: str) -> Iterator[None]:
    """Temporary tables that may come to exist in the block are dropped at its end."""
    try:
        yield
    finally:
        for name in names:
            engine.drop_table(name, force=True)
