"""Whether what was answered a moment ago is still right, and whether PostgreSQL is there to be asked.

One question at a time, at most every few tenths of a second, for all requests together. While PostgreSQL is away,
nobody waits for it: it is asked once a second, beside the requests.
"""

import asyncio
import logging
import time
from collections.abc import Callable
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
        self._asking: asyncio.Task[LiveVersion | None] | None = None
        self._asking_since = float("-inf")
        self._has_answered = False
        self._told: LiveVersion | None = None
        self._asked_at = float("-inf")
        self._changed_at = float("-inf")
        self._away: str | None = None
        self._away_until = float("-inf")

    @property
    def is_away(self) -> bool:
        """Whether PostgreSQL did not answer when it was last asked."""
        return self._away is not None

    @property
    def last_told(self) -> LiveVersion | None:
        """The last version that was told, however long ago."""
        return self._told

    def rules(self) -> LiveRules:
        """The rules of today."""
        return replace(self._rules, call_date=day_of(self._clock()))

    async def version(self) -> LiveVersion | None:
        """The version as of now, or of at most `check_seconds` ago, however long PostgreSQL takes to tell it; None
        before the first publication.

        Raises DatabaseAwayError at once while PostgreSQL is known to be away, else after the time it is waited for.
        """
        now = self._monotonic()
        oldest = max(now - self._check_seconds, self._changed_at)
        if self._away is None and self._asked_at > oldest:
            return self._told
        if self._away is not None and (now < self._away_until or self._is_asking()):
            raise DatabaseAwayError(self._away)
        try:
            async with asyncio.timeout(self._database_seconds):
                while True:
                    asking, since = self._question()
                    told = await asyncio.shield(asking)
                    if since >= oldest:  # else the answer may be older than what it would stand for
                        return told
        except TimeoutError:
            if self._has_answered and self._asking is not None:  # only this process was too busy to hear it in time
                return await asyncio.shield(self._asking)
            self._note_away(f"PostgreSQL has not answered within {self._database_seconds:g} s")
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

    def _question(self) -> "tuple[asyncio.Task[LiveVersion | None], float]":
        """The question that is under way, or a new one, and when it began."""
        if self._asking is None or self._asking.done():
            self._asking_since, self._has_answered = self._monotonic(), False
            self._asking = asyncio.ensure_future(asyncio.to_thread(self._ask))
            since = self._asking_since
            self._asking.add_done_callback(lambda asked: self._note(asked, since))
        return self._asking, self._asking_since

    def _ask(self) -> LiveVersion | None:
        with self._stores.published() as connection:
            version = live_version(connection, self.rules())
        self._has_answered = True
        return version

    def _note(self, asked: "asyncio.Task[LiveVersion | None]", since: float) -> None:
        """Remember an answer, also one that came too late for who asked. It is as old as its question."""
        if asked.cancelled() or asked.exception() is not None:
            return
        if self._away is not None:
            _log.warning("PostgreSQL answers again")
        self._told, self._asked_at, self._away = asked.result(), since, None

    def _note_away(self, why: str) -> None:
        if self._away is None:
            _log.warning("PostgreSQL is away: %s", why)
        self._away, self._away_until = why, self._monotonic() + _AWAY_SECONDS
