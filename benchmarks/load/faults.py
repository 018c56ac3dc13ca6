"""What breaks while clients read, and how soon they are served as before.

A fault has a moment at which it strikes and one at which it is over; until the next one strikes, what clients were
told is put down to it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.load.judging import LATE_SECONDS
from benchmarks.load.traffic import BROKEN, KINDS, REFUSED, Told

_STALE = KINDS.index("stale")


@dataclass(frozen=True)
class Fault:
    """Something that breaks and is mended."""

    name: str
    after_seconds: float
    """Since the clients are measured."""
    lasts_seconds: float
    strike: Callable[[], object]
    mend: Callable[[], object] = lambda: None
    is_marked: bool = False
    """Whether every answer must say, while it lasts, that PostgreSQL is away."""


@dataclass(frozen=True)
class Struck:
    """A fault that was tried; moments are those of the machine's monotonic clock."""

    fault: Fault
    began_at: float
    has_struck_at: float
    is_mended_from: float
    over_at: float


@dataclass(frozen=True)
class Suffered:
    """What clients were told from a fault's beginning to the next one's."""

    name: str
    lasted_seconds: float
    n_answers: int
    n_refused: int
    n_broken: int
    n_stale: int
    n_unmarked: int
    """Answers of the usual kinds to requests that began and ended while PostgreSQL was away."""
    recovery_seconds: float
    """From the fault's end to the last answer that was an error or stale; 0 when there was none."""
    worst_ms: float
    """95th percentile of the slowest second."""

    @property
    def error_rate(self) -> float:
        """Errors among the answers from the fault's beginning to when all was as before."""
        return (self.n_refused + self.n_broken) / max(self.n_answers, 1)


def strike(faults: Sequence[Fault], *, starting_at: float) -> list[Struck]:
    """Break and mend one thing after the other, each at its moment."""
    struck = []
    for fault in faults:
        time.sleep(max(0.0, starting_at + fault.after_seconds - time.monotonic()))
        began_at = time.monotonic()
        fault.strike()
        has_struck_at = time.monotonic()
        time.sleep(max(0.0, began_at + fault.lasts_seconds - time.monotonic()))
        is_mended_from = time.monotonic()
        fault.mend()
        struck.append(Struck(fault, began_at, has_struck_at, is_mended_from, time.monotonic()))
    return struck


def suffered(told: Told, struck: Sequence[Struck]) -> list[Suffered]:
    """What each fault did to the clients."""
    answered_at, kinds = np.array(told.answered_at), np.array(told.kinds)
    took_ms = np.array(told.took_ms)
    found = []
    is_usual = ~np.isin(kinds, (REFUSED, BROKEN, _STALE))
    for place, fault in enumerate(struck):
        is_within = (answered_at < fault.is_mended_from) & (
            answered_at - took_ms / 1000 > fault.has_struck_at + LATE_SECONDS
        )
        n_unmarked = int((is_within & is_usual).sum()) if fault.fault.is_marked else 0
        until = struck[place + 1].began_at if place + 1 < len(struck) else np.inf
        is_of_fault = (answered_at >= fault.began_at) & (answered_at < until)
        is_abnormal = is_of_fault & ~is_usual
        last = answered_at[is_abnormal].max(initial=fault.over_at)
        is_counted = is_of_fault & (answered_at <= max(last, fault.over_at))
        seconds = (answered_at[is_of_fault] - fault.began_at).astype(int)
        worst = max(
            (float(np.percentile(took_ms[is_of_fault][seconds == second], 95)) for second in np.unique(seconds)),
            default=0.0,
        )
        found.append(
            Suffered(
                fault.fault.name,
                fault.over_at - fault.began_at,
                int(is_counted.sum()),
                int((kinds[is_counted] == REFUSED).sum()),
                int((kinds[is_counted] == BROKEN).sum()),
                int((kinds[is_counted] == _STALE).sum()),
                n_unmarked,
                float(last - fault.over_at),
                worst,
            )
        )
    return found
