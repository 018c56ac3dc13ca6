"""How much memory is left before the container would be killed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

TIGHT_SHARE = 0.8
"""From this share of the limit on, nothing is begun that could wait or be done with less."""

FULL_SHARE = 0.92
"""From this share on, requests are sent away."""

_LOOK_SECONDS = 0.1
_LIMIT_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_limit(configured_mb: int | None) -> int:
    """Bytes this process may use: as configured, else the container's limit, else the machine's memory."""
    if configured_mb is not None:
        return configured_mb * 1024 * 1024
    total = psutil.virtual_memory().total
    for name in _LIMIT_FILES:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < total:
            return int(text)
    return int(total)


def process_memory() -> int:
    """Bytes of memory this process holds."""
    return int(psutil.Process().memory_info().rss)


class Memory:
    """Looks at the memory in use, at most ten times a second."""

    def __init__(
        self, limit: int, *, used: Callable[[], int] = process_memory, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit = limit
        self._used = used
        self._monotonic = monotonic
        self._looked_at = float("-inf")
        self._share = 0.0
        self._n_reserved = 0

    @property
    def share(self) -> float:
        """Share of the limit that is in use."""
        now = self._monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._share, self._looked_at = self._used() / self.limit, now
        return self._share

    @property
    def is_tight(self) -> bool:
        """Whether little is left."""
        return self.share >= TIGHT_SHARE

    @property
    def is_full(self) -> bool:
        """Whether the next request could be the one too many."""
        return self.share >= FULL_SHARE

    @contextmanager
    def reserved(self, n_bytes: int) -> Iterator[bool]:
        """Set some bytes aside for the block; what is given is whether there is room for them beside all others'.

        Used from one event loop.
        """
        # To look takes longer than most answers, so who needs nothing does not look.
        has_room = not n_bytes or self._used() + self._n_reserved + n_bytes <= FULL_SHARE * self.limit
        taken = n_bytes if has_room else 0
        self._n_reserved += taken
        try:
            yield has_room
        finally:
            self._n_reserved -= taken

    def look_again(self) -> None:
        """Look anew at the next question, after something was let go."""
        self._looked_at = float("-inf")
