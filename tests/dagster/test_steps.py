"""A step that writes does so alone, and is tried again only where waiting helps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg
import pytest

from bandicoot_core.errors import BandicootError, BusyError, InvalidInputError, PartitionHeldError, UnreachableError
from bandicoot_dagster import steps
from bandicoot_dagster.launch import execute_step
from bandicoot_dagster.partitions import daily
from bandicoot_dagster.plan import Step
from bandicoot_dagster.progress import progress_logger
from bandicoot_dagster.steps import N_RETRIES, written_alone


class Stores:
    """Remembers who wanted to write what."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str], str]] = []

    @contextmanager
    def sole_writer(
        self, asset: str, partitions: Sequence[str], *, holder: str, is_whole_asset: bool = False
    ) -> Iterator[None]:
        self.asked.append((asset, list(partitions), holder))
        yield


def attempts(error: BandicootError, *, is_retried: bool, n_failures: int = 100) -> tuple[bool, int, Stores]:
    """Whether a step that fails so often with an error succeeded in the end, and how often it was tried."""
    n_tried = 0

    @dg.asset(name="calls", partitions_def=daily)
    @written_alone(is_retried=is_retried)
    def asset(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Stores]) -> None:
        nonlocal n_tried
        n_tried += 1
        if n_tried <= n_failures:
            raise error

    stores = Stores()
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            [asset], partition_key="2026-11-18", resources={"stores": stores}, instance=instance, raise_on_error=False
        )
    return result.success, n_tried, stores


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "SECONDS_BETWEEN", 0)


@pytest.mark.parametrize("error", [UnreachableError("away"), BusyError("a deadlock")])
def test_a_step_is_tried_again_when_a_server_was_away_or_busy(error: BandicootError) -> None:
    assert attempts(error, is_retried=True, n_failures=1)[:2] == (True, 2)
    assert attempts(error, is_retried=True)[:2] == (False, 1 + N_RETRIES)
    assert attempts(error, is_retried=False)[:2] == (False, 1)


@pytest.mark.parametrize("error", [InvalidInputError("bad"), PartitionHeldError("held")])
def test_a_step_is_not_tried_again_when_waiting_does_not_help(error: BandicootError) -> None:
    assert attempts(error, is_retried=True)[:2] == (False, 1)


def test_a_step_asks_to_be_the_only_writer_and_says_who_it_is() -> None:
    _, _, stores = attempts(BusyError("unused"), is_retried=True, n_failures=0)
    [(asset, partitions, holder)] = stores.asked
    assert (asset, partitions) == ("calls", ["2026-11-18"])
    assert holder.startswith("run ")
    assert " on " in holder


def test_a_run_that_fails_before_its_first_step_says_why() -> None:
    @dg.resource
    def unreachable(context: dg.InitResourceContext) -> None:
        raise UnreachableError("the database does not answer; start it")

    @dg.asset(partitions_def=daily, required_resource_keys={"database"})
    def states() -> None: ...

    definitions = dg.Definitions(
        assets=[states],
        jobs=[dg.define_asset_job("nightly", executor_def=dg.in_process_executor)],
        resources={"database": unreachable},
        loggers={"progress": progress_logger},
    )
    with dg.instance_for_test() as instance, pytest.raises(UnreachableError, match="does not answer; start it"):
        execute_step(definitions, instance, Step("nightly", "2026-11-18", "2026-11-18", why="test"))
