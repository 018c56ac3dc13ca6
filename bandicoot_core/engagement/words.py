"""Words of bits over a window of weeks: bit k of a word stands for week k of the window, oldest first.

Here: what a window of weeks is, the words it can hold, and the two bit functions that table expressions borrow from
the engine. What is written into the words belongs to history, what is counted from them to counts.

Words are built by comparing instants with the starts of weeks, never by shifting a bit left or by dividing seconds:
Spark takes the literal 1 for a 32-bit number and loses the weeks from the 33rd on, and engines differ in how they
round a fraction of a second.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise

import ibis

from bandicoot_core.calendar import require_sunday, start_of_day

MAX_WEEKS = 62
"""Weeks a window may have: words are signed 64-bit numbers, never negative, with a bit to spare for sums."""


@ibis.udf.agg.builtin
def bit_or(word: int) -> int:
    """The bits set in any word of a group; the engine's own function."""
    raise NotImplementedError("bit_or stands for the engine's function; it is not called in Python")


@ibis.udf.scalar.builtin
def bit_count(word: int) -> int:
    """How many bits of a word are set; the engine's own function."""
    raise NotImplementedError("bit_count stands for the engine's function; it is not called in Python")


def require_window(weeks: Sequence[date]) -> list[date]:
    """The weeks as a list when they are 1 to 62 consecutive Sundays, oldest first; else ValueError."""
    window = [require_sunday(week) for week in weeks]
    if not 1 <= len(window) <= MAX_WEEKS:
        raise ValueError(
            f"a window has 1 to {MAX_WEEKS} weeks, one bit each; found {len(window)}; pass fewer weeks"
            if window
            else f"a window has 1 to {MAX_WEEKS} weeks; found none; pass the Sundays of the training window"
        )
    for previous, week in pairwise(window):
        if week != previous + timedelta(days=7):
            raise ValueError(
                f"the weeks of a window are consecutive Sundays, oldest first; found {week} after {previous}, "
                f"expected {previous + timedelta(days=7)}"
            )
    return window


def bits(first: int, n_weeks: int) -> int:
    """The word with the bits first, ..., n_weeks - 1 set; 0 when first is n_weeks."""
    return (1 << n_weeks) - (1 << first)


def within(instant: ibis.Value, weeks: Sequence[date]) -> ibis.Value:
    """Whether an instant lies in the window: a condition on the bare column, so that files can be skipped."""
    start, end = start_of_day(weeks[0]), start_of_day(weeks[-1] + timedelta(days=7))
    return ibis.and_(instant >= start, instant < end)


def word_of_week(instant: ibis.Value, weeks: Sequence[date], *, first_bit: int = 0) -> ibis.Value:
    """The word with the one bit of the week an instant lies in, for instants within the weeks; int64.

    Bit `first_bit` stands for weeks[0]. An instant outside gets the bit of the nearest week: filter with `within`.
    """
    starts = [start_of_day(week) for week in weeks]
    return _step(instant, starts[1:], [1 << (first_bit + k) for k in range(len(starts))]).cast("int64")


def word_since(instant: ibis.Value, weeks: Sequence[date]) -> ibis.Value:
    """The word with the bits of the weeks that start later than an instant: those she saw whole; int64."""
    starts = [start_of_day(week) for week in weeks]
    return _step(instant, starts, [bits(k, len(starts)) for k in range(len(starts) + 1)]).cast("int64")


def _step(instant: ibis.Value, edges: Sequence[datetime], words: Sequence[int]) -> ibis.Value:
    """words[k] where k is the number of edges at or before an instant, found by halving.

    A balanced tree of comparisons: about log2(n) of them a row, on every engine, exact to the microsecond.
    """
    if not edges:
        return ibis.literal(words[0])
    middle = len(edges) // 2
    earlier = _step(instant, edges[:middle], words[: middle + 1])
    later = _step(instant, edges[middle + 1 :], words[middle + 1 :])
    return ibis.ifelse(instant < edges[middle], earlier, later)
