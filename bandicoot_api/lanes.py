"""Threads for work that waits for a server: so many for each kind of work, and so many requests that wait for one.

What hangs in one lane leaves the others free, and a lane that is full sends requests away instead of keeping them.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from bandicoot_api.problems import Problem

Result = TypeVar("Result")


class Lane:
    """Threads of one kind of work. Used from one event loop."""

    def __init__(self, name: str, *, n_threads: int, n_waiting: int, on_refused: Callable[[], None]) -> None:
        self._threads = ThreadPoolExecutor(n_threads, name)
        self._n_places = n_threads + n_waiting
        self._on_refused = on_refused
        self._n_inside = 0
        self._lock = threading.Lock()

    async def run(self, work: Callable[[], Result]) -> Result:
        """The result of work in a thread; Problem 503 when as many wait as may.

        Who goes away meanwhile gives up a place in the queue; work that has begun keeps its place to its end.
        """
        with self._lock:
            is_full = self._n_inside >= self._n_places
            self._n_inside += not is_full
        if is_full:
            self._on_refused()
            raise Problem(503, "too many requests wait for this already; come again", code="overloaded", retry_after=5)
        begun = self._threads.submit(work)
        begun.add_done_callback(self._leave)
        return await asyncio.wrap_future(begun)

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _leave(self, _done: "Future[Result]") -> None:
        with self._lock:
            self._n_inside -= 1
