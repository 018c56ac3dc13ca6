"""An exact test of whether single caregivers' chains have two states, which differences between them can't fool.

Here: the counts of one-week visits, their distribution under a two-state chain, and the test. Not here: what a richer
state would gain for the model (`lag_test`).

Take one caregiver without calls. If her own chain has two states, all orders of her weeks with the same transition
counts and the same first state are equally likely, whatever her chances are: the counts are sufficient. Her n_rr stays
in R then fall on her b visits to R in any way with equal chance, so of the b' visits that neither begin nor end her
history, the number that last one week has the mean and variance (and the same with U for R)

    E = b' q1,   Var = b' q1 + b' (b' - 1) q2 - E^2,
    q1 = (b - 1) / (n_rr + b - 1),   q2 = (b - 1) (b - 2) / ((n_rr + b - 1) (n_rr + b - 2)),

the shares of all ways to place n_rr stays on b visits that leave one, or two, given visits without any. Summed over
caregivers, z = (observed - E) / sqrt(Var) is a standard normal deviate, each caregiver being compared with herself
alone. More one-week visits than expected mean that whoever has stayed for long is likelier to stay.

It needs caregivers whom nobody calls whatever they do: the control arm. Those who merely were not called were selected
by their past.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from ibis.expr.types import Table
from scipy.stats import norm

from bandicoot_core.contracts import PASSIVE_TUPLE, RESPONSIVE, UNRESPONSIVE
from bandicoot_core.engagement.counts import transition_counts
from bandicoot_core.engagement.words import bit_count, bits
from bandicoot_core.model.posterior import FloatArray


@dataclass(frozen=True)
class VisitTest:
    """Interior visits to a state that lasted one week: how many there were, and how many two states let expect."""

    state: str
    n_observed: int
    n_expected: float
    z: float
    p_value: float


def one_week_visits(history: Table, *, n_weeks: int) -> Table:
    """Never-called caregivers observed in every week, grouped: PASSIVE_TUPLE, is_responsive_first, n_uru, n_rur, n.

    `history` follows ENGAGEMENT_HISTORY over a window of `n_weeks` weeks, at least 3. n_uru counts the weeks in R
    between two in U, n_rur those in U between two in R.
    """
    kept = history.filter(history.called_weeks == 0, history.observed_weeks == bits(0, n_weeks))
    before, middle, after = kept.opened_weeks, kept.opened_weeks >> 1, kept.opened_weeks >> 2
    r_weeks = middle & bits(0, n_weeks - 2)
    u_weeks = r_weeks ^ bits(0, n_weeks - 2)
    words = kept.select(
        "caregiver_key",
        is_responsive_first=before & 1,
        n_uru=bit_count(r_weeks ^ (r_weeks & (before | after))).cast("int16"),
        n_rur=bit_count(u_weeks & before & after).cast("int16"),
    )
    names = [*PASSIVE_TUPLE, "is_responsive_first", "n_uru", "n_rur"]
    rows = transition_counts(kept).inner_join(words, "caregiver_key").select(*names)
    return rows.group_by(names).aggregate(n=rows.count())


def visit_tests(grouped: pa.Table) -> tuple[VisitTest, ...]:
    """The exact tests of U and R from `one_week_visits`; without one where nothing could have been otherwise."""
    columns = {name: grouped[name].to_numpy().astype(np.float64) for name in grouped.column_names}
    n, starts_in_r = columns["n"], columns["is_responsive_first"]
    # Moves between two states alternate, so the first state and the counts give the last one.
    ends_in_r = starts_in_r + columns["n_ur"] - columns["n_ru"]
    tests = []
    for state, found, entered, stays, starts, ends in (
        (UNRESPONSIVE, "n_rur", "n_ru", "n_uu", 1 - starts_in_r, 1 - ends_in_r),
        (RESPONSIVE, "n_uru", "n_ur", "n_rr", starts_in_r, ends_in_r),
    ):
        visits = columns[entered] + starts
        mean, variance = visit_moments(visits, np.maximum(visits - starts - ends, 0.0), columns[stays])
        observed, expected, total_variance = (float(n @ x) for x in (columns[found], mean, variance))
        if total_variance > 0:
            z = (observed - expected) / float(np.sqrt(total_variance))
            tests.append(VisitTest(state, int(observed), expected, z, float(2 * norm.sf(abs(z)))))
    return tuple(tests)


def visit_moments(visits: FloatArray, interior: FloatArray, stays: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and variance of the number of one-week interior visits, all ways to place the stays being equally likely.

    visits: b, all visits to a state, 1 or more where there is an interior one; interior: b'; stays: n_rr or n_uu. All
    of one shape. The formulas stand in the module's docstring.
    """
    # Without stays every visit lasts one week; there the divisors may be 0.
    q1 = np.divide(visits - 1, stays + visits - 1, out=np.ones_like(visits), where=stays > 0)
    ways = (stays + visits - 1) * (stays + visits - 2)
    q2 = np.divide((visits - 1) * (visits - 2), ways, out=np.ones_like(visits), where=(stays > 0) & (ways > 0))
    mean = interior * q1
    return mean, np.maximum(mean + interior * (interior - 1) * q2 - mean**2, 0.0)
