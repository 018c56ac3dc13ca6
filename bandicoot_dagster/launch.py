"""Executing planned steps in this process on the persistent instance, so that the UI shows them like any other run."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from bandicoot_core import errors
from bandicoot_core.errors import BandicootError, CheckFailedError
from bandicoot_dagster.abandoned_runs import this_process
from bandicoot_dagster.plan import Step
from bandicoot_dagster.storage_errors import is_of_storage, storage_errors, storage_lost

_RANGE_START = "dagster/asset_partition_range_start"
_RANGE_END = "dagster/asset_partition_range_end"


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
        tags = {_RANGE_START: step.first_partition, _RANGE_END: step.last_partition}
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
    for step_key, error in _errors(result):
        link: Any = error
        while link is not None:
            foreseen = _as_foreseen(link.cls_name, link.message, step)
            if foreseen is not None:
                return foreseen
            last, link = link, link.cause
        return RuntimeError(f"{step_key or step.job} failed: {last.message.strip()} (run {result.run_id})")
    return RuntimeError(f"{step.job} for {step.last_partition} failed; see run {result.run_id} in the UI")


def _errors(result: dg.ExecuteInProcessResult) -> list[tuple[str | None, Any]]:
    """What went wrong in a run, errors of steps first: a run can also fail between its steps, or before the first."""
    of_steps: list[tuple[str | None, Any]] = []
    of_run: list[tuple[str | None, Any]] = []
    for event in result.all_events:
        if event.event_type_value == "STEP_FAILURE":
            of_steps.append((event.step_key, event.step_failure_data.error))
        elif event.event_type_value == "PIPELINE_FAILURE":
            of_run.append((None, event.job_failure_data.error))
        elif event.event_type_value == "ENGINE_EVENT":
            of_run.append((event.step_key, event.engine_event_data.error))
    return [(step_key, error) for step_key, error in (*of_steps, *of_run) if error is not None]


def _as_foreseen(class_name: str | None, message: str, step: Step) -> BandicootError | None:
    """The BandicootError that Dagster has serialized to its class name and message, None for any other error."""
    said = message.partition(": ")[2].strip()
    kind = getattr(errors, class_name or "", None)
    if isinstance(kind, type) and issubclass(kind, BandicootError):
        return kind(said)
    if is_of_storage(class_name, message):
        return storage_lost(f"{step.job} for {step.last_partition}", said)
    return None
