"""Bringing everything up to the list of a day: plan, run each step, and say what happened."""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

from bandicoot_core.errors import (
    BandicootError,
    CheckFailedError,
    CorruptPartitionError,
    RejectedModelError,
    TrainingFailedError,
)
from bandicoot_core.pipeline.daily_staleness import stale_lists
from bandicoot_core.settings import ListOptions, ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.models import ModelRecord, champion
from bandicoot_dagster.abandoned_runs import end_abandoned_runs
from bandicoot_dagster.clock import Clock, system_clock
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from bandicoot_dagster.launch import execute_step
from bandicoot_dagster.plan import Damaged, Step, damaged_partitions, plan_days, plan_model_and_list
from bandicoot_dagster.storage_errors import storage_errors


def catch_up(
    installation: Installation,
    call_date: date,
    *,
    list_options: ListOptions,
    model_options: ModelOptions,
    say: Callable[[str], None],
    clock: Clock = system_clock,
) -> None:
    """Run every stale step up to the published list of `call_date`, and name earlier lists that are stale now.

    A partition that turns out damaged is made again, with all that is damaged like it, from what it is made of; a
    second finding is raised (CorruptPartitionError). A training that fails does not stop the list: the champion makes
    it, and the failure is raised after publication, as RejectedModelError when the candidate's checks refused it, else
    as TrainingFailedError. Without a champion it is raised at once.
    """

    def run_plan(damaged: Damaged) -> None:
        with installation.published() as connection:
            current = champion(connection)
        steps = _steps(installation, call_date, model_options, current, damaged)
        _run_steps(installation, steps, current, list_options, model_options, say, clock)

    try:
        run_plan({})
    except CorruptPartitionError as error:
        damaged = damaged_partitions(installation.lake)
        if not damaged:
            raise
        say(f"{error}")
        listed = "; ".join(f"{asset} {', '.join(partitions)}" for asset, partitions in damaged.items())
        say(f"making again what is damaged: {listed}")
        run_plan(damaged)
    for line in describe_stale_lists(installation, call_date):
        say(line)


def _run_steps(
    installation: Installation,
    steps: Iterator[Step],
    current: ModelRecord | None,
    list_options: ListOptions,
    model_options: ModelOptions,
    say: Callable[[str], None],
    clock: Clock,
) -> None:
    definitions = build_definitions(installation.settings, clock)
    training_failure: BandicootError | None = None
    with open_instance(installation) as instance:
        with storage_errors("ending abandoned runs"):
            end_abandoned_runs(instance)
        for step in steps:
            say(f"{step.job}: {span_of(step)} ({step.why})")
            started = time.monotonic()
            try:
                execute_step(definitions, instance, step, run_config=run_config_of(step, list_options, model_options))
            except CorruptPartitionError:
                raise
            except Exception as error:
                if step.job != "weekly_training" or current is None:
                    raise
                training_failure = _as_refusal(error, current.model_version)
                training_failure.__cause__ = error
                say(f"  no new model; the list is made with the champion {current.model_version}")
            say(f"  done in {time.monotonic() - started:.1f} s")
    if training_failure is not None:
        raise training_failure


def describe_stale_lists(installation: Installation, call_date: date) -> list[str]:
    """A line for each list of the lookback before `call_date` that is stale: it went out and stays."""
    stale = stale_lists(installation.lake, call_date, installation.settings.lookback_days)
    return [f"the list of {day} went out and stays, though {why}" for day, why in stale.items()]


def _steps(
    installation: Installation,
    call_date: date,
    options: ModelOptions,
    current: ModelRecord | None,
    damaged: Damaged,
) -> Iterator[Step]:
    """What is to run: whether the model is stale is asked when the days before the list have been closed."""
    lake, settings = installation.lake, installation.settings
    yield from plan_days(lake, call_date, settings=settings, options=options, damaged=damaged)
    week = current.training_week if current else None
    yield from plan_model_and_list(lake, call_date, options=options, champion_week=week, damaged=damaged)


def _as_refusal(error: Exception, champion_version: str) -> BandicootError:
    """What is raised after the list went out, with the model that made it."""
    kind = RejectedModelError if isinstance(error, CheckFailedError) else TrainingFailedError
    return kind(f"{error}\nthe list was made with the champion {champion_version}")


def span_of(step: Step) -> str:
    """The partitions of a step in words."""
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
