"""The model backtest, of the evaluation group: how well models predict. Nothing downstream waits for it."""

import dagster as dg

from bandicoot_core.contracts import MODEL_BACKTEST
from bandicoot_core.evaluation.drift import DRIFT_CHECKS
from bandicoot_core.pipeline.evaluation_backtest import materialize_model_backtest, read_model_backtest
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.assets.engagement import engagement_history
from bandicoot_dagster.assets.source import caregivers
from bandicoot_dagster.checks import check_specs
from bandicoot_dagster.config import Training
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import check_results, partition_metadata, report_metadata
from bandicoot_dagster.partitions import training_window, weekly
from bandicoot_dagster.runtime import day_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version

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
    pool=pools.EVALUATION,
)
@written_alone()
def model_backtest(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Backtest of the week's recipe."""
    week = day_of_run(context)
    made = materialize_model_backtest(stores, week, training.options())
    return dg.MaterializeResult(
        metadata={**partition_metadata(made.manifest), **report_metadata(read_model_backtest(stores.lake, week))},
        check_results=check_results([made.drift], "model_backtest"),
        data_version=data_version(made.manifest),
    )
