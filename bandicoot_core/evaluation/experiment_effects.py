"""From sums per caregiver to the tables of the experiment report: effects, their course over the weeks, and facts.

Only what is compared with what. The inference is that of randomization and always_valid, the sums come from
experiment_outcomes.
"""

from collections.abc import Sequence
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import EXPERIMENT_EFFECTS, EXPERIMENT_WEEKS, conform
from bandicoot_core.evaluation.always_valid import confidence_sequence
from bandicoot_core.evaluation.power import effect_of_standard_error
from bandicoot_core.evaluation.randomization import BoolArray, FloatArray, adjusted_effect, effect_by_randomization

LEVEL = 0.95

BALANCE_FACTS = ("district", "age", "parity", "phone_reliable", "enrollment_source", "status")
"""Registry facts compared between the arms. `status` is that of now: it tells whether the arms lose as many."""

_TUNED_FOR_INFORMATION = 2
"""The always-valid interval is tightest at this multiple of the first week's information: some two months."""


def effects_table(sums: pa.Table, *, n_redraws: int, seed: int) -> pa.Table:
    """The effect on each outcome [EXPERIMENT_EFFECTS]; an outcome that nothing can be said about has no row.

    sums: one row per caregiver with is_treatment, block (int), n_weeks_before, n_responsive_before, n_weeks,
    n_responsive, n_due and n_on_time; the first four are null for those without a history.

    responsive_weeks: the share of a caregiver's weeks since treatment began in which she was responsive, for those who
    have any. doses_on_time: doses on time over the mean of doses due, for those who have any due, adjusted for how many
    were; so the mean is the share of due doses that were given on time. Both are adjusted for the share of responsive
    weeks before.
    """
    rows = []
    for outcome, of_caregivers, columns in (
        ("responsive_weeks", _engaged(sums), _engagement),
        ("doses_on_time", sums.filter(pc.greater(sums["n_due"], 0)), _doses),
    ):
        if not _is_comparable(of_caregivers):
            continue
        y, covariates = columns(of_caregivers)
        effect = effect_by_randomization(
            y,
            _arms(of_caregivers),
            of_caregivers["block"].to_numpy(),
            covariates=covariates,
            n_redraws=n_redraws,
            level=LEVEL,
            seed=seed,
        )
        rows.append(
            {
                "outcome": outcome,
                "detectable_effect": effect_of_standard_error(effect.standard_error),
                **{
                    name: getattr(effect, name)
                    for name in EXPERIMENT_EFFECTS.column_names
                    if name not in ("outcome", "detectable_effect")
                },
            }
        )
    return conform(pa.Table.from_pylist(rows, schema=EXPERIMENT_EFFECTS.arrow_schema()), EXPERIMENT_EFFECTS)


def weeks_table(sums_by_week: pa.Table, weeks: Sequence[date]) -> pa.Table:
    """The effect on responsive weeks as it stood at the end of each of `weeks` [EXPERIMENT_WEEKS].

    sums_by_week: one row per caregiver with is_treatment, block, n_weeks_before, n_responsive_before, and n_weeks_k and
    n_responsive_k up to the end of weeks[k]. A week at whose end nothing can be compared is left out.
    """
    looks = []
    for k, week in enumerate(weeks):
        names = {f"n_weeks_{k}": "n_weeks", f"n_responsive_{k}": "n_responsive"}
        columns = ["is_treatment", "block", "n_weeks_before", "n_responsive_before", *names]
        look = sums_by_week.select(columns).rename_columns([names.get(name, name) for name in columns])
        look = _engaged(look)
        if not _is_comparable(look):
            continue
        y, covariates = _engagement(look)
        estimate, error = adjusted_effect(y, _arms(look), look["block"].to_numpy(), covariates=covariates)
        looks.append({"week_date": week, "estimate": estimate, "standard_error": error, "n_caregivers": look.num_rows})
    known = [look["standard_error"] for look in looks if look["standard_error"] > 0]
    if not known:
        return EXPERIMENT_WEEKS.empty()
    low, high = confidence_sequence(
        [look["estimate"] for look in looks],
        [look["standard_error"] for look in looks],
        level=LEVEL,
        tuned_for=_TUNED_FOR_INFORMATION / known[0] ** 2,
    )
    rows = [{**look, "low": low[k], "high": high[k]} for k, look in enumerate(looks)]
    return conform(pa.Table.from_pylist(rows, schema=EXPERIMENT_WEEKS.arrow_schema()), EXPERIMENT_WEEKS)


def balance_facts(caregivers: pa.Table) -> pa.Table:
    """BALANCE_FACTS and the share of responsive weeks before treatment, one row per row of `caregivers`."""
    share, has_weeks = _share_before(caregivers)
    earlier = pa.array(share, mask=np.logical_not(has_weeks))
    return caregivers.select(list(BALANCE_FACTS)).append_column("responsive_share_before", earlier)


def _engaged(sums: pa.Table) -> pa.Table:
    return sums.filter(pc.fill_null(pc.greater(sums["n_weeks"], 0), False))


def _engagement(sums: pa.Table) -> tuple[FloatArray, FloatArray]:
    """The outcome and its covariates."""
    y = sums["n_responsive"].to_numpy() / sums["n_weeks"].to_numpy()
    return y, _covariates(sums)


def _doses(sums: pa.Table) -> tuple[FloatArray, FloatArray]:
    """The outcome and its covariates."""
    n_due = sums["n_due"].to_numpy().astype(np.float64)
    return sums["n_on_time"].to_numpy() / n_due.mean(), np.column_stack([n_due, _covariates(sums)])


def _covariates(sums: pa.Table) -> FloatArray:
    """The share of responsive weeks before, and whether there were any: shape (n_caregivers, 2)."""
    share, has_weeks = _share_before(sums)
    centre = share[has_weeks].mean() if has_weeks.any() else 0.0
    return np.column_stack([np.where(has_weeks, share, centre), has_weeks])


def _share_before(sums: pa.Table) -> tuple[FloatArray, BoolArray]:
    n_weeks = pc.fill_null(sums["n_weeks_before"], 0).to_numpy().astype(np.float64)
    n_responsive = pc.fill_null(sums["n_responsive_before"], 0).to_numpy().astype(np.float64)
    has_weeks = n_weeks > 0
    return np.divide(n_responsive, n_weeks, out=np.zeros_like(n_weeks), where=has_weeks), has_weeks


def _arms(sums: pa.Table) -> BoolArray:
    return np.asarray(sums["is_treatment"].to_numpy(), dtype=np.bool_)


def _is_comparable(sums: pa.Table) -> bool:
    """Whether a block has caregivers of both arms."""
    arms, block = _arms(sums), sums["block"].to_numpy()
    return bool(np.isin(block[arms], block[np.logical_not(arms)]).any())
