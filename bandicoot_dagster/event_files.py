"""The job `ingest_event_files`: takes in the files of events that were dropped in the configured folder.

A run and not a sensor's tick, since a file may take longer than a tick is given. Nothing of what a file means belongs
here; that it is looked for belongs to events_sensor.
"""

from collections.abc import Iterator

import dagster as dg

from bandicoot_core.errors import ConflictingWriteError, TransientError
from bandicoot_core.pipeline.event_sources import ingest_new_files
from bandicoot_core.pipeline.received_events import Ingested, ingest_waiting
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.assets.events import materialization
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.steps import N_RETRIES, SECONDS_BETWEEN


@dg.op(out=dg.Out(dg.Nothing))
def ingest_files(
    context: dg.OpExecutionContext, stores: dg.ResourceParam[Installation], clock: dg.ResourceParam[Clock]
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    """Take in every new file, and events that waited for their caregivers; each file counts once it is whole."""
    holder = f"run {context.run.run_id[:8]}"
    folder = stores.settings.events_folder
    unread: list[ConflictingWriteError] = []
    try:
        total = ingest_waiting(stores, holder=holder)
        for outcome in ingest_new_files(stores, folder, clock=clock, holder=holder) if folder else ():
            if outcome.error is not None:
                unread.append(outcome.error)
            if outcome.ingested is not None:
                context.log.info(_line(outcome.file.uri, outcome.ingested))
                total += outcome.ingested
    except TransientError as error:
        raise dg.RetryRequested(max_retries=N_RETRIES, seconds_to_wait=SECONDS_BETWEEN) from error
    for day in sorted(total.partitions):
        yield materialization(total.partitions[day])
    if unread:
        # The others are taken in; these are looked at again with the next run.
        raise ConflictingWriteError("; ".join(map(str, unread)))
    yield dg.Output(None)


def _line(uri: str, ingested: Ingested) -> str:
    return (
        f"{uri}: {ingested.n_messages:,} messages, {ingested.n_new:,} new events, {ingested.n_repeated:,} known, "
        f"{ingested.n_waiting:,} waiting, {ingested.n_dead:,} dead letters"
    )


@dg.job(
    description="Takes in files of events that were dropped in the configured folder; each once.",
    executor_def=dg.in_process_executor,
)
def ingest_event_files() -> None:
    """One step."""
    ingest_files()
