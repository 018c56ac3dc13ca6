"""Whether the arms were alike before treatment: registry facts and earlier engagement by arm, one row per fact.

Only the comparison of what was known beforehand; what came afterwards belongs to randomization. Under a draw that was
carried out as planned, p-values below 0.05 occur in one fact of twenty; a large standardized difference in a fact
that should be balanced says that the draw, or the record of it, is at fault.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import EXPERIMENT_BALANCE, conform
from bandicoot_core.evaluation.randomization import BoolArray, FloatArray, IntArray, redraws

_REDRAWS_AT_ONCE = 16
_TIE = 1 - 1e-9


def balance_table(
    facts: pa.Table, is_treatment: npt.ArrayLike, block: npt.ArrayLike, *, n_redraws: int = 499, seed: int
) -> pa.Table:
    """Every fact by arm [EXPERIMENT_BALANCE].

    facts: one row per caregiver, known before treatment. A number has one row, its mean over those for whom it is
    known, and one for the share of those for whom it is not, if any; a text or a truth value has a row per level,
    'unknown' among them. is_treatment, block: shape (n_caregivers,).

    The standardized difference is (mean_T - mean_C) / sqrt((s_T^2 + s_C^2) / 2) (Austin 2009, Statistics in Medicine
    28, 3083-3107), 0 where both variances are. The p-value ranks |sum (z - p)(x - mean of x in the
    block)| among redraws of the arms within blocks; a fact that is constant within every block has p-value 1.

    ValueError when shapes disagree or an arm is empty.
    """
    z, blocks = np.asarray(is_treatment, dtype=np.bool_), np.asarray(block, dtype=np.int64)
    if z.shape != (facts.num_rows,) or blocks.shape != z.shape or z.all() or not z.any():
        raise ValueError(
            f"facts have {facts.num_rows} rows, is_treatment the shape {z.shape} with {np.count_nonzero(z)} treated, "
            f"block {blocks.shape}; expected one entry per row and both arms"
        )
    rows, columns = _measures(facts)
    known = [np.isfinite(column) for column in columns]
    means = [[_mean(x, k & arm) for arm in (z, np.logical_not(z))] for x, k in zip(columns, known, strict=True)]
    variances = [[_variance(x, k & arm) for arm in (z, np.logical_not(z))] for x, k in zip(columns, known, strict=True)]
    table = pa.table(
        {
            "fact": [fact for fact, _ in rows],
            "level": pa.array([level for _, level in rows], pa.string()),
            "treatment_mean": [treated for treated, _ in means],
            "control_mean": [control for _, control in means],
            "standardized_difference": [
                (m[0] - m[1]) / np.sqrt(sum(v) / 2) if sum(v) > 0 else 0.0
                for m, v in zip(means, variances, strict=True)
            ],
            "p_value": _p_values(columns, z, blocks, n_redraws, seed),
        }
    )
    return conform(table, EXPERIMENT_BALANCE)


def _measures(facts: pa.Table) -> tuple[list[tuple[str, str | None]], list[FloatArray]]:
    """The rows (fact, level) and what is averaged in each: ndarrays (n_caregivers,), nan where not known."""
    rows: list[tuple[str, str | None]] = []
    columns: list[FloatArray] = []
    for name in facts.column_names:
        column = facts[name]
        is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        if is_number:
            values = column.cast(pa.float64()).to_numpy()
            rows.append((name, None))
            columns.append(values)
            if np.isnan(values).any():
                rows.append((name, "unknown"))
                columns.append(np.isnan(values).astype(np.float64))
            continue
        text = pc.fill_null(column.cast(pa.string()), "unknown")
        for level in sorted(pc.unique(text).to_pylist()):
            rows.append((name, level))
            columns.append(pc.equal(text, level).to_numpy().astype(np.float64))
    return rows, columns


def _p_values(columns: Sequence[FloatArray], z: BoolArray, block: IntArray, n_redraws: int, seed: int) -> FloatArray:
    _, codes = np.unique(block, return_inverse=True)
    size = np.bincount(codes)
    deviations = []
    for column in columns:
        x = np.where(np.isfinite(column), column, np.nanmean(column) if np.isfinite(column).any() else 0.0)
        deviations.append(x - (np.bincount(codes, weights=x) / size)[codes])
    varies = np.array([float(np.abs(d).max(initial=0)) > 1e-9 for d in deviations], dtype=np.bool_)
    p_values = np.ones(len(columns))
    if not varies.any():
        return p_values
    matrix = np.column_stack([d for d, v in zip(deviations, varies, strict=True) if v])
    observed = np.abs(z.astype(np.float64) @ matrix)
    n_extreme = np.zeros(len(observed), dtype=np.int64)
    drawn = np.empty((_REDRAWS_AT_ONCE, len(z)))
    n_held = 0
    for number, arms in enumerate(redraws(z, block, n_redraws=n_redraws, seed=seed), start=1):
        drawn[n_held] = arms
        n_held += 1
        # Several redraws at once make one matrix product, which reads the facts once.
        if n_held == _REDRAWS_AT_ONCE or number == n_redraws:
            n_extreme += (np.abs(drawn[:n_held] @ matrix) >= _TIE * observed).sum(axis=0)
            n_held = 0
    p_values[varies] = (1 + n_extreme) / (1 + n_redraws)
    return p_values


def _mean(x: FloatArray, chosen: BoolArray) -> float:
    return float(x[chosen].mean()) if chosen.any() else float("nan")


def _variance(x: FloatArray, chosen: BoolArray) -> float:
    return float(x[chosen].var()) if chosen.any() else 0.0
