"""Whether what was answered a moment ago is still right, and whether PostgreSQL is there to be asked.

One question at a time, at most every few tenths of a second, for all requests together. While PostgreSQL is away,
nobody waits for it: it is asked once a second, beside the requests.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime

from bandicoot_core.calendar import day_of
from bandicoot_core.errors import TransientError
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.live_ranking import LiveRules, LiveVersion, live_version

_log = logging.getLogger(__name__)

_AWAY_SECONDS = 1.0
"""How long PostgreSQL is left alone after it did not answer."""


class DatabaseAwayError(TransientError):
    """PostgreSQL does not answer, or not in time."""


class Watch:
    """Knows the newest version that PostgreSQL has told of. Used from one event loop."""

    def __init__(
        self,
        stores: Installation,
        rules: LiveRules,
        *,
        check_seconds: float,
        database_seconds: float,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stores = stores
        self._rules = rules
        self._check_seconds = check_seconds
        self._database_seconds = database_seconds
        self._clock = clock
        self._monotonic = monotonic
        self._asking: asyncio.Future[None] | None = None
        self._talking_since: float | None = None
        """While the thread that asks is at it."""
        self._known: tuple[LiveVersion | None, float] = (None, float("-inf"))
        """What was told last, and when it was asked: it is as old as its question."""
        self._changed_at = float("-inf")
        self._away: str | None = None
        self._away_until = float("-inf")
        # A thread of its own: when all others wait for a server that hangs, somebody has to find out.
        self._thread = ThreadPoolExecutor(1, "watch")

    @property
    def is_away(self) -> bool:
        """Whether PostgreSQL did not answer when it was last asked."""
        return self._away is not None

    @property
    def last_told(self) -> LiveVersion | None:
        """The last version that was told, however long ago."""
        return self._known[0]

    def rules(self) -> LiveRules:
        """The rules of today."""
        return replace(self._rules, call_date=day_of(self._clock()))

    async def version(self) -> LiveVersion | None:
        """The version as of now, or of at most `check_seconds` ago; None before the first publication.

        Raises DatabaseAwayError at once while PostgreSQL is known to be away, else after the time it is waited for.
        """
        now = self._monotonic()
        oldest = max(now - self._check_seconds, self._changed_at)
        told, asked_at = self._known
        if self._away is None and asked_at > oldest:
            if now - asked_at > self._check_seconds / 2 and not self._is_asking():
                self._ask_beside()  # so that, while many ask, nobody has to wait for it
            return told
        if self._away is not None and (now < self._away_until or self._is_asking()):
            raise DatabaseAwayError(self._away)
        try:
            while True:
                asking = self._asking if self._asking is not None and self._is_asking() else self._ask_beside()
                try:
                    await asyncio.wait_for(asyncio.shield(asking), self._database_seconds)
                except TimeoutError:
                    if self._is_silent():
                        self._note_away(f"PostgreSQL has not answered within {self._database_seconds:g} s")
                        break
                    # Else it was this process that had no time to ask, or to listen.
                told, asked_at = self._known
                if asked_at >= oldest:
                    return told
        except TransientError as error:
            self._note_away(str(error))
        raise DatabaseAwayError(self._away or "PostgreSQL does not answer")

    def look_again(self) -> None:
        """Ask anew at the next question: this process has just changed something."""
        self._changed_at = self._monotonic()

    def note_away(self, error: TransientError) -> None:
        """Take it from a request that PostgreSQL does not answer."""
        self._note_away(str(error))

    def _is_asking(self) -> bool:
        return self._asking is not None and not self._asking.done()

    def _is_silent(self) -> bool:
        """Whether PostgreSQL has been asked for longer than it is waited for."""
        since = self._talking_since
        return since is not None and self._monotonic() - since >= self._database_seconds

    def _ask_beside(self) -> "asyncio.Future[None]":
        """Begin to ask, at once and in a thread, which writes down what it is told however busy the loop is."""
        self._asking = asyncio.get_running_loop().run_in_executor(self._thread, self._ask, self._monotonic())
        self._asking.add_done_callback(self._note)
        return self._asking

    def _ask(self, asked_at: float) -> None:
        self._talking_since = self._monotonic()
        try:
            with self._stores.published() as connection:
                self._known = live_version(connection, self.rules()), asked_at
        finally:
            self._talking_since = None

    def _note(self, asked: "asyncio.Future[None]") -> None:
        """PostgreSQL answers, perhaps too late for who asked."""
        if asked.cancelled() or asked.exception() is not None or self._away is None:
            return
        _log.warning("PostgreSQL answers again")
        self._away = None

    def _note_away(self, why: str) -> None:
        if self._away is None:
            _log.warning("PostgreSQL is away: %s", why)
        self._away, self._away_until = why, self._monotonic() + _AWAY_SECONDS
