"""The connection to Redis: bounded in time for readers, asked no more for a while after it failed, and forgetting.

Everything in Redis can be rebuilt from PostgreSQL, so a reader never waits for it: `Cache.read` and `Cache.keep` answer
within the configured time or say that there is nothing, and a Redis that failed is left alone for a while. Whoever must
know that something was written or removed uses `writing` and `forget`, which raise. Keys and values belong to
cache_keys.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bandicoot_core.errors import InvalidSettingError, RefusedWriteError, UnreachableError
from bandicoot_core.settings import Settings
from bandicoot_core.stores.cache.keys import LIST_KEY, LIST_NAME_KEY, RECOMMENDATION_PREFIX, state_key

_KEYS_AT_ONCE = 1000
_WRITING_TIMEOUT_SECONDS = 2.0
"""How long a writer waits for each answer: more than a reader, since nobody waits for the writer."""

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CacheOptions:
    """How long things are waited for and kept, in seconds."""

    timeout_seconds: float
    pause_seconds: float
    fill_seconds: float
    check_seconds: float
    index_seconds: int
    state_seconds: int
    recommendation_seconds: int
    has_states: bool


class Cache:
    """One Redis. It may be shared between threads; connections are made when first needed."""

    def __init__(self, url: str, options: CacheOptions, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self.tallies: Counter[str] = Counter()
        """What happened to reads and keeps: `answered`, `failed`, `refused` to keep, `skipped` while paused,
        `unreadable` values."""
        self._monotonic = monotonic
        self._paused_until = float("-inf")
        self._url = url
        self._client = self._open(options.timeout_seconds)

    @property
    def place(self) -> str:
        """Where the server is, without user and password."""
        at = self._client.connection_pool.connection_kwargs
        return str(at["path"]) if "path" in at else f"{at.get('host', 'localhost')}:{at.get('port', 6379)}"

    @property
    def is_paused(self) -> bool:
        """Whether the server failed a moment ago and is not asked."""
        return self._monotonic() < self._paused_until

    def read(self, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """The values of some keys, None for what is absent or of another type; None when Redis gives no answer.

        Each thousand keys take at most the configured time, and the first failure ends it.
        """
        if self.is_paused:
            self.tallies["skipped"] += 1
            return None
        found: list[bytes | None] = []
        deadline = self._monotonic()
        try:
            for first in range(0, len(keys), _KEYS_AT_ONCE):
                # Answers that trickle in never time out by themselves.
                if first and self._monotonic() > deadline:
                    raise redis.TimeoutError(f"{first:,} answers took longer than the configured time")
                deadline += self.options.timeout_seconds
                found += cast(list[bytes | None], self._client.mget(keys[first : first + _KEYS_AT_ONCE]))
        except (redis.RedisError, OSError) as error:
            self._pause(error)
            return None
        self.tallies["answered"] += 1
        return found

    def keep(self, key: bytes, value: bytes, *, seconds: int) -> bool:
        """Keep a value for some seconds; False when Redis does not take it."""
        if self.is_paused:
            self.tallies["skipped"] += 1
            return False
        try:
            self._client.set(key, value, ex=seconds)
        except redis.ResponseError as error:  # full, or read only: it can still be read
            if not self.tallies["refused"]:
                _log.warning("Redis at %s takes no value (%s)", self.place, _words(error))
            self.tallies["refused"] += 1
            return False
        except (redis.RedisError, OSError) as error:
            self._pause(error)
            return False
        self.tallies["answered"] += 1
        return True

    def ask(self, work: Callable[[redis.Redis], Answer]) -> Answer | None:
        """What `work` gets from the server within the configured time for each answer; None when it gives none."""
        if self.is_paused:
            self.tallies["skipped"] += 1
            return None
        try:
            answer = work(self._client)
        except (redis.RedisError, OSError) as error:
            self._pause(error)
            return None
        self.tallies["answered"] += 1
        return answer

    def report_unreadable(self, what: str) -> None:
        """Tally a value that is not what its key promises, and say so once; `what` names no caregiver."""
        if not self.tallies["unreadable"]:
            _log.warning("Redis at %s holds %s that cannot be read; PostgreSQL is read instead", self.place, what)
        self.tallies["unreadable"] += 1

    @contextmanager
    def writing(self, doing: str) -> Iterator[redis.Redis]:
        """A client of its own that waits longer for answers; it is closed at the end, paused or not.

        Raises UnreachableError when Redis does not answer, RefusedWriteError when it answers with an error. `doing`
        says, for those messages, what was under way.
        """
        client = self._open(_WRITING_TIMEOUT_SECONDS)
        try:
            yield client
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise UnreachableError(
                f"{doing}: Redis at {self.place} does not answer ({_words(error)}); nothing is lost, PostgreSQL is "
                "read instead; start Redis or correct BANDICOOT_REDIS_URL"
            ) from error
        except redis.RedisError as error:
            raise RefusedWriteError(
                f"{doing}: Redis at {self.place} refuses ({_words(error)}); nothing is lost, PostgreSQL is read "
                "instead; raise maxmemory with policy volatile-lru when it is full, or allow the user to write"
            ) from error
        finally:
            client.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _open(self, timeout_seconds: float) -> redis.Redis:
        client: redis.Redis | None
        try:
            client = redis.Redis.from_url(
                self._url,
                socket_connect_timeout=timeout_seconds,
                socket_timeout=timeout_seconds,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        except (ValueError, TypeError):
            client = None  # the parser's own message may quote the URL, and with it the password
        if client is None:
            raise InvalidSettingError(
                "redis_url cannot be read; write it as redis://user:password@host:port/0, rediss:// for TLS or "
                "unix:///path/to/socket, with special characters in the password percent-encoded (the URL is not "
                "shown because it may hold a password); set BANDICOOT_REDIS_URL"
            )
        return client

    def _pause(self, error: Exception) -> None:
        self.tallies["failed"] += 1
        self._paused_until = self._monotonic() + self.options.pause_seconds
        _log.warning(
            "Redis at %s does not serve (%s); PostgreSQL is read for the next %g s",
            self.place,
            _words(error),
            self.options.pause_seconds,
        )


def open_cache(settings: Settings) -> Cache | None:
    """The cache of some settings; None when none is configured. InvalidSettingError when the URL cannot be read."""
    url = settings.redis_url.get_secret_value() if settings.redis_url is not None else ""
    if not url:
        return None
    return Cache(
        url,
        CacheOptions(
            timeout_seconds=settings.redis_timeout_seconds,
            pause_seconds=settings.redis_pause_seconds,
            fill_seconds=settings.redis_fill_seconds,
            check_seconds=settings.redis_check_seconds,
            index_seconds=round(settings.redis_index_days * 86_400),
            state_seconds=round(settings.redis_state_days * 86_400),
            recommendation_seconds=round(settings.redis_recommendation_hours * 3_600),
            has_states=settings.redis_has_states,
        ),
    )


def forget(cache: Cache, caregiver_id: str) -> int:
    """Remove what Redis may hold of a caregiver, and return how many keys there were.

    That is her state, and the newest list and every recommendation, since any may name her; these are made anew. Hold
    Lock.CACHE (cache_fill.no_fill_under_way) and remove her from PostgreSQL before: a fill under way could write her
    again. Raises UnreachableError or RefusedWriteError; her state then lasts until its time is over.
    """
    with cache.writing("forgetting a caregiver in the cache") as client:
        n_removed = int(client.unlink(state_key(caregiver_id), LIST_KEY, LIST_NAME_KEY))
        found: list[bytes] = []
        for key in client.scan_iter(match=RECOMMENDATION_PREFIX + b"*", count=_KEYS_AT_ONCE):
            found.append(key)
            if len(found) == _KEYS_AT_ONCE:
                n_removed += int(client.unlink(*found))
                found.clear()
        if found:
            n_removed += int(client.unlink(*found))
    return n_removed


def drop_states(cache: Cache, caregiver_ids: Sequence[str]) -> int:
    """Remove the states of some caregivers, which have changed in PostgreSQL; returns how many there were.

    Hold Lock.CACHE and commit the change before, as for forget; readers ask PostgreSQL for them then. Raises
    UnreachableError or RefusedWriteError.
    """
    n_removed = 0
    with cache.writing("removing states that have changed") as client:
        for first in range(0, len(caregiver_ids), _KEYS_AT_ONCE):
            n_removed += int(client.unlink(*map(state_key, caregiver_ids[first : first + _KEYS_AT_ONCE])))
    return n_removed


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
