"""The policy simulation, of the evaluation group: what each policy of calling would reach."""

import dagster as dg

from bandicoot_core.contracts import POLICY_SIMULATION
from bandicoot_core.pipeline.evaluation_simulation import materialize_policy_simulation, read_policy_simulation
from bandicoot_core.settings import load_evaluation_options, load_list_options
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.assets.engagement import caregiver_states
from bandicoot_dagster.assets.model import model_version
from bandicoot_dagster.config import Training
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import partition_metadata, report_metadata
from bandicoot_dagster.partitions import training_window, weekly
from bandicoot_dagster.runtime import day_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version


@dg.asset(
    **described(
        POLICY_SIMULATION,
        group="evaluation",
        kinds=("scipy", "parquet"),
        description=(
            "What each way of choosing whom to call would reach in simulation: engagement drops prevented and the "
            "share of what can be gained at most, on the programme as the champion describes it and on two public "
            "cohorts, with what one more call in a district is worth."
        ),
    ),
    partitions_def=weekly,
    deps=[dg.AssetDep(caregiver_states, partition_mapping=training_window(1)), model_version],
    pool=pools.EVALUATION,
)
@written_alone()
def policy_simulation(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Policies compared in simulation."""
    week = day_of_run(context)
    manifest = materialize_policy_simulation(
        stores, week, load_list_options(), training.options(), load_evaluation_options()
    )
    return dg.MaterializeResult(
        metadata={**partition_metadata(manifest), **report_metadata(read_policy_simulation(stores.lake, week))},
        data_version=data_version(manifest),
    )
