"""Who asks: the keys that are valid now, read from PostgreSQL every few seconds, from Redis while it is away.

What a key is, and how its secret is checked, belongs to stores.published.api_keys; what it may do, to guarded_route.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from bandicoot_core.errors import TransientError
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.api_keys import (
    ApiKey,
    is_right,
    keys_as_json,
    keys_from_json,
    list_keys,
    parse_key,
)

_log = logging.getLogger(__name__)

_REDIS_KEY = b"api:keys"
_REDIS_SECONDS = 7 * 86_400
_UNKNOWN_SECONDS = 1.0
"""How soon keys are read again because one came that is not known."""


class Clients:
    """The keys. Used from one event loop."""

    def __init__(
        self,
        stores: Installation,
        *,
        clock: Callable[[], datetime],
        refresh_seconds: float,
        database_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._database_seconds = database_seconds
        self._monotonic = monotonic
        self._keys: Mapping[str, ApiKey] | None = None
        self._read_at = float("-inf")
        self._asked_at = float("-inf")
        self._reading: asyncio.Task[Mapping[str, ApiKey] | None] | None = None

    async def find(self, text: str) -> ApiKey | None:
        """The valid key that a text is; None for any other text. TransientError when no keys can be had at all."""
        parsed = parse_key(text)
        if parsed is None:
            return None
        key_id, secret = parsed
        if self._keys is None or self._monotonic() - self._read_at >= self._refresh_seconds:
            await self._refresh()
        if key_id not in (self._keys or {}) and self._monotonic() - self._read_at >= _UNKNOWN_SECONDS:
            await self._refresh()
        if self._keys is None:
            raise TransientError("keys cannot be checked while PostgreSQL and Redis are both away")
        return self._checked(self._keys.get(key_id), secret)

    def by_id(self, key_id: str) -> ApiKey | None:
        """A key by its public part, if it is valid now; of those read last."""
        key = (self._keys or {}).get(key_id)
        return key if key is not None and key.is_live(self._clock()) else None

    async def refresh_if_old(self) -> None:
        """Read the keys again when that is due. TransientError when none can be had at all."""
        if self._keys is None or self._monotonic() - self._read_at >= self._refresh_seconds:
            await self._refresh()
        if self._keys is None:
            raise TransientError("keys cannot be checked while PostgreSQL and Redis are both away")

    def _checked(self, key: ApiKey | None, secret: str) -> ApiKey | None:
        if not is_right(key, secret) or key is None:
            return None
        return key if key.is_live(self._clock()) else None

    async def _refresh(self) -> None:
        if self._reading is None or self._reading.done():
            self._asked_at = self._monotonic()
            self._reading = asyncio.ensure_future(asyncio.to_thread(self._read))
            self._reading.add_done_callback(self._note)
        try:
            found = await asyncio.wait_for(asyncio.shield(self._reading), self._database_seconds)
        except TimeoutError:
            found = None
        if found is None:
            # Who asked in vain does not ask again at once.
            self._read_at = self._monotonic()
            if self._keys is None:
                self._keys = await asyncio.to_thread(self._read_cached)

    def _note(self, reading: "asyncio.Task[Mapping[str, ApiKey] | None]") -> None:
        """Take the keys, also when they come too late for who asked; they are as old as the question."""
        if reading.cancelled() or reading.exception() is not None:
            return
        found = reading.result()
        if found is not None:
            self._keys, self._read_at = found, self._asked_at

    def _read(self) -> Mapping[str, ApiKey] | None:
        try:
            with self._stores.published() as connection:
                keys = list_keys(connection)
        except TransientError as error:
            _log.warning("keys are those read before: %s", error)
            return None
        if self._stores.cache is not None:
            self._stores.cache.keep(_REDIS_KEY, keys_as_json(keys), seconds=_REDIS_SECONDS)
        return {key.key_id: key for key in keys}

    def _read_cached(self) -> Mapping[str, ApiKey] | None:
        cache = self._stores.cache
        found = cache.read([_REDIS_KEY]) if cache is not None else None
        if cache is None or not found or found[0] is None:
            return None
        try:
            return {key.key_id: key for key in keys_from_json(found[0])}
        except ValueError:
            cache.report_unreadable("keys")
            return None
