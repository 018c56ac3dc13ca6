"""Predicting the weeks after an origin: who is alike, what the chains say of them, and what came true.

Here: the groups of caregivers for whom every prediction and every outcome is the same, the chances of a model as an
array with a row for those without a cluster, the chain rolled forward, and the loss of a prediction. Not here: which
models and origins are compared (`backtest`, `guard`) and how models are trained (model.recipe).

The engine forms the groups; Python sees one row per group, whose number is bounded by clusters, districts and patterns
of a few weeks, never by caregivers.
"""

from dataclasses import dataclass

import ibis
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from ibis.expr.types import Column, Table

from bandicoot_core.contracts import ACTIVE_TUPLE, PASSIVE_TUPLE
from bandicoot_core.engagement.counts import transition_counts
from bandicoot_core.engagement.words import bits
from bandicoot_core.model.posterior import FloatArray
from bandicoot_core.model.transitions import LAPLACE_PRIOR, cell_arrays

IntArray = npt.NDArray[np.int64]

MAX_HORIZON = 4
"""Weeks ahead that are predicted at most: longer patterns would make groups of single caregivers."""

SMALLEST_CHANCE = 1e-6
"""Predictions are kept this far from 0 and 1, so that one surprise costs at most 13.8 nats."""


@dataclass(frozen=True)
class PopulationChances:
    """How all caregivers together moved, with one success and one failure added to each share."""

    by_action: FloatArray
    """P(next = R | state, action), (2, 2), states [U, R], actions [passive, active]."""
    by_state: FloatArray
    """P(next = R | state) whatever the action, (2,), states [U, R]."""
    responsive_share: float
    """Share of the weeks reached by a transition that were responsive."""


def horizon_groups(history: Table, labels: Table, *, origin: int, n_horizons: int) -> Table:
    """Caregivers observed in week `origin` and the weeks after it, grouped by all that matters for those weeks.

    Parameters
    ----------
    history : ENGAGEMENT_HISTORY
        The whole window, not masked; origin + n_horizons must lie in it.
    labels : table
        caregiver_key and any columns to group by; a caregiver that is not in it has null labels.
    origin, n_horizons : int
        Bit of the origin week, and how many weeks after it; at most MAX_HORIZON.

    Returns
    -------
    table expression
        The label columns, is_responsive (0 or 1, in the origin week), called (bit h: called in week origin + h),
        opened (bit h: responsive in week origin + 1 + h), n_caregivers; all int64 but the labels.
    """
    if not 1 <= n_horizons <= MAX_HORIZON:
        raise ValueError(f"n_horizons is {n_horizons}; expected 1 to {MAX_HORIZON}")
    all_observed = bits(0, n_horizons + 1)
    names = [name for name in labels.columns if name != "caregiver_key"]
    joined = history.left_join(labels, "caregiver_key")
    rows = joined.filter(((joined.observed_weeks >> origin) & all_observed) == all_observed).select(
        *names,
        is_responsive=(joined.opened_weeks >> origin) & 1,
        called=(joined.called_weeks >> origin) & bits(0, n_horizons),
        opened=(joined.opened_weeks >> (origin + 1)) & bits(0, n_horizons),
    )
    return rows.group_by(rows.columns).aggregate(n_caregivers=rows.count())


def horizon_cells(groups: Table, *, n_horizons: int) -> Table:
    """The groups of `horizon_groups` taken apart by horizon, each with no more of the pattern than that horizon needs.

    Columns: the labels, horizon (1 to n_horizons), is_responsive, called (bits below the horizon), is_responsive_then
    (0 or 1, in week origin + horizon), n_caregivers.
    """
    names = [name for name in groups.columns if name not in ("called", "opened", "n_caregivers")]
    ahead = range(1, n_horizons + 1)
    horizons = ibis.memtable(
        {"horizon": list(ahead), "known_calls": [bits(0, h) for h in ahead]},
        schema={"horizon": "int64", "known_calls": "int64"},
    )
    both = groups.cross_join(horizons)
    cells = both.select(
        *names,
        "horizon",
        "n_caregivers",
        called=both.called & both.known_calls,
        is_responsive_then=(both.opened >> (both.horizon - 1)) & 1,
    )
    keys: list[Column] = [cells[name] for name in cells.columns if name != "n_caregivers"]
    return cells.group_by(keys).aggregate(n_caregivers=cells.n_caregivers.sum().cast("int64"))


def population_chances(history: Table) -> PopulationChances:
    """How the caregivers of a history (ENGAGEMENT_HISTORY) moved, all of them together."""
    counts = transition_counts(history)
    names = (*PASSIVE_TUPLE, *ACTIVE_TUPLE)
    sums = counts.aggregate(**{name: counts[name].cast("int64").sum().fill_null(0).cast("int64") for name in names})
    [row] = sums.to_pyarrow().to_pylist()
    to_r = np.array([[row["n_ur"], row["n_active_ur"]], [row["n_rr"], row["n_active_rr"]]], dtype=np.float64)
    to_u = np.array([[row["n_uu"], row["n_active_uu"]], [row["n_ru"], row["n_active_ru"]]], dtype=np.float64)
    a, b = LAPLACE_PRIOR
    share = (a + to_r.sum()) / (a + b + to_r.sum() + to_u.sum())
    return PopulationChances(
        by_action=(a + to_r) / (a + b + to_r + to_u),
        by_state=(a + to_r.sum(axis=1)) / (a + b + to_r.sum(axis=1) + to_u.sum(axis=1)),
        responsive_share=float(share),
    )


def chances_with_population(transitions: pa.Table, population: FloatArray) -> FloatArray:
    """P(next = R) as (n_clusters + 1, 2, 2): cluster, state [U, R], action; the last row is the population's.

    `transitions` follows TRANSITION_MODELS; ValueError as for `cell_arrays`.
    """
    return np.concatenate([cell_arrays(transitions, "p_next_r"), population[None]])


def cluster_rows(groups: pa.Table, column: str, n_rows: int) -> IntArray:
    """Row of a model's chances for each group, (n_groups,): its cluster, or the last one where that is null.

    ValueError when a cluster lies beyond the model's.
    """
    rows: IntArray = groups[column].cast(pa.int64()).fill_null(n_rows - 1).to_numpy()
    if len(rows) and not (rows.min() >= 0 and rows.max() < n_rows):
        raise ValueError(f"{column}: clusters {rows.min()} to {rows.max()}; the model has chances for {n_rows}")
    return rows


def roll_forward(p_next_r: FloatArray, is_responsive: IntArray, called: IntArray, *, n_horizons: int) -> FloatArray:
    """P(R) in each of the weeks after the origin, given the state in it and the actions that were really taken.

    With p_h = P(R in week origin + h), p_0 = 1 in R and 0 in U, and a_h the action of week origin + h,

        p_(h+1) = p_h P(R | R, a_h) + (1 - p_h) P(R | U, a_h).

    Parameters
    ----------
    p_next_r : ndarray of shape (n_groups, 2, 2)
        P(next = R) as [group, state, action], states [U, R], actions [passive, active].
    is_responsive, called : ndarray of shape (n_groups,)
        As `horizon_groups` gives them.
    n_horizons : int

    Returns
    -------
    ndarray of shape (n_groups, n_horizons)
        Column h - 1 is horizon h.
    """
    p = is_responsive.astype(np.float64)
    group = np.arange(len(p))
    ahead = np.empty((len(p), n_horizons))
    for h in range(n_horizons):
        of_action = p_next_r[group, :, (called >> h) & 1]
        p = p * of_action[:, 1] + (1.0 - p) * of_action[:, 0]
        ahead[:, h] = p
    return ahead


def log_losses(p: FloatArray, is_responsive: IntArray) -> FloatArray:
    """-log P(what happened) of each prediction, in nats; p is first brought within SMALLEST_CHANCE of 0 and 1."""
    kept = np.clip(p, SMALLEST_CHANCE, 1.0 - SMALLEST_CHANCE)
    return -np.log(np.where(is_responsive == 1, kept, 1.0 - kept))
