"""The job `housekeeping`: removes what nobody reads any more, in one process and beside whatever else runs.

Nothing here is an asset: what it removes is never a result. What goes and what stays belongs to pruning.
"""

import dagster as dg

from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.pruning import history_start, prune_instance


@dg.op
def prune_dagster(
    context: dg.OpExecutionContext, stores: dg.ResourceParam[Installation], clock: dg.ResourceParam[Clock]
) -> None:
    """Remove logs of runs and ticks older than the setting `dagster_history_days`."""
    n_days = stores.settings.dagster_history_days
    pruned = prune_instance(
        context.instance, stores.dagster_storage_url, before=history_start(clock(), n_days), is_dry_run=False
    )
    context.log.info(f"older than {n_days} days: {pruned.sentence(is_dry_run=False)}")


@dg.job(
    description="Removes old logs of runs and ticks from Dagster's storage; results stay.",
    executor_def=dg.in_process_executor,
)
def housekeeping() -> None:
    """One step so far."""
    prune_dagster()
