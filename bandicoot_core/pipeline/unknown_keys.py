"""Keys in the lake that the database has never given: what is left when it was restored to a moment before the lake's.

A key is a number that bandicoot.caregiver_keys alone can explain, and keys ascend. A restored database gives the
numbers it has lost to the next caregivers who come; rows of the lake that carry them would then be somebody else's. So
no key is given while the lake has such rows (refuse_unknown_keys), and what has them is taken out of the lake, to be
made again from the source (drop_unknown_keys). Bringing the published tables back belongs to republishing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.told_events import RECEIVED
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.search import highest_key_in, is_in
from bandicoot_core.stores.published.keys import highest_key

HOLDER = "bandicoot lake reconcile"
"""Who holds partitions meanwhile, as other writers see it."""

_REGISTRY = "caregivers"
_WRITTEN_BY = {BUNDLES: "model_version"}
"""Folder of the lake -> the asset whose step writes it, where it has another name."""


@dataclass(frozen=True)
class UnknownKeys:
    """A partition that has rows of keys which the database has never given."""

    asset: str
    partition: str
    highest_key: int

    @property
    def is_kept(self) -> bool:
        """Whether only those rows go: what was received can be made again from nothing but the messages themselves."""
        return self.asset == RECEIVED


def refuse_unknown_keys(connection: psycopg.Connection, lake: Lake) -> None:
    """InvalidInputError when the newest registry snapshot has a key that this database has never given.

    One look at a file's bounds: everybody else in the lake was in a registry before.
    """
    snapshots = lake.partitions(_REGISTRY)
    if not snapshots:
        return
    given, known = highest_key(connection), highest_key_in(lake, _REGISTRY, snapshots[-1])
    if known > given:
        remedy = (
            "run `bandicoot lake reconcile`, then run again"
            if given
            else "restore bandicoot.caregiver_keys from a backup, or begin with an empty lake (docs/recovery.md)"
        )
        raise InvalidInputError(
            f"the lake's caregivers/{snapshots[-1]} knows keys up to {known}, the database has given "
            f"{given or 'none'}: it was restored to an earlier moment, or belongs to another lake, and new caregivers "
            f"would get keys that are somebody else's in the lake; {remedy}"
        )


def find_unknown_keys(connection: psycopg.Connection, lake: Lake) -> list[UnknownKeys]:
    """Every partition with a key that this database has never given, lists first and the registry last.

    InvalidInputError when it has given none at all: then nothing of the lake can be told apart.
    """
    given = highest_key(connection)
    found = [
        UnknownKeys(asset, partition, highest)
        for asset in lake.assets()
        for partition in lake.partitions(asset)
        if (highest := highest_key_in(lake, asset, partition)) > given
    ]
    if found and not given:
        raise InvalidInputError(
            "bandicoot.caregiver_keys is empty, so that nobody in the lake can be recognized; restore it from a backup "
            "first, or begin with an empty lake (docs/recovery.md)"
        )
    # The registry goes last: as long as it is there no key is given, and a second call finds what the first left.
    return sorted(found, key=lambda each: (each.asset == _REGISTRY, each.asset, each.partition))


def drop_unknown_keys(stores: Installation, found: Iterable[UnknownKeys]) -> None:
    """Take partitions with unknown keys out of the lake; of received events only the rows of those keys.

    PartitionHeldError when a run does not leave one in time: stop the daemon, and call it again.
    """
    with stores.published() as connection, stores.engine() as engine:
        given = highest_key(connection)
        for each in found:
            with stores.sole_writer(_WRITTEN_BY.get(each.asset, each.asset), [each.partition], holder=HOLDER):
                if not each.is_kept:
                    stores.lake.remove(each.asset, each.partition)
                    continue
                for key in range(given + 1, each.highest_key + 1):
                    if is_in(stores.lake, each.asset, each.partition, key):
                        stores.lake.rewrite_without(each.asset, each.partition, key, engine=engine)
