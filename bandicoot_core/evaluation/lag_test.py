"""Whether two states are enough: does the past of a caregiver say more about next week than this week's state does?

Here: the counts of short pasts, what richer states would add to the model, and the verdict in a sentence. Not here: the
exact test on single caregivers (`visit_test`), and the index of a richer chain (model.whittle_solver).

P(R next | cluster, state, action) is held against the same with a richer state: the state of the week before, and for
unresponsive weeks how many of them came in a row. The weeks have three parts: the first half puts caregivers into
clusters, the middle teaches the chances, the last four weeks measure the gain in log loss. The parts must not overlap:
among caregivers who were chosen by their counts, weeks that make up these counts look like drawn without replacement,
which is a memory that nobody has. The likelihood ratio on the middle part says how certain it is that there is a gain.

Differences between caregivers mimic memory, too: pool two kinds who each follow a two-state chain, and the week before
last still tells which kind she is. Comparing within clusters removes what the clusters know of that and leaves the
rest, so a gain may mean that clusters are too coarse. Only the exact test, which compares each caregiver with herself,
tells both apart; the verdict joins them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pyarrow as pa
from ibis.expr.types import Table
from scipy.special import xlogy
from scipy.stats import chi2

from bandicoot_core.contracts import MEMORY_TEST, conform
from bandicoot_core.engagement.history import history_until
from bandicoot_core.engagement.words import bits
from bandicoot_core.evaluation.forecast import IntArray, log_losses
from bandicoot_core.evaluation.visit_test import VisitTest, one_week_visits, visit_tests
from bandicoot_core.model.posterior import FloatArray
from bandicoot_core.model.recipe import train_recipe
from bandicoot_core.model.transitions import LAPLACE_PRIOR
from bandicoot_core.settings import ModelOptions

N_PAST_WEEKS = 4
"""Weeks that a richer state may look at, this one included."""

HELD_OUT_WEEKS = 4
FEWEST_WEEKS = 2 * (HELD_OUT_WEEKS + 1)

WEEK_BEFORE = "state of the week before"
WEEKS_IN_U = "weeks in U so far (1, 2, 3, 4 or more)"

NOTABLE_GAIN = 0.002
"""Nats per caregiver-week below which a richer state is not worth its data: some half a percent of a usual loss."""

SIGNIFICANCE = 0.001


@dataclass(frozen=True)
class LagTest:
    """MEMORY_TEST, the exact tests of U and R (empty without control caregivers), and one sentence."""

    gains: pa.Table
    visits: tuple[VisitTest, ...]
    verdict: str


def lag_test(history: Table, options: ModelOptions, *, n_weeks: int, never_called: Table | None = None) -> LagTest:
    """Gains of richer states within clusters, and the exact test on caregivers whom nobody calls.

    Parameters
    ----------
    history : ENGAGEMENT_HISTORY
        An expression bound to an engine, over a window of `n_weeks` weeks.
    options : ModelOptions
        How clusters are made.
    n_weeks : int
        With fewer than FEWEST_WEEKS the gains are empty.
    never_called : table, optional
        caregiver_key of those whom nobody calls by design. Rows with a call are left out all the same.
    """
    visits: tuple[VisitTest, ...] = ()
    if never_called is not None:
        kept = history.semi_join(never_called, "caregiver_key")
        visits = visit_tests(one_week_visits(kept, n_weeks=n_weeks).to_pyarrow())
    gains = MEMORY_TEST.empty()
    if n_weeks >= FEWEST_WEEKS:
        n_clustered, n_learned = n_weeks // 2, n_weeks - HELD_OUT_WEEKS
        known = history_until(history, n_weeks=n_clustered)
        assignments = train_recipe(known, options, n_weeks=n_clustered).assignments
        counts = past_counts(history, assignments, n_weeks=n_weeks, first_next_week=n_clustered).to_pyarrow()
        gains = memory_gains(counts, n_learned=n_learned)
    return LagTest(gains, visits, lag_verdict(gains, visits))


def past_counts(history: Table, assignments: Table, *, n_weeks: int, first_next_week: int) -> Table:
    """Transitions by cluster, past, action and what followed: cluster_id, week, past, is_called, is_responsive_next, n.

    `week` is the bit of the week that a transition starts from. The highest of the N_PAST_WEEKS bits of `past` is the
    state in that week, the one below it that of the week before. Only transitions with so many observed weeks count,
    so that all states are compared on the same ones; and only those that end in `first_next_week` or later.
    """
    weeks = range(max(N_PAST_WEEKS, first_next_week) - 1, n_weeks - 1)
    calendar = ibis.memtable({"week": list(weeks)}, schema={"week": "int64"})
    joined = history.inner_join(assignments.select("caregiver_key", "cluster_id"), "caregiver_key")
    both = joined.cross_join(calendar)
    first = both.week - (N_PAST_WEEKS - 1)
    needed = bits(0, N_PAST_WEEKS + 1)
    opened = both.opened_weeks >> first
    rows = both.filter(((both.observed_weeks >> first) & needed) == needed).select(
        "cluster_id",
        "week",
        past=opened & bits(0, N_PAST_WEEKS),
        is_called=(both.called_weeks >> both.week) & 1,
        is_responsive_next=(opened >> N_PAST_WEEKS) & 1,
    )
    return rows.group_by(rows.columns).aggregate(n=rows.count())


def memory_gains(counts: pa.Table, *, n_learned: int) -> pa.Table:
    """MEMORY_TEST from `past_counts`: the state of the week before, and the weeks in U so far.

    Transitions that end in the first `n_learned` weeks of the window are learned from, later ones measure. Chances are
    shares with LAPLACE_PRIOR in each cell of cluster, state and action; the likelihood ratio is that of
    plain shares. The error of a gain takes caregiver-weeks for independent.
    """
    counts = counts.sort_by([(name, "ascending") for name in counts.column_names])
    past: IntArray = counts["past"].to_numpy()
    state, before = (past >> (N_PAST_WEEKS - 1)) & 1, (past >> (N_PAST_WEEKS - 2)) & 1
    base = _cells(counts["cluster_id"].to_numpy(), state, counts["is_called"].to_numpy())
    outcome: IntArray = counts["is_responsive_next"].to_numpy()
    n = counts["n"].to_numpy().astype(np.float64)
    is_learned = counts["week"].to_numpy() + 1 < n_learned
    first_order = _losses(base, outcome, n, is_learned)
    rows = []
    for name, richer in ((WEEK_BEFORE, before), (WEEKS_IN_U, _weeks_in_u(past))):
        cells = _cells(base, richer)
        losses = _losses(cells, outcome, n, is_learned)
        held_out = np.where(is_learned, 0.0, n)
        total = max(held_out.sum(), 1.0)
        saved = first_order - losses
        gain = float(held_out @ saved / total)
        ratio = 2 * (_log_likelihood(cells, outcome, n, is_learned) - _log_likelihood(base, outcome, n, is_learned))
        n_degrees = _n_filled(cells, is_learned) - _n_filled(base, is_learned)
        rows.append(
            {
                "richer_state": name,
                "n_caregiver_weeks": int(held_out.sum()),
                "log_loss": float(held_out @ losses / total),
                "gain": gain,
                "gain_error": float(np.sqrt(held_out @ (saved - gain) ** 2)) / total,
                "likelihood_ratio": max(ratio, 0.0),
                "n_degrees": n_degrees,
                "p_value": float(chi2.sf(ratio, n_degrees)) if n_degrees else 1.0,
            }
        )
    return conform(pa.Table.from_pylist(rows), MEMORY_TEST)


def lag_verdict(gains: pa.Table, visits: Sequence[VisitTest]) -> str:
    """One sentence: whether the two-state chain is enough, and what speaks for it."""
    if not gains.num_rows:
        return f"Too few weeks to say whether two states are enough: {FEWEST_WEEKS} are needed."
    best = max(gains.to_pylist(), key=lambda row: row["gain"])
    is_notable = best["gain"] > NOTABLE_GAIN and best["gain"] > 2 * best["gain_error"]
    rejected = [visit for visit in visits if visit.p_value < SIGNIFICANCE]
    exact = (
        "no control arm to test single caregivers' chains"
        if not visits
        else f"single caregivers' chains show memory in {' and '.join(visit.state for visit in rejected)}"
        if rejected
        else "single caregivers' chains show no memory"
    )
    gain = f"the best richer state ({best['richer_state']}) gains {best['gain']:+.4f} nats per week within clusters"
    if not is_notable:
        return f"Two states are enough: {gain}, less than the {NOTABLE_GAIN:g} worth having; {exact}."
    if rejected or not visits:
        return f"A richer state would help: {gain}; {exact}."
    return f"Two states are enough for a caregiver, but clusters leave differences between them: {gain}; {exact}."


def _weeks_in_u(past: IntArray) -> IntArray:
    """Unresponsive weeks in a row up to now, (n,): 0 in R, N_PAST_WEEKS when that many or more."""
    newest_first = np.arange(N_PAST_WEEKS)[::-1]
    is_silent = 1 - ((past[:, None] >> newest_first) & 1)
    return np.cumprod(is_silent, axis=1).sum(axis=1)


def _cells(*parts: IntArray) -> IntArray:
    """One number from 0 on for each distinct combination, (n,)."""
    return np.unique(np.stack(parts, axis=-1), axis=0, return_inverse=True)[1].ravel()


def _losses(cells: IntArray, outcome: IntArray, n: FloatArray, is_learned: np.ndarray) -> FloatArray:
    """Loss of each row by the share of its cell in the learned weeks, (n_rows,)."""
    to_r, total = _sums(cells, outcome, n, is_learned)
    a, b = LAPLACE_PRIOR
    return log_losses(((a + to_r) / (a + b + total))[cells], outcome)


def _log_likelihood(cells: IntArray, outcome: IntArray, n: FloatArray, is_learned: np.ndarray) -> float:
    """Largest log-likelihood of the learned weeks with one chance per cell."""
    to_r, total = _sums(cells, outcome, n, is_learned)
    return float((xlogy(to_r, to_r) + xlogy(total - to_r, total - to_r) - xlogy(total, total)).sum())


def _n_filled(cells: IntArray, is_learned: np.ndarray) -> int:
    return len(np.unique(cells[is_learned]))


def _sums(cells: IntArray, outcome: IntArray, n: FloatArray, is_learned: np.ndarray) -> tuple[FloatArray, FloatArray]:
    weight = np.where(is_learned, n, 0.0)
    return np.bincount(cells, weight * outcome).astype(float), np.bincount(cells, weight).astype(float)
