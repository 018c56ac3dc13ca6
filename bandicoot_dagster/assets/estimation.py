"""The estimation report, of the evaluation group: which estimator of what calls do comes nearest to the truth."""

import dagster as dg

from bandicoot_core.contracts import ESTIMATION
from bandicoot_core.pipeline.evaluation_estimation import materialize_estimation_report, read_estimation_report
from bandicoot_core.settings import load_evaluation_options, load_model_options
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.assets.call_list import call_list
from bandicoot_dagster.assets.engagement import engagement_history
from bandicoot_dagster.assets.model import transition_models
from bandicoot_dagster.config import Training
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import partition_metadata, report_metadata
from bandicoot_dagster.partitions import training_window, weekly
from bandicoot_dagster.runtime import day_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version


@dg.asset(
    **described(
        ESTIMATION,
        group="evaluation",
        kinds=("numpy", "parquet"),
        description=(
            "Which way of estimating what calls do comes nearest to the truth when calls are few: errors, the worth of "
            "the list and the honesty of intervals on simulated programmes, and predictions of held-out weeks. And "
            "whether calls that chance chose did what the model says."
        ),
    ),
    partitions_def=weekly,
    deps=[
        engagement_history,
        transition_models,
        dg.AssetDep(call_list, partition_mapping=training_window(load_model_options().training_weeks)),
    ],
    pool=pools.EVALUATION,
)
@written_alone()
def estimation_report(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Estimators side by side."""
    week = day_of_run(context)
    manifest = materialize_estimation_report(stores, week, training.options(), load_evaluation_options())
    return dg.MaterializeResult(
        metadata={**partition_metadata(manifest), **report_metadata(read_estimation_report(stores.lake, week))},
        data_version=data_version(manifest),
    )
