"""Executing planned steps in this process on the persistent instance, so that the UI shows them like any other run."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from bandicoot_core.errors import CheckFailedError
from bandicoot_dagster.abandoned_runs import this_process
from bandicoot_dagster.partitions import RANGE_END_TAG, RANGE_START_TAG
from bandicoot_dagster.plan import Step
from bandicoot_dagster.run_failures import errors_among, foreseen, innermost
from bandicoot_dagster.storage_errors import storage_errors


def execute_step(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    step: Step,
    *,
    run_config: Mapping[str, Any] | None = None,
    only_asset: str | None = None,
) -> dg.ExecuteInProcessResult:
    """Run one step to its end in this process: all assets of its job, or only one of them.

    Raises the BandicootError that stopped it, CheckFailedError with every blocking check that refused it,
    UnreachableError when Dagster's own storage went away, or RuntimeError for a failure that nobody foresaw.
    """
    job = definitions.resolve_job_def(step.job)
    config = {"loggers": {"progress": {}}, **(run_config or {})}
    selection = [dg.AssetKey(only_asset)] if only_asset else None
    if step.first_partition == step.last_partition:
        where: dict[str, Any] = {"partition_key": step.first_partition, "tags": this_process()}
    else:
        tags = {RANGE_START_TAG: step.first_partition, RANGE_END_TAG: step.last_partition}
        where = {"tags": {**tags, **this_process()}}
    with storage_errors(f"{step.job} for {step.last_partition}"):
        result = job.execute_in_process(
            run_config=config, instance=instance, raise_on_error=False, asset_selection=selection, **where
        )
    if not result.success:
        raise _why_it_failed(result, step)
    return result


def _why_it_failed(result: dg.ExecuteInProcessResult, step: Step) -> Exception:
    """The failure of a run as the exception that a person can act on."""
    refusals = [
        f"{check.check_name}: {check.description}"
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.blocking
    ]
    if refusals:
        return CheckFailedError(
            f"{step.job} for {step.last_partition} was refused by its checks:\n  " + "\n  ".join(refusals)
        )
    doing = f"{step.job} for {step.last_partition}"
    errors = errors_among(result.all_events)
    for _, error in errors:
        cause = foreseen(error, doing)
        if cause is not None:
            return cause
    for step_key, error in errors:
        return RuntimeError(f"{step_key or step.job} failed: {innermost(error).message.strip()} (run {result.run_id})")
    return RuntimeError(f"{doing} failed; see run {result.run_id} in the UI")
