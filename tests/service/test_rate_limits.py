"""How often a key may ask: no more than the limit in any window, and no less than it over a long time."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from bandicoot_api.rate_limits import Limit, RateLimits
from bandicoot_core.settings import Settings
from bandicoot_core.stores.cache.cache import Cache, open_cache
from tests.servers.redis import RedisServer

START = 1_700_000_000.0


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.seconds = START

    def __call__(self) -> float:
        return self.seconds


def allowed(limits: RateLimits, clock: Clock, limit: Limit, moments: list[float]) -> list[float]:
    """The moments at which a request was let through."""

    async def run() -> list[float]:
        passed = []
        for moment in moments:
            clock.seconds = START + moment
            if await limits.wait_seconds("key", limit) == 0:
                passed.append(moment)
        return passed

    return asyncio.run(run())


@given(st.integers(1, 20), st.lists(st.floats(0, 300), max_size=200).map(sorted))
def test_no_window_holds_twice_the_limit_and_no_fixed_window_more_than_it(n: int, moments: list[float]) -> None:
    clock = Clock()
    passed = allowed(RateLimits(None, wall_clock=clock), clock, Limit("read", n, 60), moments)
    for first in passed:
        assert sum(first <= each < first + 60 for each in passed) < 2 * n + 1
    numbers = [int((START + each) // 60) for each in passed]
    assert all(numbers.count(number) <= n for number in numbers)


def test_who_asks_evenly_gets_what_the_limit_says() -> None:
    clock = Clock()
    passed = allowed(RateLimits(None, wall_clock=clock), clock, Limit("read", 60, 60), [i * 1.05 for i in range(600)])
    assert len(passed) >= 570


@given(st.integers(1, 10), st.lists(st.floats(0, 180), min_size=1, max_size=60).map(sorted))
def test_who_waits_as_long_as_told_is_let_through(n: int, moments: list[float]) -> None:
    async def run() -> None:
        clock = Clock()
        limits, limit = RateLimits(None, wall_clock=clock), Limit("read", n, 60)
        for moment in moments:
            clock.seconds = max(clock.seconds, START + moment)
            wait = await limits.wait_seconds("key", limit)
            if wait:
                clock.seconds += wait + 0.001
                assert await limits.wait_seconds("key", limit) == 0

    asyncio.run(run())


def test_keys_and_limits_are_counted_apart() -> None:
    async def run() -> list[float]:
        limits = RateLimits(None)
        return [
            await limits.wait_seconds(key, Limit(name, 1, 60))
            for key, name in [("a", "read"), ("b", "read"), ("a", "bulk")]
        ]

    assert asyncio.run(run()) == [0, 0, 0]


def cache_of(server: RedisServer) -> Cache:
    cache = open_cache(Settings(redis_url=server.url))
    assert cache is not None
    return cache


@contextmanager
def two_processes(server: RedisServer, clock: Clock) -> Iterator[tuple[RateLimits, RateLimits]]:
    one, other = cache_of(server), cache_of(server)
    yield RateLimits(one, wall_clock=clock), RateLimits(other, wall_clock=clock)
    one.close()
    other.close()


def test_counts_are_exchanged_through_redis_within_a_moment(redis_server: RedisServer) -> None:
    clock, limit = Clock(), Limit("read", 10, 60)

    async def run() -> float:
        with two_processes(redis_server, clock) as (one, other):
            for _ in range(9):
                await one.wait_seconds("key", limit)
            await asyncio.sleep(0.3)
            assert await one.wait_seconds("key", limit) == 0  # begins the exchange
            await asyncio.sleep(0.3)
            await other.wait_seconds("key", limit)
            await asyncio.sleep(0.3)
            return await other.wait_seconds("key", limit)

    assert asyncio.run(run()) > 0


def test_counters_leave_redis_by_themselves(redis_server: RedisServer) -> None:
    async def run() -> None:
        with two_processes(redis_server, Clock()) as (one, _):
            await one.wait_seconds("key", Limit("read", 10, 60))
            await asyncio.sleep(0.3)

    asyncio.run(run())
    with redis_server.client() as client:
        names = list(client.scan_iter())
        assert names
        assert all(0 < client.ttl(name) <= 120 for name in names)


def test_counters_of_strangers_do_not_fill_the_memory() -> None:
    async def run() -> int:
        clock = Clock()
        limits, limit = RateLimits(None, wall_clock=clock), Limit("sign-in", 5, 60)
        for number in range(30_000):
            clock.seconds += 0.05
            await limits.wait_seconds(f"address {number}", limit)
        return len(limits._counters)

    assert asyncio.run(run()) <= 10_000
