"""Backtest with a rolling origin: models trained up to earlier weeks, judged on the weeks that followed.

Here: which origins a window allows, the predictors that are compared, their scores and their calibration. Not here:
the groups and the chain rolled forward (`forecast`), training (model.recipe), charts (`backtest_charts`), and whether a
candidate may replace the champion (`guard`).

For each origin week t the recipe is trained on the weeks up to t alone. The weeks t+1, ..., t+4 are predicted from the
state in week t and the actions that were really taken: the question is how well the chances hold, not who would have
been called. Caregivers with enough passive weeks by t are in the cluster of their history, others in that of their
features where a registry is given, the rest is predicted by the population's chances; the scope `assigned_by` tells
them apart. Only caregivers who are still in the history are judged: of those who left since, nothing is known.

The baselines, from the same weeks as the model:

    persistence      P(R | state) of the population, whatever the action, rolled forward
    stays            her state in week t, with STAYS_CHANCE that it holds in whatever week
    population_rate  the share of responsive weeks in the population
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
from ibis.expr.types import Table

from bandicoot_core.contracts import ACTIONS, CALIBRATION, MODEL_BACKTEST, conform
from bandicoot_core.contracts.backtest_tables import MODEL, PERSISTENCE, POPULATION_RATE, STAYS
from bandicoot_core.engagement.history import history_until
from bandicoot_core.engagement.words import require_window
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.evaluation.forecast import (
    MAX_HORIZON,
    IntArray,
    PopulationChances,
    chances_with_population,
    cluster_rows,
    horizon_cells,
    horizon_groups,
    log_losses,
    population_chances,
    roll_forward,
)
from bandicoot_core.model.posterior import FloatArray, credible_interval
from bandicoot_core.model.recipe import train_recipe
from bandicoot_core.settings import ModelOptions

N_ORIGINS = 8
STAYS_CHANCE = 0.95
"""Chance that `stays` gives the present state: a certain prediction would lose infinitely much once it fails."""

N_BINS = 10
CALIBRATION_INTERVAL = 0.9
NO_CLUSTER = "none"
POPULATION = "population"
"""How caregivers were predicted who had neither history nor features."""

_UNKNOWN_DISTRICT = "(unknown)"


@dataclass(frozen=True)
class Backtest:
    """MODEL_BACKTEST and CALIBRATION."""

    scores: pa.Table
    calibration: pa.Table


def backtest(
    history: Table,
    options: ModelOptions,
    *,
    weeks: Sequence[date],
    caregivers: Table | None = None,
    n_origins: int = N_ORIGINS,
) -> Backtest:
    """Scores and calibration of the recipe at the last origins of a window.

    Parameters
    ----------
    history : ENGAGEMENT_HISTORY
        An expression bound to an engine, over `weeks`.
    options : ModelOptions
        The recipe.
    weeks : sequence of date
        The Sundays of the window, oldest first.
    caregivers : CAREGIVERS, optional
        Registry: features for those without history, and the districts of the scores.
    n_origins : int
        At most so many origins, the newest ones; the last is the week before the last of the window. Horizons that
        reach beyond the window are left out.

    Raises
    ------
    InvalidInputError
        When the window is too short for a single origin, or nothing can be clustered at one.
    """
    window = require_window(weeks)
    origins = backtest_origins(len(window), n_training=fewest_training_weeks(options), n_origins=n_origins)
    scored, calibrated = [], []
    for origin in origins:
        cells, predictions = _predicted(
            history, options, caregivers, origin, min(MAX_HORIZON, len(window) - 1 - origin)
        )
        scored.append(_scores(cells, predictions, window[origin]))
        calibrated.append(_binned(cells, predictions))
    return Backtest(
        scores=conform(pa.concat_tables(scored), MODEL_BACKTEST), calibration=_calibration(pa.concat_tables(calibrated))
    )


def fewest_training_weeks(options: ModelOptions) -> int:
    """Weeks with which a recipe can be trained at all: enough for somebody to be assigned by her own history."""
    return max(4, options.min_passive_weeks + 1)


def backtest_origins(n_weeks: int, *, n_training: int, n_origins: int = N_ORIGINS) -> list[int]:
    """Bits of the origin weeks of a window, oldest first, each with `n_training` weeks up to it or more.

    InvalidInputError when there is none.
    """
    first = max(n_training - 1, n_weeks - 1 - n_origins)
    origins = list(range(first, n_weeks - 1))
    if not origins:
        raise InvalidInputError(
            f"the window has {n_weeks} weeks; a backtest needs {n_training + 1}, {n_training} to train on and one to "
            "predict; wait for more weeks of history"
        )
    return origins


def pooled_scores(scores: pa.Table, *, scope: str = "all") -> pa.Table:
    """MODEL_BACKTEST over all origins, weighted by caregiver-weeks.

    Columns scope_value, horizon, predictor, n_caregiver_weeks, log_loss, brier, sorted by the first three.
    """
    keys = ["scope_value", "horizon", "predictor"]
    rows = scores.filter(pa.compute.equal(scores["scope"], scope))
    n = rows["n_caregiver_weeks"]
    weighted = rows.select([*keys, "n_caregiver_weeks"])
    for name in ("log_loss", "brier"):
        weighted = weighted.append_column(name, pa.compute.multiply(rows[name], n))
    sums = weighted.group_by(keys, use_threads=False).aggregate(
        [(name, "sum") for name in ("n_caregiver_weeks", "log_loss", "brier")]
    )
    total = sums["n_caregiver_weeks_sum"]
    columns = {name: sums[name] for name in keys} | {"n_caregiver_weeks": total}
    for name in ("log_loss", "brier"):
        columns[name] = pa.compute.divide(sums[f"{name}_sum"], pa.compute.cast(total, pa.float64()))
    return pa.table(columns).sort_by([(name, "ascending") for name in keys])


def _predicted(
    history: Table, options: ModelOptions, caregivers: Table | None, origin: int, n_horizons: int
) -> tuple[pa.Table, Mapping[str, FloatArray]]:
    """Cells of the weeks after an origin, and P(R) of each by predictor, (n_cells,)."""
    known = history_until(history, n_weeks=origin + 1)
    trained = train_recipe(known, options, n_weeks=origin + 1, caregivers=caregivers)
    population = population_chances(known)
    labels = trained.assignments
    if caregivers is not None:
        districts = caregivers.select("caregiver_key", "district")
        labels = districts.left_join(labels, "caregiver_key").select("caregiver_key", "district", *_OF_CLUSTER)
    groups = horizon_groups(history, labels, origin=origin, n_horizons=n_horizons)
    cells = horizon_cells(groups, n_horizons=n_horizons).to_pyarrow()
    # The engine returns groups in no fixed order, and sums of floats depend on it.
    cells = cells.sort_by([(name, "ascending") for name in cells.column_names])
    chances = chances_with_population(trained.transitions, population.by_action)
    return cells, _predictions(cells, chances, population, n_horizons)


_OF_CLUSTER = ("cluster_id", "assigned_by")


def _predictions(
    cells: pa.Table, chances: FloatArray, population: PopulationChances, n_horizons: int
) -> dict[str, FloatArray]:
    state, called, horizon = (cells[name].to_numpy() for name in ("is_responsive", "called", "horizon"))
    cell = np.arange(cells.num_rows)
    of_cell = chances[cluster_rows(cells, "cluster_id", len(chances))]
    whatever_action = np.broadcast_to(population.by_state[:, None], of_cell.shape)
    return {
        MODEL: roll_forward(of_cell, state, called, n_horizons=n_horizons)[cell, horizon - 1],
        PERSISTENCE: roll_forward(whatever_action, state, called, n_horizons=n_horizons)[cell, horizon - 1],
        STAYS: np.where(state == 1, STAYS_CHANCE, 1.0 - STAYS_CHANCE),
        POPULATION_RATE: np.full(cells.num_rows, population.responsive_share),
    }


def _scores(cells: pa.Table, predictions: Mapping[str, FloatArray], origin_week: date) -> pa.Table:
    horizon, n = cells["horizon"].to_numpy(), cells["n_caregivers"].to_numpy().astype(np.float64)
    outcome = cells["is_responsive_then"].to_numpy()
    parts = []
    for scope, values in _scope_values(cells).items():
        names, part = np.unique(values, return_inverse=True)
        # One number for horizon and part, so that one pass over the cells adds up all of them.
        key = (horizon - 1) * len(names) + part
        for predictor, p in predictions.items():
            loss = log_losses(p, outcome)
            sums = [np.bincount(key, n * x) for x in (np.ones(len(n)), loss, loss**2, (p - outcome) ** 2)]
            found = np.flatnonzero(sums[0])
            total, loss_sum, square_sum, brier_sum = (x[found] for x in sums)
            mean = loss_sum / total
            variance = np.maximum(square_sum / total - mean**2, 0.0)
            parts.append(
                pa.table(
                    {
                        "origin_week": pa.array([origin_week] * len(found), pa.date32()),
                        "horizon": found // len(names) + 1,
                        "scope": [scope] * len(found),
                        "scope_value": names[found % len(names)].astype(object),
                        "predictor": [predictor] * len(found),
                        "n_caregiver_weeks": total.astype(np.int64),
                        "log_loss": mean,
                        "log_loss_error": np.sqrt(variance / total),
                        "brier": brier_sum / total,
                    }
                )
            )
    return pa.concat_tables([conform(part, MODEL_BACKTEST) for part in parts])


def _scope_values(cells: pa.Table) -> dict[str, np.ndarray]:
    """The part of each scope that every cell belongs to, as text, (n_cells,)."""
    last_action = (cells["called"].to_numpy() >> (cells["horizon"].to_numpy() - 1)) & 1
    values = {
        "all": np.full(cells.num_rows, "all"),
        "cluster": _texts(cells["cluster_id"].cast(pa.string()), NO_CLUSTER),
        "action": np.array(ACTIONS)[last_action],
        "assigned_by": _texts(cells["assigned_by"], POPULATION),
    }
    if "district" in cells.column_names:
        values["district"] = _texts(cells["district"], _UNKNOWN_DISTRICT)
    return values


def _texts(column: pa.ChunkedArray, when_null: str) -> np.ndarray:
    return column.fill_null(when_null).to_numpy(zero_copy_only=False).astype(str)


def _binned(cells: pa.Table, predictions: Mapping[str, FloatArray]) -> pa.Table:
    """Sums behind the calibration: horizon, predictor, bin, n, n_responsive, sum of predictions."""
    horizon: IntArray = cells["horizon"].to_numpy()
    n = cells["n_caregivers"].to_numpy().astype(np.float64)
    outcome = cells["is_responsive_then"].to_numpy()
    parts = []
    for predictor, p in predictions.items():
        of_bin = np.minimum((p * N_BINS).astype(np.int64), N_BINS - 1)
        key = horizon * N_BINS + of_bin
        sums = [np.bincount(key, n * x) for x in (np.ones(len(n)), outcome, p)]
        found = np.flatnonzero(sums[0])
        parts.append(
            pa.table(
                {
                    "horizon": found // N_BINS,
                    "predictor": [predictor] * len(found),
                    "bin": found % N_BINS,
                    "n": sums[0][found],
                    "n_responsive": sums[1][found],
                    "sum_predicted": sums[2][found],
                }
            )
        )
    return pa.concat_tables(parts)


def _calibration(binned: pa.Table) -> pa.Table:
    """CALIBRATION, origins pooled; the interval is that of a share with Jeffreys' prior, Beta(1/2, 1/2).

    The same caregiver counts once per origin and her weeks are alike, so the intervals are somewhat too narrow.
    """
    keys = ["horizon", "predictor", "bin"]
    sums = binned.group_by(keys, use_threads=False).aggregate(
        [(name, "sum") for name in ("n", "n_responsive", "sum_predicted")]
    )
    n, n_responsive, predicted = (sums[f"{name}_sum"].to_numpy() for name in ("n", "n_responsive", "sum_predicted"))
    low, high = credible_interval(n_responsive + 0.5, n - n_responsive + 0.5, interval=CALIBRATION_INTERVAL)
    share = n_responsive / n
    return conform(
        pa.table(
            {name: sums[name] for name in keys}
            | {
                "n_caregiver_weeks": n.astype(np.int64),
                "mean_predicted": predicted / n,
                "observed_share": share,
                "share_low": np.minimum(low, share),
                "share_high": np.maximum(high, share),
            }
        ),
        CALIBRATION,
    )
