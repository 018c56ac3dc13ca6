"""Materializing the backtest of a week: scores, calibration, drift and the lag test, from its history.

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
from bandicoot_core.evaluation.backtest import Backtest, backtest
from bandicoot_core.evaluation.drift import Band, OneStepLosses, loss_band, loss_within_band, one_step_losses
from bandicoot_core.evaluation.lag_test import LagTest, lag_test
from bandicoot_core.model.recipe import options_behind_chances
from bandicoot_core.settings import ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.manifest import Manifest


@dataclass(frozen=True)
class Evaluated:
    """The backtest of a week as it was written, and what was concluded from it."""

    backtest: Backtest
    one_step: OneStepLosses
    band: Band | None
    drift: CheckOutcome
    lag: LagTest
    manifest: Manifest


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
    one_step = one_step_losses(tested.scores)
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
        facts={"lag_test": lag.verdict, "one_week_visits": [asdict(visit) for visit in lag.visits]},
    )
    return Evaluated(tested, one_step, loss_band(one_step), loss_within_band(one_step), lag, manifest)
