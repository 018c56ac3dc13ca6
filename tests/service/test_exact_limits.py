"""What may be done a few times an hour is done as often in all processes together, and given back when it failed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandicoot_api.exact_limits import ExactLimits
from bandicoot_api.rate_limits import Limit
from tests.servers.redis import RedisServer
from tests.service.test_rate_limits import START, Clock, cache_of

HOURLY = Limit("training", 1, 3600)


@contextmanager
def processes(server: RedisServer, clock: Clock, n: int = 2) -> Iterator[list[ExactLimits]]:
    caches = [cache_of(server) for _ in range(n)]
    yield [ExactLimits(cache, wall_clock=clock) for cache in caches]
    for cache in caches:
        cache.close()


@given(st.integers(1, 5), st.lists(st.floats(0, 10_000), max_size=60).map(sorted))
def test_any_hour_holds_the_limit_and_what_is_refused_would_have_broken_it(n: int, moments: list[float]) -> None:
    clock, limit = Clock(), Limit("training", n, 3600)
    limits = ExactLimits(None, wall_clock=clock)

    async def run() -> None:
        allowed: list[float] = []
        for moment in moments:
            clock.seconds = START + moment
            lately = [each for each in allowed if each > clock.seconds - 3600]
            wait = await limits.wait_seconds("key", limit)
            assert (wait == 0) == (len(lately) < n)
            if wait:
                assert wait == pytest.approx(max(lately[0] + 3600 - clock.seconds, 1))
            else:
                allowed.append(clock.seconds)

    asyncio.run(run())


@pytest.mark.parametrize("n", [1, 3])
def test_of_many_at_the_same_moment_in_two_processes_as_many_are_allowed_as_may_be(
    redis_server: RedisServer, n: int
) -> None:
    clock, limit = Clock(), Limit("training", n, 3600)

    async def run() -> tuple[list[float], float]:
        with processes(redis_server, clock) as (one, other):
            found = await asyncio.gather(*(each.wait_seconds("key", limit) for each in [one, other] * 5))
            clock.seconds += 3601
            return found, await other.wait_seconds("key", limit)

    found, later = asyncio.run(run())
    assert found.count(0.0) == n
    assert all(0 <= wait <= 3600 for wait in found)
    assert later == 0


def test_what_came_to_nothing_is_given_back_once_and_everywhere(redis_server: RedisServer) -> None:
    clock = Clock()

    async def run() -> list[float]:
        with processes(redis_server, clock) as (one, other):
            waits = [await one.wait_seconds("key", HOURLY), await other.wait_seconds("key", HOURLY)]
            await one.give_back("key", HOURLY)
            await one.give_back("key", HOURLY)
            clock.seconds += 1800
            waits.append(await other.wait_seconds("key", HOURLY))
            await one.give_back("key", HOURLY)
            waits.append(await one.wait_seconds("key", HOURLY))
            return waits

    assert asyncio.run(run()) == [0, 3600, 0, 3600]


def test_keys_are_counted_apart_and_leave_redis_by_themselves(redis_server: RedisServer) -> None:
    async def run() -> list[float]:
        with processes(redis_server, Clock()) as (one, other):
            return [await one.wait_seconds("a", HOURLY), await other.wait_seconds("b", HOURLY)]

    assert asyncio.run(run()) == [0, 0]
    with redis_server.client() as client:
        assert all(0 < client.ttl(name) <= 3600 for name in client.scan_iter())


def test_without_redis_and_after_it_has_lost_its_memory_a_process_holds_what_it_has_allowed(
    redis_server: RedisServer,
) -> None:
    clock = Clock()

    async def run() -> list[float]:
        with processes(redis_server, clock, 1) as (one,):
            waits = [await one.wait_seconds("key", HOURLY)]
            redis_server.restart()
            waits.append(await one.wait_seconds("key", HOURLY))
            redis_server.kill()
            try:
                clock.seconds += 3600
                waits += [await one.wait_seconds("key", HOURLY), await one.wait_seconds("key", HOURLY)]
            finally:
                redis_server.start()
            return waits

    assert asyncio.run(run()) == [0, 3600, 0, 3600]
