"""How often a key may ask: no more than the limit in any window, and no less than it over a long time."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
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


def test_what_may_happen_once_an_hour_happens_once_in_all_processes(redis_server: RedisServer) -> None:
    clock, limit = Clock(), Limit("training", 1, 3600, is_exact=True)

    async def run() -> list[float]:
        with two_processes(redis_server, clock) as (one, other):
            found = await asyncio.gather(*(each.wait_seconds("key", limit) for each in [one, other] * 5))
            clock.seconds += 2 * 3600
            return [*found, await one.wait_seconds("key", limit)]

    *first, later = asyncio.run(run())
    assert first.count(0.0) <= 1
    assert later == 0


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
            await one.wait_seconds("key", Limit("training", 1, 3600, is_exact=True))

    asyncio.run(run())
    with redis_server.client() as client:
        names = list(client.scan_iter())
        assert names
        assert all(0 < client.ttl(name) <= 7200 for name in names)


@pytest.mark.parametrize("n", [1, 3])
def test_without_redis_a_process_still_holds_the_limit(redis_server: RedisServer, n: int) -> None:
    clock = Clock()
    cache = cache_of(redis_server)
    redis_server.kill()
    try:
        limits = RateLimits(cache, wall_clock=clock)
        passed = allowed(limits, clock, Limit("training", n, 3600, is_exact=True), [0, 1, 2, 3, 4])
    finally:
        redis_server.start()
        cache.close()
    assert len(passed) == n
