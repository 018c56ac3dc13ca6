"""The newest published list in this process: read once a publication, and from Redis while PostgreSQL is away."""

import asyncio

from bandicoot_api.answers import Together
from bandicoot_core.stores.cache.current_answers import Standing
from bandicoot_core.stores.cache.list_snapshot import ListSnapshot, cached_snapshot, keep_snapshot, read_snapshot
from bandicoot_core.stores.installation import Installation


class NewestList:
    """One list in memory. Used from one event loop."""

    def __init__(self, stores: Installation, *, database_seconds: float) -> None:
        self._stores = stores
        self._database_seconds = database_seconds
        self._held: ListSnapshot | None = None
        self._held_as = ""
        self._reading: Together[str, ListSnapshot] = Together()

    async def read(self, current: Standing, *, changes: str) -> ListSnapshot:
        """The list that PostgreSQL calls the newest; TransientError when it cannot be read in time.

        `changes` is another text when the list's rows may have changed within the publication.
        """
        name = f"{current.publication}-{changes}"
        if self._held is not None and self._held_as == name:
            return self._held
        snapshot = await self._reading.make(name, lambda: asyncio.to_thread(self._read, current))
        self._held, self._held_as = snapshot, name
        return snapshot

    async def read_cached(self) -> ListSnapshot | None:
        """The list that Redis holds, which may be an older one; None when it holds none or does not answer."""
        cache = self._stores.cache
        return None if cache is None else await asyncio.to_thread(cached_snapshot, cache)

    def _read(self, current: Standing) -> ListSnapshot:
        with self._stores.published() as connection:
            snapshot = read_snapshot(connection, current)
        if self._stores.cache is not None:
            keep_snapshot(self._stores.cache, snapshot)
        return snapshot
