"""Forgetting a caregiver in every store: the published schema, the lake and the cache, in this order.

First she is suppressed, removed from the published schema and recorded, in one transaction; from then on no run gives
her a key, lists her or takes an outcome for her. Then the assets of the lake are gone through, what others are computed
from before what is computed of it. Steps that are writing an asset are waited for when its turn comes; those that begin
later read what has been cleaned. Killed at any point, the same call finishes the job, since the record keeps the key
she had. What each store does belongs to forgettings, lake (removal) and cache.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

import psycopg
from ibis.backends.duckdb import Backend

from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.told_events import RECEIVED
from bandicoot_core.stores.cache.cache import forget
from bandicoot_core.stores.cache.fill import no_fill_under_way
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.search import count_rows, is_in
from bandicoot_core.stores.published.forgettings import (
    Forgetting,
    add_removed_rows,
    count_published,
    finish_forgetting,
    forget_published,
    key_of,
)
from bandicoot_core.stores.published.suppression import checked_id

HOLDER = "bandicoot forget"
"""Who holds partitions meanwhile, as other writers see it."""

_FROM_SOURCE_ON = (
    "caregivers",
    "sms_events",
    RECEIVED,
    "vaccinations",
    "calls",
    "caregiver_states",
    "engagement_history",
    "cluster_assignments",
    BUNDLES,
    "call_list",
)
"""Assets with rows of caregivers, each after those it is computed from; others come last."""

_WRITTEN_BY = {BUNDLES: "model_version"}
"""Folder of the lake -> the asset whose step writes it, where it has another name."""


def forget_caregiver(
    stores: Installation, caregiver_id: str, *, requested_by: str, reason: str, clock: Callable[[], datetime]
) -> Forgetting:
    """Remove a caregiver from every store and suppress her; return the record, which is then `done`.

    A caregiver nobody knows is suppressed all the same, with no rows removed. Calling it again is harmless, and
    finishes what was interrupted. `clock` gives the moment in UTC.

    Raises PartitionHeldError when a run does not leave a part of the lake in time, CorruptPartitionError for a
    partition that has to be made again first, UnreachableError when a server does not answer: the record then stays
    `requested`, and the call has to be repeated.
    """
    checked_id(caregiver_id)
    with stores.published() as connection:
        record = forget_published(
            connection, caregiver_id, requested_at=clock(), requested_by=requested_by, reason=reason
        )
        if record.caregiver_key is not None:
            with stores.engine() as engine:
                for asset in _assets(stores):
                    _remove_from(stores, connection, engine, asset, record.caregiver_key, record)
        if stores.cache is not None:
            wait_seconds = stores.settings.writer_wait_seconds
            with stores.published() as waiting, no_fill_under_way(waiting, wait_seconds=wait_seconds):
                n_keys = forget(stores.cache, caregiver_id)
            add_removed_rows(connection, record.suppression_hash, "cache", n_keys)
        return finish_forgetting(connection, record.suppression_hash, done_at=clock())


def find_caregiver(stores: Installation, caregiver_id: str) -> Mapping[str, int]:
    """How many rows each store and table has of a caregiver, the cache left out; nothing is changed."""
    checked_id(caregiver_id)
    with stores.published() as connection:
        counts = count_published(connection, caregiver_id)
        key = key_of(connection, caregiver_id)
    if key is not None:
        for asset in _assets(stores):
            partitions = stores.lake.partitions(asset)
            n_rows = sum(count_rows(stores.lake, asset, partition, key) for partition in partitions)
            if n_rows:
                counts[f"lake.{asset}"] = n_rows
    return counts


def _assets(stores: Installation) -> list[str]:
    return [*_FROM_SOURCE_ON, *(asset for asset in stores.lake.assets() if asset not in _FROM_SOURCE_ON)]


def _remove_from(
    stores: Installation,
    connection: psycopg.Connection,
    engine: Backend,
    asset: str,
    caregiver_key: int,
    record: Forgetting,
) -> None:
    writer = _WRITTEN_BY.get(asset, asset)
    with stores.sole_writer(writer, ("all",), holder=HOLDER, is_whole_asset=True):
        pass  # whoever read before she was gone has written by now
    for partition in stores.lake.partitions(asset):
        if is_in(stores.lake, asset, partition, caregiver_key):
            with stores.sole_writer(writer, [partition], holder=HOLDER):
                n_rows = count_rows(stores.lake, asset, partition, caregiver_key)
                stores.lake.rewrite_without(asset, partition, caregiver_key, engine=engine)
            add_removed_rows(connection, record.suppression_hash, f"lake.{asset}", n_rows)
