"""What the lake knows of events by now: the source's logs of some days, and what was told beside them.

How events come in belongs to received_events; what follows from them, to engagement.
"""

from collections.abc import Sequence

import ibis

from bandicoot_core.contracts import RECEIVED_EVENTS, SMS_EVENTS
from bandicoot_core.engagement.states import with_received
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest, combined_digest
from bandicoot_core.stores.lake.reader import LakeReader

RECEIVED = "received_events"
"""The asset."""

NOTHING_RECEIVED = combined_digest([])
"""What stands for it among the inputs of what was made before any event was received."""


def read_events(reader: LakeReader, lake: Lake, days: Sequence[str]) -> ibis.Table:
    """Events of some days: `sms_events`, of which every day must be there, and `received_events`, where there are any.

    Columns caregiver_key, event_type, occurred_at; an open that both know is there twice.
    """
    logged = reader.scan(SMS_EVENTS, "sms_events", days)
    told = received_on(lake.partitions(RECEIVED), days)
    received = reader.scan(RECEIVED_EVENTS, RECEIVED, told)
    return with_received(logged, received) if told else logged


def received_on(existing: Sequence[str], days: Sequence[str]) -> list[str]:
    """Those of some days on which something was received, given the partitions there are."""
    return sorted(set(existing) & set(days))


def received_input(manifest: Manifest) -> str:
    """The digest of the received events that a partition was made from."""
    return manifest.inputs.get(RECEIVED, NOTHING_RECEIVED)
