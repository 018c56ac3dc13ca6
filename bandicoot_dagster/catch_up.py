"""Bringing everything up to the list of a day: plan, run each step, and say what happened."""

import time
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

from bandicoot_core.errors import BandicootError, CheckFailedError, RejectedModelError, TrainingFailedError
from bandicoot_core.settings import ListOptions, ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.models import champion
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from bandicoot_dagster.launch import execute_step
from bandicoot_dagster.plan import Step, plan_list
from bandicoot_dagster.runtime import Clock, system_clock


def catch_up(
    installation: Installation,
    call_date: date,
    *,
    list_options: ListOptions,
    model_options: ModelOptions,
    say: Callable[[str], None],
    clock: Clock = system_clock,
) -> None:
    """Run every stale step up to the published list of `call_date`.

    A training that fails does not stop the list: the champion makes it, and the failure is raised after publication,
    as RejectedModelError when the candidate's checks refused it, else as TrainingFailedError. Without a champion it is
    raised at once.
    """
    with installation.published() as connection:
        current = champion(connection)
    steps = plan_list(
        installation.lake,
        call_date,
        settings=installation.settings,
        options=model_options,
        champion_week=current.training_week if current else None,
    )
    definitions = build_definitions(installation.settings, clock)
    training_failure: BandicootError | None = None
    with open_instance(installation) as instance:
        for step in steps:
            say(f"{step.job}: {_span(step)} ({step.why})")
            started = time.monotonic()
            try:
                execute_step(definitions, instance, step, run_config=run_config_of(step, list_options, model_options))
            except Exception as error:
                if step.job != "weekly_training" or current is None:
                    raise
                training_failure = _as_refusal(error, current.model_version)
                training_failure.__cause__ = error
                say(f"  no new model; the list is made with the champion {current.model_version}")
            say(f"  done in {time.monotonic() - started:.1f} s")
    if training_failure is not None:
        raise training_failure


def _as_refusal(error: Exception, champion_version: str) -> BandicootError:
    """What is raised after the list went out, with the model that made it."""
    kind = RejectedModelError if isinstance(error, CheckFailedError) else TrainingFailedError
    return kind(f"{error}\nthe list was made with the champion {champion_version}")


def _span(step: Step) -> str:
    if step.first_partition == step.last_partition:
        return step.last_partition
    return f"{step.first_partition} to {step.last_partition}, {step.n_days} days"


def run_config_of(step: Step, list_options: ListOptions, model_options: ModelOptions) -> Mapping[str, Any]:
    """The run configuration of a step that carries these options."""
    if step.job == "daily_list":
        return {"ops": {"call_list": {"config": _plain(list_options.model_dump())}}}
    if step.job == "weekly_training":
        return {"resources": {"training": {"config": _plain(model_options.model_dump())}}}
    return {}


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Option values as run configuration spells them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
