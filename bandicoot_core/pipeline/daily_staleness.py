"""Whether the states and lists of past days still follow from their inputs, read from the lake's manifests.

States that no longer do are computed again. A list that no longer does stays: it went out, and what went out is
history; that it is stale is said. Models have their own rules, in staleness.
"""

from collections.abc import Iterator
from datetime import date, timedelta

from bandicoot_core.calendar import days_between
from bandicoot_core.pipeline.engagement import covered_days, materialize_caregiver_states
from bandicoot_core.pipeline.told_events import RECEIVED, received_input, received_on
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest, combined_digest


def stale_states(lake: Lake, last_day: date, settings: Settings) -> dict[date, str]:
    """The days up to `last_day` whose `caregiver_states` no longer follow from the lake, oldest first, and why.

    Days before the lookback that ends with `last_day` are left as they are, and so are those whose registry snapshot
    is no longer there.
    """
    first = last_day - timedelta(days=settings.lookback_days - 1)
    snapshots = set(lake.partitions("caregivers"))
    days = [
        day
        for day in map(date.fromisoformat, lake.partitions("caregiver_states"))
        if first <= day <= last_day and day.isoformat() in snapshots
    ]
    digests = _Digests(lake)
    states = lake.manifests("caregiver_states", [day.isoformat() for day in days])
    found = {
        day: _why_states_are_stale(made, day, settings, digests)
        for day, made in zip(days, states, strict=True)
        if made is not None
    }
    return {day: why for day, why in found.items() if why is not None}


def renew_stale_states(stores: Installation, *, before: date) -> Iterator[tuple[Manifest, str]]:
    """Compute the stale states of the days before a day again, oldest first, each with why they were stale."""
    for day, why in stale_states(stores.lake, before - timedelta(days=1), stores.settings).items():
        yield materialize_caregiver_states(stores, day), why


def stale_lists(lake: Lake, call_date: date, n_days: int) -> dict[date, str]:
    """The lists of the n_days before `call_date` that no longer follow from their states, oldest first, and why."""
    first = call_date - timedelta(days=n_days)
    days = [day for day in map(date.fromisoformat, lake.partitions("call_list")) if first <= day < call_date]
    found = {day: why_list_is_stale(lake, day) for day in days}
    return {day: why for day, why in found.items() if why is not None}


def why_list_is_stale(lake: Lake, call_date: date) -> str | None:
    """Why the list of a day would be another one if it were made today, or None when its states are still the same.

    A newer model does not make a past list stale. MissingPartitionError without the list.
    """
    manifest = lake.require("call_list", call_date.isoformat())
    as_of = str(manifest.recipe["as_of_date"])
    states = lake.manifest("caregiver_states", as_of)
    if states is None:
        return None
    if manifest.inputs.get("caregiver_states") != combined_digest([states]):
        return f"caregiver_states of {as_of} have changed since it was made"
    return None


def _why_states_are_stale(states: Manifest, day: date, settings: Settings, digests: "_Digests") -> str | None:
    # Judged by the lookback they were made with: a setting that has changed since does not make the past wrong.
    n_days = int(states.recipe.get("lookback_days", settings.lookback_days))
    lookback = days_between(day - timedelta(days=n_days - 1), day)
    read = {
        "caregivers": [day.isoformat()],
        **{asset: covered_days(digests.existing(asset), lookback) for asset in ("sms_events", "calls")},
    }
    for asset, partitions in read.items():
        digest = digests.of(asset, partitions)
        if digest is None:
            return None  # a day that is missing is refused when states are computed; nothing can be renewed before
        if states.inputs.get(asset) != digest:
            return f"{asset} have changed since"
    received = received_on(digests.existing(RECEIVED), read["sms_events"])
    if received_input(states) != digests.of(RECEIVED, received):
        return f"{RECEIVED} have changed since"
    return None


class _Digests:
    """Digests of partitions, each manifest read once."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._manifests: dict[tuple[str, str], Manifest | None] = {}
        self._existing: dict[str, list[str]] = {}

    def existing(self, asset: str) -> list[str]:
        """Keys of the asset's partitions, in order."""
        if asset not in self._existing:
            self._existing[asset] = self._lake.partitions(asset)
        return self._existing[asset]

    def of(self, asset: str, partitions: list[str]) -> str | None:
        """One digest for some partitions as the lake's reader makes it; None when one is missing."""
        unread = [key for key in partitions if (asset, key) not in self._manifests]
        found = zip(unread, self._lake.manifests(asset, unread), strict=True)
        self._manifests.update({(asset, key): manifest for key, manifest in found})
        manifests = [self._manifests[asset, key] for key in partitions]
        present = [manifest for manifest in manifests if manifest is not None]
        return combined_digest(present) if len(present) == len(manifests) else None
