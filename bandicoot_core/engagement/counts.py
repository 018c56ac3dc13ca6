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
from functools import reduce
from operator import add

import ibis

from bandicoot_core.contracts import ACTIVE_TUPLE, PASSIVE_TUPLE
from bandicoot_core.engagement.words import MAX_WEEKS, bit_count, require_window

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


def recent_transition_counts(history: ibis.Table, *, n_weeks: int, half_life_weeks: float) -> ibis.Table:
    """transition_counts, and beside them the same 8 sums with recent weeks weighing more, float64, in weeks.

    The transition from week k of a window of n_weeks weighs 2^-((n_weeks - 2 - k) / half_life_weeks): the newest
    weighs 1, one that is a half-life older half as much. Columns RECENT_PASSIVE_TUPLE and RECENT_ACTIVE_TUPLE follow
    the counts. Each sum is one expression over the bits of a word; with n_weeks of work a row it costs about as much
    as reading the history, and nothing where it is not asked for.

    Raises ValueError for a window of fewer than 2 or more than 62 weeks, or a half-life that is not above 0.
    """
    if not 2 <= n_weeks <= MAX_WEEKS:
        raise ValueError(f"n_weeks is {n_weeks}; expected 2 to {MAX_WEEKS}, the weeks of the history's window")
    if not half_life_weeks > 0:
        raise ValueError(f"half_life_weeks is {half_life_weeks}; expected a number of weeks above 0")
    pairs, active = _pairs(history)
    words = history.select(
        "caregiver_key",
        **dict(zip(PASSIVE_TUPLE, _words(history, pairs ^ active), strict=True)),
        **dict(zip(ACTIVE_TUPLE, _words(history, active), strict=True)),
    )
    weights = [2.0 ** -((n_weeks - 2 - k) / half_life_weeks) for k in range(n_weeks - 1)]

    def weighted(word: ibis.Value) -> ibis.Value:
        terms = [
            ((word >> k) & 1).cast("float64") * ibis.literal(weight, "float64") for k, weight in enumerate(weights)
        ]
        return reduce(add, terms)

    names = (*PASSIVE_TUPLE, *ACTIVE_TUPLE)
    recent = zip((*RECENT_PASSIVE_TUPLE, *RECENT_ACTIVE_TUPLE), names, strict=True)
    return words.select(
        "caregiver_key",
        **{name: bit_count(words[name]).cast("int16") for name in names},
        **{name: weighted(words[of]) for name, of in recent},
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
    return {name: bit_count(word).cast("int16") for name, word in zip(names, _words(history, counted), strict=True)}


def _words(history: ibis.Table, counted: ibis.Value) -> tuple[ibis.Value, ...]:
    """Words of the counted weeks in which a transition from R to R, R to U, U to R or U to U starts."""
    next_opened = history.opened_weeks >> 1
    from_r = counted & history.opened_weeks
    from_u = counted ^ from_r
    rr, ur = from_r & next_opened, from_u & next_opened
    return rr, from_r ^ rr, ur, from_u ^ ur


def _has_bit(word: ibis.Value, k: ibis.Value) -> ibis.Value:
    return ((word >> k) & 1) == 1
