"""Why a run failed, from the events that Dagster keeps of it: its errors, and the BandicootError each one is.

Dagster keeps an error as the name of its class and its message. What follows from it is decided by who asks.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

import dagster as dg

from bandicoot_core import errors
from bandicoot_core.errors import BandicootError
from bandicoot_dagster.storage_errors import is_of_storage, storage_lost

RunError: TypeAlias = tuple[str | None, Any]
"""The step an error came from, None for one of the run itself, and the error as Dagster has serialized it."""

_FAILURES = {
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ENGINE_EVENT,
}


def errors_of_run(instance: dg.DagsterInstance, run_id: str) -> list[RunError]:
    """What went wrong in a run of the instance's history, errors of steps first."""
    entries = instance.all_logs(run_id, of_type=_FAILURES)
    return errors_among(entry.dagster_event for entry in entries if entry.dagster_event is not None)


def errors_among(events: Iterable[dg.DagsterEvent]) -> list[RunError]:
    """What went wrong in a run, errors of steps first: a run can also fail between its steps, or before the first."""
    of_steps: list[RunError] = []
    of_run: list[RunError] = []
    for event in events:
        data: Any = event.event_specific_data
        if event.event_type_value == "STEP_FAILURE":
            of_steps.append((event.step_key, data.error))
        elif event.event_type_value in ("PIPELINE_FAILURE", "ENGINE_EVENT"):
            of_run.append((event.step_key, getattr(data, "error", None)))
    return [(step_key, error) for step_key, error in (*of_steps, *of_run) if error is not None]


def foreseen(error: Any, doing: str) -> BandicootError | None:
    """The BandicootError behind an error that Dagster has serialized, None when nobody foresaw it."""
    link = error
    while link is not None:
        found = _as_foreseen(link.cls_name, link.message, doing)
        if found is not None:
            return found
        link = link.cause
    return None


def innermost(error: Any) -> Any:
    """The first cause of an error that Dagster has serialized; the error itself when it has none."""
    while error.cause is not None:
        error = error.cause
    return error


def reported_failure(instance: dg.DagsterInstance, run_id: str) -> str:
    """What was said of a run that was reported as failed from outside; empty when nothing was."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    return next((entry.dagster_event.message or "" for entry in entries if entry.dagster_event is not None), "")


def _as_foreseen(class_name: str | None, message: str, doing: str) -> BandicootError | None:
    said = message.partition(": ")[2].strip()
    kind = getattr(errors, class_name or "", None)
    if isinstance(kind, type) and issubclass(kind, BandicootError):
        return kind(said)
    if is_of_storage(class_name, message):
        return storage_lost(doing, said)
    return None
