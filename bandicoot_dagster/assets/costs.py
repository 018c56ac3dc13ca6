"""The cost report, of the operation group: what the month has cost, against its limit."""

import dagster as dg

from bandicoot_core.calendar import end_of_day
from bandicoot_core.contracts import SPENDING
from bandicoot_core.costs.spending import month_start
from bandicoot_core.pipeline.costs import materialize_cost_report, read_cost_report
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import partition_metadata, report_metadata
from bandicoot_dagster.partitions import daily
from bandicoot_dagster.run_times import run_times
from bandicoot_dagster.runtime import Clock, day_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version


@dg.asset(
    **described(
        SPENDING,
        group="operation",
        kinds=("python", "parquet"),
        description=(
            "What the month has cost up to the end of a day, by component: runs by their durations, the lake by its "
            "size, everything else by its monthly price; and what the month will come to, against the limit."
        ),
    ),
    partitions_def=daily,
    pool=pools.EVALUATION,
)
@written_alone()
def cost_report(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], clock: dg.ResourceParam[Clock]
) -> dg.MaterializeResult:
    """Spending of the month."""
    day = day_of_run(context)
    times = run_times(context.instance, since=month_start(day), until=min(clock(), end_of_day(day)))
    manifest = materialize_cost_report(stores, day, times)
    return dg.MaterializeResult(
        metadata={**partition_metadata(manifest), **report_metadata(read_cost_report(stores.lake, day))},
        data_version=data_version(manifest),
    )
