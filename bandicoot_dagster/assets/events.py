"""Events that are told as they happen: an external asset, since no run makes it. Sensors report its partitions.

How they come in belongs to events_sensor and event_files; what is made of them, to the engagement group.
"""

import dagster as dg

from bandicoot_core.contracts import RECEIVED_EVENTS
from bandicoot_core.pipeline.told_events import RECEIVED
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_dagster.describe import OWNERS
from bandicoot_dagster.metadata import column_schema, partition_metadata
from bandicoot_dagster.partitions import event_days
from bandicoot_dagster.versions import version_tags

received_events = dg.AssetSpec(
    RECEIVED,
    group_name="source",
    owners=OWNERS,
    kinds={"pubsub", "json", "parquet"},
    description=(
        "What happened to messages, and doses given, as it is told while the day goes on: from Pub/Sub or from files. "
        "Each event is in the day it happened on, once, however late and however often it was told. Whoever opens a "
        "message is Responsive in bandicoot.caregiver_states at once; lists follow the next night."
    ),
    partitions_def=event_days,
    metadata=column_schema(RECEIVED_EVENTS),
)


def materialization(manifest: Manifest) -> dg.AssetMaterialization:
    """What Dagster is told of a partition that has changed."""
    return dg.AssetMaterialization(
        asset_key=RECEIVED,
        partition=manifest.partition,
        metadata=partition_metadata(manifest),
        tags=version_tags(manifest),
    )
