"""Answers that are kept for a while, and made once for all who ask the same at the same time.

In memory up to a number of bytes, the least recently used going first. What an answer is, and when it is no longer
right, is in its key: whoever makes the key puts the version of the data into it.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


class Answers:
    """Bytes by key, bounded in memory and time. Used from one event loop."""

    def __init__(self, max_bytes: int, *, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._monotonic = monotonic
        self._kept: OrderedDict[Hashable, tuple[bytes, float]] = OrderedDict()
        self.n_bytes = 0

    def find(self, key: Hashable) -> bytes | None:
        """The answer, if it is kept and not too old."""
        found = self._kept.get(key)
        if found is None:
            return None
        body, until = found
        if self._monotonic() >= until:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return body

    def keep(self, key: Hashable, body: bytes, *, seconds: float | None = None) -> None:
        """Keep an answer, and let go of others for it; one larger than the whole room is not kept."""
        self._drop(key)
        if len(body) > self._max_bytes:
            return
        self._kept[key] = body, self._monotonic() + (self._seconds if seconds is None else seconds)
        self.n_bytes += len(body)
        while self.n_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def clear(self) -> None:
        """Let go of everything."""
        self._kept.clear()
        self.n_bytes = 0

    def _drop(self, key: Hashable) -> None:
        found = self._kept.pop(key, None)
        if found is not None:
            self.n_bytes -= len(found[0])


class Together(Generic[Key, Made]):
    """Work that is done once for all who want it at the same time. Used from one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[Key, asyncio.Task[Made]] = {}

    @property
    def n_under_way(self) -> int:
        """How many different ones are being made."""
        return len(self._under_way)

    def is_under_way(self, key: Key) -> bool:
        """Whether it is being made."""
        return key in self._under_way

    async def make(self, key: Key, work: Callable[[], Awaitable[Made]]) -> Made:
        """The result of `work`, or of the same work that another request has begun.

        Who goes away does not end it for the others.
        """
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.ensure_future(_awaited(work))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._forget(key, done))
        return await asyncio.shield(task)

    def _forget(self, key: Key, done: "asyncio.Task[Made]") -> None:
        self._under_way.pop(key, None)
        if not done.cancelled():
            done.exception()  # seen, also when everybody has gone away


async def _awaited(work: Callable[[], Awaitable[Made]]) -> Made:
    return await work()
