"""The coverage report, of the evaluation group: whom the calls reach."""

import dagster as dg

from bandicoot_core.contracts import COVERAGE
from bandicoot_core.pipeline.evaluation_coverage import (
    COVERAGE_WEEKS,
    materialize_coverage_report,
    read_coverage_report,
)
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.assets.engagement import caregiver_states
from bandicoot_dagster.assets.model import model_version
from bandicoot_dagster.assets.source import calls
from bandicoot_dagster.automation import COVERAGE_FOLLOWS_ITS_MODEL
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import partition_metadata, report_metadata
from bandicoot_dagster.partitions import training_window, weekly
from bandicoot_dagster.runtime import day_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version


@dg.asset(
    **described(
        COVERAGE,
        group="evaluation",
        kinds=("duckdb", "parquet"),
        description=(
            "Whom the calls of the last four weeks reached: by district, parity and age band the share that was "
            "called, what a call is worth there, and how long the longest have waited."
        ),
    ),
    partitions_def=weekly,
    deps=[
        dg.AssetDep(caregiver_states, partition_mapping=training_window(1)),
        dg.AssetDep(calls, partition_mapping=training_window(COVERAGE_WEEKS)),
        model_version,
    ],
    automation_condition=COVERAGE_FOLLOWS_ITS_MODEL,
    pool=pools.EVALUATION,
)
@written_alone()
def coverage_report(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation]) -> dg.MaterializeResult:
    """Coverage by district, parity and age band."""
    week = day_of_run(context)
    manifest = materialize_coverage_report(stores, week)
    return dg.MaterializeResult(
        metadata={**partition_metadata(manifest), **report_metadata(read_coverage_report(stores.lake, week))},
        data_version=data_version(manifest),
    )
