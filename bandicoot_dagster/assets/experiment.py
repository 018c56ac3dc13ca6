"""The experiment report: what being in the treatment arm changes, and what other ways of choosing would have gained."""

import dagster as dg

from bandicoot_core.contracts import EXPERIMENT_BALANCE, EXPERIMENT_EFFECTS, EXPERIMENT_WEEKS, OFF_POLICY_VALUES
from bandicoot_core.evaluation.experiment_charts import (
    balance_of_arms,
    effect_over_weeks,
    effects_with_intervals,
    values_of_policies,
)
from bandicoot_core.pipeline.evaluation_experiment import materialize_experiment_report
from bandicoot_core.settings import load_model_options
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.assets.call_list import call_list
from bandicoot_dagster.assets.engagement import caregiver_states, engagement_history
from bandicoot_dagster.assets.source import calls, caregivers, vaccinations
from bandicoot_dagster.config import Training
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import partition_metadata, picture, preview
from bandicoot_dagster.partitions import training_window, weekly
from bandicoot_dagster.runtime import day_of_run

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
)
def experiment_report(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Report of the running experiment."""
    manifest = materialize_experiment_report(stores, day_of_run(context), training.options())
    effects, weeks, balance, values = (
        stores.lake.read(contract, manifest.asset, manifest.partition, table)
        for contract, table in (
            (EXPERIMENT_EFFECTS, "data"),
            (EXPERIMENT_WEEKS, "weeks"),
            (EXPERIMENT_BALANCE, "balance"),
            (OFF_POLICY_VALUES, "off_policy"),
        )
    )
    return dg.MaterializeResult(
        metadata={
            **partition_metadata(manifest),
            "effects_chart": picture(effects_with_intervals(effects), "Effect on each outcome with intervals"),
            "effect_over_weeks": picture(effect_over_weeks(weeks), "Effect so far with its always-valid interval"),
            "balance_chart": picture(balance_of_arms(balance), "Standardized differences between the arms"),
            "policies_chart": picture(values_of_policies(values), "Value of other policies with intervals"),
            "effects": preview(effects),
            "balance": preview(balance, n_rows=balance.num_rows),
            "off_policy_values": preview(values, n_rows=values.num_rows),
        }
    )
