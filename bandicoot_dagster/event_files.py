"""The job `ingest_event_files`: takes in the files of events that were dropped in the configured folder.

A run and not a sensor's tick, since a file may take longer than a tick is given. Nothing of what a file means belongs
here; that it is looked for belongs to events_sensor.
"""

from collections.abc import Iterator

import dagster as dg

from bandicoot_core.errors import TransientError
from bandicoot_core.pipeline.event_sources import ingest_file, new_files
from bandicoot_core.pipeline.received_events import ingest_waiting
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.assets.events import materialization
from bandicoot_dagster.runtime import Clock
from bandicoot_dagster.steps import N_RETRIES, SECONDS_BETWEEN


@dg.op(out=dg.Out(dg.Nothing))
def ingest_files(
    context: dg.OpExecutionContext, stores: dg.ResourceParam[Installation], clock: dg.ResourceParam[Clock]
) -> Iterator[dg.AssetMaterialization | dg.Output[None]]:
    """Take in every new file, and events that waited for their caregivers; each file counts once it is whole."""
    holder = f"run {context.run.run_id[:8]}"
    folder = stores.settings.events_folder
    try:
        total = ingest_waiting(stores, holder=holder)
        for file in new_files(stores, folder, now=clock()) if folder else []:
            ingested = ingest_file(stores, file, clock=clock, holder=holder)
            context.log.info(
                f"{file.uri}: {ingested.n_messages:,} messages, {ingested.n_new:,} new events, "
                f"{ingested.n_repeated:,} known, {ingested.n_waiting:,} waiting, {ingested.n_dead:,} dead letters"
            )
            total += ingested
    except TransientError as error:
        raise dg.RetryRequested(max_retries=N_RETRIES, seconds_to_wait=SECONDS_BETWEEN) from error
    for day in sorted(total.partitions):
        yield materialization(total.partitions[day])
    yield dg.Output(None)


@dg.job(
    description="Takes in files of events that were dropped in the configured folder; each once.",
    executor_def=dg.in_process_executor,
)
def ingest_event_files() -> None:
    """One step."""
    ingest_files()
