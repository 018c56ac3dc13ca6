"""How often a key may ask: counted here at once, and with all other processes through Redis a moment later.

A sliding window of two fixed ones: requests of this window, and of the one before by the share of it that still counts.
Each process counts for itself and exchanges its counts with Redis four times a second, for all keys in one trip, so
that no request waits for Redis; n processes let through at most n times what a key asks within that moment. What may
happen once an hour is counted in Redis before it is allowed. Without Redis each process counts alone.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import redis

from bandicoot_core.stores.cache.cache import Cache

EXCHANGE_SECONDS = 0.25
_PREFIX = "limit:"
_MAX_COUNTERS = 10_000
"""From so many on, old ones are looked for before another is made: addresses of strangers have counters, too."""


@dataclass(frozen=True)
class Limit:
    """So many requests within so many seconds; the name is part of the counter's key."""

    name: str
    n_requests: int
    seconds: int


@dataclass
class _Window:
    """Counts of one key in one window: what others and this process have told Redis, and what is not told yet."""

    told: int = 0
    untold: int = 0

    @property
    def total(self) -> int:
        return self.told + self.untold


@dataclass
class _Counter:
    limit: Limit
    windows: dict[int, _Window] = field(default_factory=dict)

    def window(self, number: int) -> _Window:
        found = self.windows.get(number)
        if found is None:
            found = self.windows[number] = _Window()
            for old in [each for each in self.windows if each < number - 1]:
                del self.windows[old]
        return found


class RateLimits:
    """The counts of all keys. Used from one event loop; `wall_clock` gives seconds since 1970, alike everywhere."""

    def __init__(self, cache: Cache | None, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._cache = cache
        self._wall_clock = wall_clock
        self._counters: dict[tuple[str, str], _Counter] = {}
        self._changed: set[tuple[str, str]] = set()
        self._exchange: asyncio.Task[None] | None = None
        self._exchanged_at = float("-inf")

    async def wait_seconds(self, client: str, limit: Limit) -> float:
        """Count a request and return 0 when it is allowed, else the seconds after which to come again."""
        now = self._wall_clock()
        key = (limit.name, client)
        counter = self._counters.get(key)
        if counter is None or counter.limit != limit:
            if len(self._counters) >= _MAX_COUNTERS:
                self._let_go(now)
            counter = self._counters[key] = _Counter(limit)
        number = int(now // limit.seconds)
        window = counter.window(number)
        before = counter.windows.get(number - 1)
        elapsed = now / limit.seconds - number
        weighted = window.total + (before.total * (1 - elapsed) if before else 0)
        if weighted + 1 > limit.n_requests:
            return _wait(limit, window.total, before.total if before else 0, elapsed)
        window.untold += 1
        self._changed.add(key)
        self._exchange_soon()
        return 0.0

    def _let_go(self, now: float) -> None:
        """Let go of counters that hold nothing that still counts."""
        for key, counter in list(self._counters.items()):
            if max(counter.windows, default=0) < int(now // counter.limit.seconds) - 1:
                del self._counters[key]
                self._changed.discard(key)

    def _exchange_soon(self) -> None:
        """Begin an exchange unless there was one a moment ago or one is under way; nobody waits for it."""
        if self._cache is None or self._cache.is_paused:
            return
        if self._exchange is not None and not self._exchange.done():
            return
        if time.monotonic() - self._exchanged_at < EXCHANGE_SECONDS:
            return
        self._exchanged_at = time.monotonic()
        self._exchange = asyncio.ensure_future(self._exchange_now(set(self._changed)))

    async def _exchange_now(self, keys: set[tuple[str, str]]) -> None:
        if self._cache is None or self._cache.is_paused or not keys:
            return
        now = self._wall_clock()
        sent: list[tuple[_Window, int, str, int]] = []
        for name, client in keys:
            counter = self._counters[name, client]
            number = int(now // counter.limit.seconds)
            for each in (number, number - 1):
                window = counter.windows.get(each) if each != number else counter.window(number)
                if window is not None:
                    place = f"{_PREFIX}{name}:{client}:{each}"
                    sent.append((window, window.untold, place, 2 * counter.limit.seconds))
        self._changed -= keys
        totals = await asyncio.to_thread(_exchanged, self._cache, [(n, place, ttl) for _, n, place, ttl in sent])
        if totals is None:
            return
        for (window, n_sent, _, _), total in zip(sent, totals, strict=True):
            window.told = total
            window.untold -= n_sent


def _exchanged(cache: Cache, counts: list[tuple[int, str, int]]) -> list[int] | None:
    """Add to counters in Redis and return what they stand at; None when Redis gives no answer."""

    def add(client: redis.Redis) -> list[Any]:
        with client.pipeline(transaction=False) as pipeline:
            for n, place, seconds in counts:
                pipeline.incrby(place, n)
                pipeline.expire(place, seconds)
            return pipeline.execute()

    answers = cache.ask(add)
    return None if answers is None else [int(total) for total in answers[::2]]


def _wait(limit: Limit, n_now: int, n_before: int, elapsed: float) -> float:
    """Seconds until one more request is within the limit, were nothing else asked."""
    room = limit.n_requests - 1 - n_now
    if room >= 0 and n_before:
        # Of the window before, at most `room` may still count.
        return max((1 - room / n_before - elapsed) * limit.seconds, 1.0)
    rest = (1 - elapsed) * limit.seconds
    # Then this window is the one before.
    share = max(0.0, 1 - (limit.n_requests - 1) / n_now) if n_now else 0.0
    return max(rest + share * limit.seconds, 1.0)
