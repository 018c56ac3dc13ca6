"""The evaluation group: how well models predict, week by week. Nothing downstream waits for it."""

import dagster as dg

from bandicoot_core.contracts import MODEL_BACKTEST
from bandicoot_core.evaluation.backtest import pooled_scores
from bandicoot_core.evaluation.backtest_charts import calibration_chart, loss_in_band, losses_by_origin
from bandicoot_core.evaluation.drift import DRIFT_CHECKS
from bandicoot_core.pipeline.evaluation_backtest import materialize_model_backtest
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.assets.engagement import engagement_history
from bandicoot_dagster.assets.source import caregivers
from bandicoot_dagster.checks import check_specs
from bandicoot_dagster.config import Training
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import check_results, partition_metadata, picture, preview
from bandicoot_dagster.partitions import training_window, weekly
from bandicoot_dagster.runtime import day_of_run

_registry = dg.AssetDep(caregivers, partition_mapping=training_window(1))


@dg.asset(
    **described(
        MODEL_BACKTEST,
        group="evaluation",
        kinds=("numpy", "parquet"),
        description=(
            "How well models trained up to earlier weeks predicted the weeks that followed: log loss, Brier score and "
            "calibration against simple baselines, by horizon, district, cluster and action; whether the newest week "
            "behaves as expected; and whether two states are enough."
        ),
    ),
    partitions_def=weekly,
    deps=[_registry, engagement_history],
    check_specs=check_specs("model_backtest", DRIFT_CHECKS, warning_only=DRIFT_CHECKS),
)
def model_backtest(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Backtest of the week's recipe."""
    made = materialize_model_backtest(stores, day_of_run(context), training.options())
    scores = made.backtest.scores
    by_action = pooled_scores(scores, scope="action")
    return dg.MaterializeResult(
        metadata={
            **partition_metadata(made.manifest),
            "calibration": picture(calibration_chart(made.backtest.calibration), "Predicted and observed shares"),
            "losses": picture(losses_by_origin(scores), "Log loss by origin, against the baselines"),
            "newest_week": picture(loss_in_band(made.one_step, made.band), "Loss of each week and the expected band"),
            "scores": preview(pooled_scores(scores), n_rows=scores.num_rows),
            "scores_by_action": preview(by_action, n_rows=by_action.num_rows),
            "memory_test": preview(made.lag.gains),
        },
        check_results=check_results([made.drift], "model_backtest"),
    )
