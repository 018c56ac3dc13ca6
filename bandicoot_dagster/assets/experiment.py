"""The experiment report: what being in the treatment arm changes, and what other ways of choosing would have gained."""

import dagster as dg

from bandicoot_core.contracts import EXPERIMENT_EFFECTS
from bandicoot_core.pipeline.evaluation_experiment import materialize_experiment_report, read_experiment_report
from bandicoot_core.settings import load_model_options
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.assets.call_list import call_list
from bandicoot_dagster.assets.engagement import caregiver_states, engagement_history
from bandicoot_dagster.assets.source import calls, caregivers, vaccinations
from bandicoot_dagster.config import Training
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import partition_metadata, report_metadata
from bandicoot_dagster.partitions import training_window, weekly
from bandicoot_dagster.runtime import day_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version

_window = training_window(load_model_options().training_weeks)


@dg.asset(
    **described(
        EXPERIMENT_EFFECTS,
        group="evaluation",
        kinds=("numpy", "parquet"),
        description=(
            "Treatment against control: how many more weeks caregivers are responsive and how many more doses are "
            "given on time when their arm may be called, with intervals from redrawing the arms, an interval that may "
            "be looked at every week, the balance of the arms, and what other ways of choosing would have gained."
        ),
    ),
    partitions_def=weekly,
    deps=[
        dg.AssetDep(caregivers, partition_mapping=training_window(1)),
        engagement_history,
        dg.AssetDep(vaccinations, partition_mapping=_window),
        dg.AssetDep(calls, partition_mapping=_window),
        dg.AssetDep(caregiver_states, partition_mapping=_window),
        dg.AssetDep(call_list, partition_mapping=_window),
    ],
    pool=pools.EVALUATION,
)
@written_alone()
def experiment_report(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Report of the running experiment."""
    week = day_of_run(context)
    manifest = materialize_experiment_report(stores, week, training.options())
    return dg.MaterializeResult(
        metadata={**partition_metadata(manifest), **report_metadata(read_experiment_report(stores.lake, week))},
        data_version=data_version(manifest),
    )
