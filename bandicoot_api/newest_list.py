"""The newest published list in this process: read once a publication, and from Redis while PostgreSQL is away.

Redis is looked at every few seconds, and given the list again when it has another or none: when it was away as the list
came out, or has lost it, as after a restart.
"""

import asyncio
import time
from collections.abc import Callable

from bandicoot_api.answers import Together
from bandicoot_api.lanes import Lane
from bandicoot_api.problems import Problem
from bandicoot_core.errors import TransientError
from bandicoot_core.stores.cache.cache import Cache
from bandicoot_core.stores.cache.list_snapshot import (
    ListSnapshot,
    cached_name,
    cached_snapshot,
    keep_snapshot,
    read_snapshot,
)
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.postgres.connections import reading
from bandicoot_core.stores.published.live_ranking import LiveRules, LiveVersion, live_version

_LOOK_SECONDS = 5.0
"""How often Redis is looked at."""
_CACHED_SECONDS = 1.0
"""How long what Redis holds is believed."""


class NewestList:
    """One list in memory. Used from one event loop."""

    def __init__(self, stores: Installation, lane: Lane, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stores = stores
        self._lane = lane
        self._monotonic = monotonic
        self._held: tuple[LiveVersion, ListSnapshot] | None = None
        self._reading: Together[str, tuple[LiveVersion, ListSnapshot]] = Together()
        self._cached: ListSnapshot | None = None
        self._cached_at = float("-inf")
        self._reading_cached: Together[None, ListSnapshot | None] = Together()
        self._looked_at = float("-inf")
        self._look: asyncio.Task[None] | None = None

    async def read(self, current: LiveVersion, rules: LiveRules) -> tuple[LiveVersion, ListSnapshot]:
        """The list of a version, or of a later one if there is one by now, with that version.

        TransientError when PostgreSQL does not answer.
        """
        if self._held is not None and _rows_of(self._held[0]) == _rows_of(current):
            return current, self._held[1]
        self._held = await self._reading.make(
            _rows_of(current), lambda: self._lane.run(lambda: self._read(current, rules))
        )
        return self._held

    async def read_cached(self) -> ListSnapshot | None:
        """The list that Redis holds, which may be an older one; None when it holds none or does not answer.

        While PostgreSQL is away everybody asks for it: it is read once a second, for all.
        """
        cache = self._stores.cache
        if cache is None:
            return None
        if self._cached is None or self._monotonic() - self._cached_at >= _CACHED_SECONDS:
            self._cached = await self._reading_cached.make(None, lambda: asyncio.to_thread(cached_snapshot, cache))
            self._cached_at = self._monotonic()
        return self._cached

    def keep_there(self, current: LiveVersion, rules: LiveRules) -> None:
        """See to it, beside the request, that Redis holds a list for when PostgreSQL is away."""
        cache = self._stores.cache
        if cache is None or cache.is_paused or self._monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        if self._look is None or self._look.done():
            self._looked_at = self._monotonic()
            self._look = asyncio.ensure_future(self._keep_there(cache, current, rules))

    async def _keep_there(self, cache: Cache, current: LiveVersion, rules: LiveRules) -> None:
        if await asyncio.to_thread(cached_name, cache) == _rows_of(current):
            return
        try:
            version, snapshot = await self.read(current, rules)
        except (TransientError, Problem):
            return  # whoever asks for an answer is told, and the next look comes
        await asyncio.to_thread(keep_snapshot, cache, snapshot, name=_rows_of(version))

    def _read(self, current: LiveVersion, rules: LiveRules) -> tuple[LiveVersion, ListSnapshot]:
        with self._stores.published() as connection, reading(connection, "reading the newest list", is_snapshot=True):
            version = live_version(connection, rules) or current
            snapshot = read_snapshot(connection, version.standing)
        if self._stores.cache is not None:
            keep_snapshot(self._stores.cache, snapshot, name=_rows_of(version))
        return version, snapshot


def _rows_of(version: LiveVersion) -> str:
    """What the rows of the newest list depend on: the publication, and who was forgotten since."""
    return f"{version.standing.publication}-{version.changes[2]}"
