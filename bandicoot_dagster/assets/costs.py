"""The cost report, of the operation group: what the month has cost, against its limit."""

import dagster as dg

from bandicoot_core.calendar import end_of_day
from bandicoot_core.contracts import SPENDING
from bandicoot_core.costs.spending import month_start
from bandicoot_core.pipeline.costs import COST_CHECKS, materialize_cost_report, read_cost_report
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.billing import Bill
from bandicoot_dagster.checks import check_specs
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import check_results, partition_metadata, report_metadata
from bandicoot_dagster.partitions import daily
from bandicoot_dagster.run_times import run_times
from bandicoot_dagster.runtime import day_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version


@dg.asset(
    **described(
        SPENDING,
        group="operation",
        kinds=("python", "parquet"),
        description=(
            "What the month has cost up to the end of a day, by component: runs by their durations, the lake by its "
            "size, everything else by its monthly price, and where Google's bill is configured by what it says so far; "
            "and what the month will come to, against the limit."
        ),
    ),
    partitions_def=daily,
    check_specs=check_specs("cost_report", COST_CHECKS, warning_only=COST_CHECKS),
    pool=pools.EVALUATION,
)
@written_alone()
def cost_report(
    context: dg.AssetExecutionContext,
    stores: dg.ResourceParam[Installation],
    clock: dg.ResourceParam[Clock],
    bill: dg.ResourceParam[Bill],
) -> dg.MaterializeResult:
    """Spending of the month."""
    day = day_of_run(context)
    times = run_times(context.instance, since=month_start(day), until=min(clock(), end_of_day(day)))
    made = materialize_cost_report(stores, day, times, read_bill=bill.read if bill.is_configured else None)
    if not made.bill.is_passed:
        context.log.warning(made.bill.description)
    return dg.MaterializeResult(
        metadata={
            **partition_metadata(made.manifest),
            **report_metadata(read_cost_report(stores.lake, day)),
            "bill": made.bill.description,
        },
        check_results=check_results([made.bill], "cost_report"),
        data_version=data_version(made.manifest),
    )
