"""Bringing the newest list's indices and states into Redis, and saying what came of it.

Nothing that goes wrong here is a reason for a run to fail: the list is published by then, and consumers read
PostgreSQL instead. So every foreseen failure becomes the outcome of a check. How Redis is filled belongs to stores.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import psycopg

from bandicoot_core.checks import CheckOutcome, Fact
from bandicoot_core.errors import BandicootError, RefusedWriteError, UnreachableError
from bandicoot_core.stores.cache.cache import Cache
from bandicoot_core.stores.cache.current_answers import Standing, standing
from bandicoot_core.stores.cache.fill import Filled, fill_cache, no_fill_under_way
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.postgres.connections import connect

CACHE_IS_FILLED = "cache_is_filled"
CACHE_CHECKS: Mapping[str, str] = {
    CACHE_IS_FILLED: "Redis, where one is configured, holds the indices and states of the newest list.",
}


@dataclass(frozen=True)
class CachedList:
    """What came of filling the cache."""

    outcome: CheckOutcome
    facts: Mapping[str, Fact]


def materialize_index_cache(stores: Installation, call_date: date) -> CachedList:
    """Fill Redis with what the newest list stands on, unless `call_date` is older than what is there.

    Raises nothing that is foreseen: whatever PostgreSQL or Redis refuse is told in the outcome.
    """
    started = time.monotonic()
    try:
        cache = stores.cache
        if cache is None:
            return _told("cache not configured", "No Redis is configured (redis_url); consumers read PostgreSQL.")
        filled = _fill(stores, cache, call_date)
    except UnreachableError as error:
        return _warned("cache unreachable: consumers read PostgreSQL", error)
    except RefusedWriteError as error:
        return _warned("cache refuses: consumers read PostgreSQL", error)
    except (BandicootError, psycopg.Error) as error:
        return _warned("cache not filled: consumers read PostgreSQL", error)
    if isinstance(filled, Standing):
        return _told("left as it is", f"The list of {filled.call_date} is newer than that of {call_date}.")
    return _filled(cache, filled, time.monotonic() - started)


def _fill(stores: Installation, cache: Cache, call_date: date) -> Filled | Standing:
    """What was put into Redis, or what is newer than the list of the day."""
    wait_seconds = cache.options.fill_seconds
    with (
        connect(stores.database_url, limits=stores.limits) as guard,
        no_fill_under_way(guard, wait_seconds=wait_seconds),
        stores.published() as connection,
    ):
        current = standing(connection)
        if current is not None and call_date < _first_day(current):
            return current
        return fill_cache(cache, connection)


def _first_day(current: Standing) -> date:
    """The day of the oldest list that what is current depends on."""
    return current.call_date if current.states is None else current.states.as_of_date + timedelta(days=1)


def _filled(cache: Cache, filled: Filled, seconds: float) -> CachedList:
    facts: dict[str, Fact] = {
        "model_version": filled.standing.model_version,
        "newest_call_date": filled.standing.call_date.isoformat(),
        "publication": filled.standing.publication,
        "n_indices": filled.n_indices,
        "n_states": filled.n_states,
        "seconds": round(seconds, 2),
    }
    if filled.n_evicted is not None:
        facts["n_evicted_keys"] = filled.n_evicted
    if filled.n_evicted:
        text = (
            f"Redis at {cache.place} dropped {filled.n_evicted:,} keys for want of memory while it was filled; what is "
            "missing is read from PostgreSQL. Raise its maxmemory, or set BANDICOOT_REDIS_HAS_STATES=false."
        )
        return CachedList(_outcome(text, is_passed=False), {"status": "filled in part", **facts})
    return _told(
        "filled",
        f"Redis at {cache.place} answers for the list of {filled.standing.call_date}: {filled.n_indices} indices and "
        f"{filled.n_states:,} states.",
        **facts,
    )


def _told(status: str, text: str, **facts: Any) -> CachedList:
    return CachedList(_outcome(text, is_passed=True), {"status": status, **facts})


def _warned(status: str, error: Exception) -> CachedList:
    text = " ".join(str(error).split())
    return CachedList(_outcome(text, is_passed=False), {"status": status, "error": text})


def _outcome(text: str, *, is_passed: bool) -> CheckOutcome:
    return CheckOutcome(CACHE_IS_FILLED, is_passed, False, text)
