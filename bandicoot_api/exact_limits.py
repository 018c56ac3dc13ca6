"""What a key may do a few times an hour at most: each time is written down, in Redis for all processes together.

A sliding log. A time is written into a sorted set before it is allowed, and taken out again when there are too many;
Redis orders those that come at once, so that the first n are allowed and the others not. Every process keeps what it
has allowed itself, which is all there is without Redis, and holds when Redis has lost its memory.
"""

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import redis

from bandicoot_api.rate_limits import Limit
from bandicoot_core.stores.cache.cache import Cache

_PREFIX = "taken:"


class ExactLimits:
    """What keys have done lately. Used from one event loop; `wall_clock` gives seconds since 1970, alike everywhere."""

    def __init__(self, cache: Cache | None, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._cache = cache
        self._wall_clock = wall_clock
        self._taken: dict[tuple[str, str], deque[tuple[float, str]]] = {}

    async def wait_seconds(self, client: str, limit: Limit) -> float:
        """Write down that it is done now and return 0 when that is allowed, else the seconds until it will be."""
        now = self._wall_clock()
        taken = self._taken.setdefault((limit.name, client), deque())
        while taken and taken[0][0] <= now - limit.seconds:
            taken.popleft()
        if len(taken) >= limit.n_requests:
            return max(taken[0][0] + limit.seconds - now, 1.0)
        mine = (now, uuid.uuid4().hex)
        taken.append(mine)
        if self._cache is None or self._cache.is_paused:
            return 0.0
        told = await asyncio.to_thread(_written, self._cache, _place(client, limit), mine, limit.seconds)
        if told is None:
            return 0.0
        n_taken, oldest = told
        if n_taken <= limit.n_requests:
            return 0.0
        await self._take_out(client, limit, mine)
        return max(oldest + limit.seconds - now, 1.0)

    async def give_back(self, client: str, limit: Limit) -> None:
        """Strike out the last time that was allowed here: it came to nothing. Without one, nothing happens."""
        taken = self._taken.get((limit.name, client))
        if taken:
            await self._take_out(client, limit, taken[-1])

    async def _take_out(self, client: str, limit: Limit, mine: tuple[float, str]) -> None:
        self._taken[limit.name, client].remove(mine)
        if self._cache is not None and not self._cache.is_paused:
            place = _place(client, limit)
            await asyncio.to_thread(self._cache.ask, lambda server: server.zrem(place, mine[1]))


def _place(client: str, limit: Limit) -> str:
    return f"{_PREFIX}{limit.name}:{client}"


def _written(cache: Cache, place: str, mine: tuple[float, str], seconds: int) -> tuple[int, float] | None:
    """Write a time down, and return how many there are of the last `seconds` and when the first was.

    None when Redis gives no answer.
    """
    moment, name = mine

    def write(server: redis.Redis) -> list[Any]:
        with server.pipeline(transaction=True) as pipeline:
            pipeline.zremrangebyscore(place, "-inf", moment - seconds)
            pipeline.zadd(place, {name: moment})
            pipeline.expire(place, seconds)
            pipeline.zrange(place, 0, -1, withscores=True)
            return pipeline.execute()

    answers = cache.ask(write)
    if answers is None:
        return None
    written = answers[-1]
    return len(written), float(written[0][1])
