"""What the words of a history say, counted: transitions per caregiver, distinct tuples, and the weekly curve.

Here: sums over bits and rows of ENGAGEMENT_HISTORY. Not here: how the words come about (history), and the estimates
made from the counts (model).

With o, c and v the opened, called and observed words of a caregiver, the transition from week k to week k + 1 is
counted when both weeks are observed. It is active when a call was attempted in week k, else passive:

    t = v & (v >> 1)        a = t & c        p = t & not c
    n_rr = |p & o & (o >> 1)|        n_ru = |p & o & not (o >> 1)|
    n_ur = |p & not o & (o >> 1)|    n_uu = |p & not o & not (o >> 1)|

where |x| is the number of bits set; the active counts have a in the place of p. `x & not y` is written x ^ (x & y),
which never makes a negative number.
"""

from collections.abc import Sequence
from datetime import date

import ibis

from bandicoot_core.contracts import ACTIVE_TUPLE, PASSIVE_TUPLE
from bandicoot_core.engagement.words import bit_count, require_window

RECENT_PASSIVE_TUPLE = tuple(f"recent_{name[2:]}" for name in PASSIVE_TUPLE)
RECENT_ACTIVE_TUPLE = tuple(f"recent_{name[2:]}" for name in ACTIVE_TUPLE)
"""The same transitions with recent weeks weighing more."""


def transition_counts(history: ibis.Table) -> ibis.Table:
    """caregiver_key and her 8 counts, PASSIVE_TUPLE then ACTIVE_TUPLE, int16, in weeks; one row per row of history.

    `history` follows ENGAGEMENT_HISTORY. The 8 counts of a row add up to its observed pairs of weeks.
    """
    pairs, active = _pairs(history)
    return history.select(
        "caregiver_key",
        **_tuple(history, pairs ^ active, PASSIVE_TUPLE),
        **_tuple(history, active, ACTIVE_TUPLE),
    )


def passive_counts(history: ibis.Table) -> ibis.Table:
    """Distinct tuples of passive counts and how many caregivers have each [PASSIVE_COUNTS], in one pass.

    `history` follows ENGAGEMENT_HISTORY. Caregivers without a passive transition make up the tuple (0, 0, 0, 0), so
    that n_caregivers adds up to the rows of the history.
    """
    pairs, active = _pairs(history)
    tuples = history.select(**_tuple(history, pairs ^ active, PASSIVE_TUPLE))
    return tuples.group_by(list(PASSIVE_TUPLE)).aggregate(n_caregivers=tuples.count())


def responsive_share_by_week(history: ibis.Table, *, weeks: Sequence[date]) -> ibis.Table:
    """week_date, n_observed, n_responsive: caregivers observed in each week, and those of them who opened; int64.

    `history` follows ENGAGEMENT_HISTORY over `weeks`; every week has a row, with zeros when nobody was observed.
    Raises ValueError unless the weeks are 1 to 62 consecutive Sundays, oldest first.
    """
    window = require_window(weeks)
    calendar = ibis.memtable(
        {"week": list(range(len(window))), "week_date": window},
        schema={"week": "int32", "week_date": "date"},
    )
    both = history.cross_join(calendar)
    # Counting under a condition keeps the type: DuckDB adds 64-bit numbers up to a 128-bit sum.
    counted = both.group_by("week_date").aggregate(
        n_observed=both.count(where=_has_bit(both.observed_weeks, both.week)),
        n_responsive=both.count(where=_has_bit(both.opened_weeks, both.week)),
    )
    joined = calendar.left_join(counted, "week_date")
    return joined.select(
        "week_date", n_observed=joined.n_observed.fill_null(0), n_responsive=joined.n_responsive.fill_null(0)
    )


def _pairs(history: ibis.Table) -> tuple[ibis.Value, ibis.Value]:
    """Words of the weeks k observed together with week k + 1, and of those of them with a call."""
    pairs = history.observed_weeks & (history.observed_weeks >> 1)
    return pairs, pairs & history.called_weeks


def _tuple(history: ibis.Table, counted: ibis.Value, names: Sequence[str]) -> dict[str, ibis.Value]:
    """Transitions of the counted weeks from R to R, R to U, U to R and U to U, by name."""
    next_opened = history.opened_weeks >> 1
    from_r = counted & history.opened_weeks
    from_u = counted ^ from_r
    rr, ur = from_r & next_opened, from_u & next_opened
    words = (rr, from_r ^ rr, ur, from_u ^ ur)
    return {name: bit_count(word).cast("int16") for name, word in zip(names, words, strict=True)}


def _has_bit(word: ibis.Value, k: ibis.Value) -> ibis.Value:
    return ((word >> k) & 1) == 1
