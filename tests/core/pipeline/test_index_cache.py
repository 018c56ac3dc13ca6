"""Whatever is wrong with a real Redis, filling it ends in time, says so, and readers are answered by PostgreSQL."""

import json
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from bandicoot_core.pipeline.index_cache import CachedList, materialize_index_cache
from bandicoot_core.settings import Settings
from bandicoot_core.stores.cache.cache import forget
from bandicoot_core.stores.cache.current_reader import CACHE, DATABASE
from bandicoot_core.stores.cache.fill import no_fill_under_way
from bandicoot_core.stores.installation import Installation
from tests.registered_caregivers import publish_everybody, register_caregivers
from tests.registered_models import register
from tests.servers.redis import RedisServer, cut_after

DAY = date(2026, 11, 20)
N_CAREGIVERS = 3000
IDS = [f"CG-{number:05d}" for number in range(N_CAREGIVERS)]

LONGEST_SECONDS = 8.0
"""Connecting and one answer are waited for two seconds each; the rest is a busy machine."""

UNREACHABLE = "cache unreachable: consumers read PostgreSQL"
NOT_FILLED = "cache not filled: consumers read PostgreSQL"
REFUSES = "cache refuses: consumers read PostgreSQL"


@pytest.fixture
def installation(published_url: str, tmp_path: Path) -> Installation:
    """An installation without Redis whose list of DAY is published, with everybody's state."""
    installation = Installation(Settings(home=tmp_path, database_url=published_url))
    with installation.published() as connection:
        register(connection, "m-1")
        register_caregivers(connection, IDS, experiment="autumn", seen_at=datetime(2026, 11, 1, tzinfo=UTC))
        publish(connection, "R", "run-1")
    return installation


def publish(connection: psycopg.Connection, state: str, run_id: str) -> None:
    """Publish the list of DAY, empty, with everybody in one state."""
    published_at = datetime(2026, 11, 19, 19, 35, tzinfo=UTC)
    publish_everybody(connection, N_CAREGIVERS, state, call_date=DAY, run_id=run_id, published_at=published_at)


def with_redis(installation: Installation, url: str, **settings: object) -> Installation:
    changes = {"redis_url": SecretStr(url), "redis_check_seconds": 0.0, **settings}
    return Installation(installation.settings.model_copy(update=changes))


def in_time(installation: Installation, day: date = DAY) -> CachedList:
    started = time.monotonic()
    made = materialize_index_cache(installation, day)
    assert time.monotonic() - started < LONGEST_SECONDS
    return made


def test_without_redis_nothing_is_filled_and_that_is_no_fault(installation: Installation) -> None:
    made = in_time(installation)
    assert (made.facts["status"], made.outcome.is_passed) == ("cache not configured", True)
    assert installation.current.read_states(IDS).came_from == DATABASE


def test_what_is_filled_is_counted_and_answers_for_everybody(
    installation: Installation, redis_server: RedisServer
) -> None:
    cached = with_redis(installation, redis_server.url)
    made = in_time(cached)
    assert (made.facts["status"], made.outcome.is_passed) == ("filled", True)
    assert (made.facts["n_states"], made.facts["n_indices"]) == (N_CAREGIVERS, 4)
    assert len(redis_server.names()) == N_CAREGIVERS + 4 + 2  # what is current, and the list
    assert cached.current.read_states(IDS).came_from == CACHE
    assert cached.current.read_states(IDS) == installation.current.read_states(IDS)
    with redis_server.client() as client:
        assert all(client.ttl(name) > 0 for name in redis_server.names())


def _killed(server: RedisServer) -> Iterator[str]:
    server.kill()
    yield server.url


def _paused(server: RedisServer) -> Iterator[str]:
    server.pause()
    yield server.url
    server.resume()


def _full(server: RedisServer) -> Iterator[str]:
    server.configure(maxmemory="1mb", maxmemory_policy="noeviction")
    yield server.url


def _full_on_the_way(server: RedisServer) -> Iterator[str]:
    server.flush()
    server.configure(maxmemory=str(server.used_memory() + 400_000), maxmemory_policy="noeviction")
    yield server.url


def _too_small_for_all(server: RedisServer) -> Iterator[str]:
    server.flush()
    server.configure(maxmemory=str(server.used_memory() + 400_000), maxmemory_policy="volatile-lru")
    yield server.url


def _nobody_listens(_: RedisServer) -> Iterator[str]:
    yield "redis://user:open-sesame@127.0.0.1:9/0"


def _no_such_host(_: RedisServer) -> Iterator[str]:
    yield "redis://user:open-sesame@cache.invalid:6379/0"


def _cut_on_the_way(server: RedisServer) -> Iterator[str]:
    with cut_after(server, 200_000) as url:
        yield url


def _read_only(server: RedisServer) -> Iterator[str]:
    with server.client() as client:
        client.acl_setuser("looker", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@read", "+@connection"])
    yield server.url.replace("redis://", "redis://looker:pw@")


def _wrong_password(server: RedisServer) -> Iterator[str]:
    server.configure(requirepass="right")
    yield server.url.replace("redis://", "redis://:open-sesame@")


FAULTS = {
    _killed: UNREACHABLE,
    _paused: UNREACHABLE,
    _nobody_listens: UNREACHABLE,
    _no_such_host: UNREACHABLE,
    _wrong_password: UNREACHABLE,
    _cut_on_the_way: UNREACHABLE,
    _full: REFUSES,
    _full_on_the_way: REFUSES,
    _read_only: REFUSES,
    _too_small_for_all: "filled in part",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_a_fault_of_redis_costs_little_time_and_no_answer(
    installation: Installation, redis_server: RedisServer, fault: Callable[[RedisServer], Iterator[str]]
) -> None:
    healthy = with_redis(installation, redis_server.url)
    in_time(healthy)
    with installation.published() as connection:
        publish(connection, "U", "run-2")
    acting = fault(redis_server)
    try:
        broken = with_redis(installation, next(acting))
        made = in_time(broken)
        assert (made.facts["status"], made.outcome.is_passed, made.outcome.is_blocking) == (FAULTS[fault], False, False)
        assert "open-sesame" not in f"{made.outcome.description} {made.facts}"
        started = time.monotonic()
        for _ in range(3):
            found = broken.current.read_states(IDS)
            assert {facts.state for facts in found.states.values()} == {"U"}
            assert found == installation.current.read_states(IDS)
            assert broken.current.read_indices().model_version == "m-1"
        assert time.monotonic() - started < LONGEST_SECONDS
    finally:
        next(acting, None)
        redis_server.restart()
    assert in_time(healthy).outcome.is_passed
    assert healthy.current.read_states(IDS).came_from == CACHE


@pytest.mark.parametrize("fault", ["kill", "flush"])
def test_a_redis_that_dies_or_is_flushed_at_any_moment_of_a_fill_is_never_half_believed(
    installation: Installation, redis_server: RedisServer, fault: str
) -> None:
    seed = int(os.environ.get("BANDICOOT_FAULT_SEED", secrets.randbits(32)))
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311 - moments of faults
    cached = with_redis(installation, redis_server.url)
    for number in range(4 * int(os.environ.get("BANDICOOT_FAULT_TRIES", "1"))):
        with installation.published() as connection:
            publish(connection, "RU"[number % 2], f"run-{number}")
        timer = threading.Timer(chance.uniform(0, 0.12), getattr(redis_server, fault))
        timer.start()
        made = in_time(cached)
        timer.join()
        if fault == "kill":
            redis_server.start()
        fresh = with_redis(installation, redis_server.url)
        for reader in (fresh.current, cached.current):
            found = reader.read_states(IDS)
            assert {facts.state for facts in found.states.values()} == {"RU"[number % 2]}, made.facts
            assert len(found.states) == N_CAREGIVERS
        assert fresh.current.read_indices().indices.num_rows == 4
    assert in_time(cached).outcome.is_passed


def test_a_url_that_is_none_is_told_and_the_run_goes_on(installation: Installation) -> None:
    made = in_time(with_redis(installation, "http://user:open-sesame@cache"))
    assert made.facts["status"] == NOT_FILLED
    assert "BANDICOOT_REDIS_URL" in made.outcome.description
    assert "open-sesame" not in made.outcome.description


def test_postgresql_that_fails_meanwhile_is_told_and_the_run_goes_on(
    installation: Installation, redis_server: RedisServer
) -> None:
    cached = with_redis(installation, redis_server.url)
    with installation.published() as connection:
        connection.execute("ALTER TABLE bandicoot.caregiver_states RENAME COLUMN district TO place")
    made = in_time(cached)
    assert made.facts["status"] == NOT_FILLED
    assert "district" in made.outcome.description


def test_a_fill_that_takes_too_long_is_ended_and_what_it_wrote_is_not_believed(
    installation: Installation, redis_server: RedisServer
) -> None:
    hurried = with_redis(installation, redis_server.url, redis_fill_seconds=1e-6)
    made = in_time(hurried)
    assert (made.facts["status"], made.outcome.is_passed) == (UNREACHABLE, False)
    assert "BANDICOOT_REDIS_FILL_SECONDS" in made.outcome.description
    with redis_server.client() as client:
        assert json.loads(client.get("whittle:current"))["states"] is None
    assert hurried.current.read_indices().came_from == CACHE
    assert hurried.current.read_states(IDS[:3]).came_from == DATABASE


def test_a_list_of_an_older_day_leaves_the_cache_of_the_newest(
    installation: Installation, redis_server: RedisServer
) -> None:
    cached = with_redis(installation, redis_server.url)
    made = in_time(cached, DAY - timedelta(days=1))
    assert (made.facts["status"], made.outcome.is_passed) == ("left as it is", True)
    assert redis_server.names() == set()


def test_a_second_fill_waits_for_the_first_and_no_longer_than_configured(
    installation: Installation, redis_server: RedisServer
) -> None:
    cached = with_redis(installation, redis_server.url, redis_fill_seconds=0.3)
    with installation.published() as other, no_fill_under_way(other, wait_seconds=1):
        made = in_time(cached)
        assert (made.facts["status"], made.outcome.is_passed) == (NOT_FILLED, False)
        assert "by another run" in made.outcome.description
    patient = with_redis(installation, redis_server.url)
    with installation.published() as other:
        with no_fill_under_way(other, wait_seconds=1):
            waiting = threading.Thread(target=materialize_index_cache, args=(patient, DAY))
            waiting.start()
            time.sleep(0.2)
            assert waiting.is_alive()
            assert redis_server.names() == set()
        waiting.join()
    assert patient.current.read_states(IDS).came_from == CACHE


def test_a_caregiver_who_is_forgotten_is_not_written_again_by_a_fill_under_way(
    installation: Installation, redis_server: RedisServer
) -> None:
    cached = with_redis(installation, redis_server.url)
    forgotten, removed = b"state:" + IDS[-1].encode(), []
    filling = threading.Thread(target=materialize_index_cache, args=(cached, DAY))
    redis_server.pause()  # the fill has read her and waits for Redis
    filling.start()
    time.sleep(0.3)
    with installation.published() as connection:
        connection.execute("DELETE FROM bandicoot.caregiver_states WHERE caregiver_id = %s", (IDS[-1],))

    def forget_her() -> None:
        assert cached.cache is not None
        with cached.published() as guard, no_fill_under_way(guard, wait_seconds=60):
            removed.append(forget(cached.cache, IDS[-1]))

    forgetting = threading.Thread(target=forget_her)
    forgetting.start()
    time.sleep(0.1)
    redis_server.resume()
    filling.join()
    forgetting.join()
    assert removed == [2]  # her state, and the list
    assert forgotten not in redis_server.names()
    assert IDS[-1] not in cached.current.read_states(IDS).states
