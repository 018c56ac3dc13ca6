"""Which past days of the source are read again, whoever starts a night, and what that has changed.

Messages and doses reach the source late or are corrected there: the last days are read again with every night. Calls
need no such guess: the server says of which days the recorded calls are no longer those the lake holds, however old
they are. How days are read belongs to extraction, what follows from a changed day to daily_staleness.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import days_between
from bandicoot_core.errors import CorruptPartitionError
from bandicoot_core.pipeline.extraction import extract_calls, extract_sms_events, extract_vaccinations
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.published.recorded_calls import NO_CALLS, fingerprints_of_calls

COMPARED_DAYS = 62 * 7 + 6
"""Days of calls that are compared with the lake: those of the longest training window, and of the week that runs."""

_Extract = Callable[[psycopg.Connection, Backend, Sequence[date]], list[Manifest]]


@dataclass(frozen=True)
class DaysRead:
    """What one asset's reading has written."""

    asked: tuple[Manifest, ...]
    """The partitions that were asked for."""
    again: tuple[Manifest, ...] = ()
    """Those of earlier days that were read again."""
    changed: tuple[Manifest, ...] = ()
    """Those of `again` whose content is not what it was, or that were missing."""

    @property
    def summary(self) -> dict[str, str]:
        """What reading each earlier day again has shown, by day."""
        changed = {manifest.partition for manifest in self.changed}
        return {m.partition: "changed" if m.partition in changed else "unchanged" for m in self.again}


def read_sms_events(stores: Installation, days: Sequence[date]) -> DaysRead:
    """Write `sms_events` of some days and of the reread_days before them.

    Raises what extract_sms_events raises; so do the other functions here.
    """
    earlier = _late_days(stores, "sms_events", days)
    return _read(stores, "sms_events", days, earlier, _of_source(stores, extract_sms_events))


def read_vaccinations(stores: Installation, days: Sequence[date]) -> DaysRead:
    """Write `vaccinations` of some days and of the reread_days before them."""
    earlier = _late_days(stores, "vaccinations", days)
    return _read(stores, "vaccinations", days, earlier, _of_source(stores, extract_vaccinations))


def read_calls(stores: Installation, days: Sequence[date]) -> DaysRead:
    """Write `calls` of some days and of all earlier ones of which the recorded calls have changed."""

    def extract(connection: psycopg.Connection, engine: Backend, days: Sequence[date]) -> list[Manifest]:
        return extract_calls(connection, stores.lake, engine, days=days, settings=stores.settings)

    with stores.published() as connection:
        changed = days_with_other_calls(connection, stores.lake, before=min(days)) if days else []
    return _read(stores, "calls", days, changed, extract)


def days_with_other_calls(connection: psycopg.Connection, lake: Lake, *, before: date) -> list[date]:
    """The days before a day, at most COMPARED_DAYS, whose `calls` partition is not of the calls recorded now.

    A call counts from when it is recorded, whenever it was attempted; one that is corrected, removed, or whose
    caregiver became known since is found as well.
    """
    first = before - timedelta(days=COMPARED_DAYS)
    days = [day for day in map(date.fromisoformat, lake.partitions("calls")) if first <= day < before]
    if not days:
        return []
    recorded = fingerprints_of_calls(connection, days[0], days[-1])
    known = [None if m is None else m.facts.get("fingerprint") for m in _readable_manifests(lake, "calls", days)]
    return [day for day, found in zip(days, known, strict=True) if found != recorded.get(day, NO_CALLS)]


def _late_days(stores: Installation, asset: str, days: Sequence[date]) -> list[date]:
    """The reread_days before the first of some days, without those before the asset's first partition.

    A day that is missing between partitions is among them.
    """
    existing = stores.lake.partitions(asset)
    if not days or not existing:
        return []
    first = min(days) - timedelta(days=stores.settings.reread_days)
    return days_between(max(first, date.fromisoformat(existing[0])), min(days) - timedelta(days=1))


def _of_source(stores: Installation, extract: Callable[..., list[Manifest]]) -> _Extract:
    """An extraction of the programme's source with everything but connection, engine and days filled in."""

    def extract_days(connection: psycopg.Connection, engine: Backend, days: Sequence[date]) -> list[Manifest]:
        return extract(stores.source(), connection, stores.lake, engine, days=days, settings=stores.settings)

    return extract_days


def _read(
    stores: Installation, asset: str, days: Sequence[date], earlier: Sequence[date], extract: _Extract
) -> DaysRead:
    found = _readable_manifests(stores.lake, asset, earlier)
    before = {day.isoformat(): manifest for day, manifest in zip(earlier, found, strict=True)}
    with stores.published() as connection, stores.engine() as engine:
        manifests = extract(connection, engine, sorted({*days, *earlier}))
    again = tuple(manifest for manifest in manifests if manifest.partition in before)
    return DaysRead(
        asked=tuple(manifest for manifest in manifests if manifest.partition not in before),
        again=again,
        changed=tuple(manifest for manifest in again if _is_another(manifest, before[manifest.partition])),
    )


def _is_another(manifest: Manifest, before: Manifest | None) -> bool:
    return before is None or before.digest != manifest.digest


def _readable_manifests(lake: Lake, asset: str, days: Sequence[date]) -> list[Manifest | None]:
    """The manifests of some days, None for one that is absent or unreadable: such a day is to be written again."""
    keys = [day.isoformat() for day in days]
    try:
        return lake.manifests(asset, keys)
    except CorruptPartitionError:
        return [_readable_manifest(lake, asset, key) for key in keys]


def _readable_manifest(lake: Lake, asset: str, key: str) -> Manifest | None:
    try:
        return lake.manifest(asset, key)
    except CorruptPartitionError:
        return None
