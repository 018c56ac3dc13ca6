"""The backtest of a week: scores, calibration, drift and the lag test from its history, and what they say.

Nothing here decides about a model: promotion does its own comparisons (`guarding`), and this evaluation may fail or be
late without holding up anything.
"""

from dataclasses import asdict, dataclass
from datetime import date

from bandicoot_core.calendar import last_day_of_week, weeks_ending_with
from bandicoot_core.checks import CheckOutcome
from bandicoot_core.contracts import (
    CALIBRATION,
    CAREGIVERS,
    CONTROL_ARM,
    ENGAGEMENT_HISTORY,
    MEMORY_TEST,
    MODEL_BACKTEST,
)
from bandicoot_core.evaluation.backtest import backtest, pooled_scores
from bandicoot_core.evaluation.backtest_charts import calibration_chart, loss_in_band, losses_by_origin
from bandicoot_core.evaluation.drift import loss_band, loss_within_band, one_step_losses
from bandicoot_core.evaluation.lag_test import lag_test
from bandicoot_core.evaluation.report import Report
from bandicoot_core.model.recipe import options_behind_chances
from bandicoot_core.settings import ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest


@dataclass(frozen=True)
class Evaluated:
    """The backtest of a week as it was written, and whether its last week behaved as expected."""

    manifest: Manifest
    drift: CheckOutcome


def materialize_model_backtest(stores: Installation, week: date, options: ModelOptions) -> Evaluated:
    """Write the `model_backtest` partition of a week.

    MissingPartitionError when the week's history or registry snapshot is absent, InvalidInputError when its window is
    too short for a backtest.
    """
    lake, key = stores.lake, week.isoformat()
    n_weeks = int(lake.require("engagement_history", key).facts["n_weeks"])
    with stores.engine() as engine, lake.reader(engine) as reader:
        scanned = reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [key])
        history = engine.create_table("history", scanned, temp=True)
        caregivers = reader.scan(CAREGIVERS, "caregivers", [last_day_of_week(week).isoformat()])
        tested = backtest(history, options, weeks=weeks_ending_with(week, n_weeks), caregivers=caregivers)
        control = caregivers.filter(caregivers.ab_arm == CONTROL_ARM)
        lag = lag_test(history, options, n_weeks=n_weeks, never_called=control.select("caregiver_key"))
        inputs = dict(reader.inputs)
    drift = loss_within_band(one_step_losses(tested.scores))
    manifest = lake.write(
        "model_backtest",
        key,
        {
            "data": (MODEL_BACKTEST, tested.scores),
            "calibration": (CALIBRATION, tested.calibration),
            "memory_test": (MEMORY_TEST, lag.gains),
        },
        inputs=inputs,
        recipe=options_behind_chances(options),
        facts={
            "lag_test": lag.verdict,
            "one_week_visits": [asdict(visit) for visit in lag.visits],
            "drift": drift.description,
            "has_drifted": not drift.is_passed,
        },
    )
    return Evaluated(manifest, drift)


def read_model_backtest(lake: Lake, week: date) -> Report:
    """The materialized report; MissingPartitionError when it is absent."""
    key = week.isoformat()
    facts = lake.require("model_backtest", key).facts
    scores = lake.read(MODEL_BACKTEST, "model_backtest", key)
    one_step = one_step_losses(scores)
    return Report(
        title=f"How well models predicted the weeks after they were trained, week {week}",
        sentences=[str(facts["drift"]), str(facts["lag_test"])],
        tables={
            "all weeks": pooled_scores(scores),
            "by action": pooled_scores(scores, scope="action"),
            "by district": pooled_scores(scores, scope="district"),
            "by cluster": pooled_scores(scores, scope="cluster"),
            "memory": lake.read(MEMORY_TEST, "model_backtest", key, "memory_test"),
        },
        pictures={
            "calibration": calibration_chart(lake.read(CALIBRATION, "model_backtest", key, "calibration")),
            "loss by origin": losses_by_origin(scores),
            "loss of the newest week": loss_in_band(one_step, loss_band(one_step)),
        },
    )
