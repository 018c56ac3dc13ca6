"""Runs that are started in the webserver and executed on Cloud Run: real daemon, webserver, workers; a local API."""

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from bandicoot_dagster.cloud_run import EXECUTION_TAG
from tests.conftest import fresh_database
from tests.servers.cloud_run import SILENCE, Execution
from tests.servers.dagster_on_cloud_run import Site, dagster_on_cloud_run

Code = grpc.StatusCode
REFUSALS = [Code.PERMISSION_DENIED, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED, Code.INTERNAL, Code.UNAVAILABLE]


class Operator:
    """Somebody in Dagster's UI."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def launch(self, job: str) -> str:
        """Start a job; the id of its run."""
        selector = '{repositoryLocationName: "bandicoot", repositoryName: "__repository__", jobName: "' + job + '"}'
        answer = self.site.dagster.ask(
            f'mutation {{ launchRun(executionParams: {{selector: {selector}, mode: "default"}}) '
            "{ __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def end(self, run_id: str) -> str:
        """End a run; what the UI answers."""
        query = f'mutation {{ terminateRun(runId: "{run_id}") {{ __typename }} }}'
        return str(self.site.dagster.ask(query)["terminateRun"]["__typename"])

    def run(self, run_id: str) -> dict[str, Any]:
        fields = "status tags { key value }"
        found: dict[str, Any] = self.site.dagster.ask(
            f'{{ runOrError(runId: "{run_id}") {{ ... on Run {{ {fields} }} }} }}'
        )
        return found["runOrError"]

    def status(self, run_id: str) -> str:
        return str(self.run(run_id)["status"])

    def log(self, run_id: str) -> str:
        events = "events { ... on MessageEvent { message } }"
        query = f'{{ logsForRun(runId: "{run_id}") {{ ... on EventConnection {{ {events} }} }} }}'
        found = self.site.dagster.ask(query)["logsForRun"]["events"]
        return "\n".join(event.get("message", "") for event in found)

    def retry_of(self, run_id: str) -> str | None:
        tag = f'{{key: "dagster/parent_run_id", value: "{run_id}"}}'
        query = f"{{ runsOrError(filter: {{tags: [{tag}]}}) {{ ... on Runs {{ results {{ runId }} }} }} }}"
        found = self.site.dagster.ask(query)["runsOrError"]["results"]
        return str(found[0]["runId"]) if found else None

    def executions(self, run_id: str) -> list[Execution]:
        return self.site.cloud_run.of_run(run_id)

    def let_end(self, run_id: str) -> None:
        """What a worker of the job `long` waits for."""
        (self.site.folder / run_id).touch()

    def comes_to(self, run_id: str, status: str, timeout_seconds: float = 60) -> None:
        self.until(lambda: self.status(run_id) == status, f"run {run_id} to be {status}", timeout_seconds)

    def until(self, holds: Callable[[], object], what: str, timeout_seconds: float = 60) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain for {what}: {self.site.daemon_log.read_text()[-6000:]}"
            time.sleep(0.1)

    def is_looked_at(self, n_times: int = 2) -> None:
        """Wait until the daemon has asked after executions, so many times from now on."""
        before = self._n_asked()
        self.until(lambda: self._n_asked() >= before + n_times, f"{n_times} looks of the daemon")

    def _n_asked(self) -> int:
        return sum(method == "GetExecution" for method, _ in self.site.cloud_run.requests)


@pytest.fixture(scope="module")
def operator(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder: Path = tmp_path_factory.mktemp("site")
    with fresh_database(server, "template0") as url, dagster_on_cloud_run(url, folder) as site:
        yield Operator(site)


@pytest.fixture
def long_run(operator: Operator) -> Iterator[str]:
    """A run whose worker is at work."""
    run_id = operator.launch("long")
    operator.comes_to(run_id, "STARTED")
    yield run_id
    operator.let_end(run_id)


def test_a_run_goes_from_the_webserver_to_an_execution_and_back(operator: Operator) -> None:
    run_id = operator.launch("short")
    operator.comes_to(run_id, "SUCCESS")
    [execution] = operator.executions(run_id)
    operator.until(lambda: execution.message.succeeded_count == 1, "the execution to succeed")
    assert execution.message.job == "bandicoot-run-small"
    assert {"key": EXECUTION_TAG, "value": execution.message.name} in operator.run(run_id)["tags"]
    assert "Started an execution on Cloud Run" in operator.log(run_id)
    command = " ".join(execution.message.template.containers[0].args)
    assert "BANDICOOT_DAGSTER_STORAGE_URL" in command
    assert "postgresql" not in command  # the variable is named; its value is the Job's


def test_the_execution_of_a_failed_run_fails_and_is_not_repeated(operator: Operator) -> None:
    run_id = operator.launch("failing")
    operator.comes_to(run_id, "FAILURE")
    [execution] = operator.executions(run_id)
    operator.until(lambda: execution.message.failed_count == 1, "the execution to fail")
    assert execution.process.returncode == 1
    assert operator.retry_of(run_id) is None


def test_a_run_lives_through_everything_that_cloud_run_may_answer(operator: Operator, long_run: str) -> None:
    [execution] = operator.executions(long_run)
    assert execution.message.job == "bandicoot-run-large"
    assert not execution.message.reconciling
    operator.is_looked_at()
    for refusal in REFUSALS:
        with operator.site.cloud_run.refusing("GetExecution", refusal) as given:
            operator.until(lambda given=given: given.n_given >= 2, f"the daemon to be told {refusal} twice")
        assert operator.status(long_run) == "STARTED"
    with operator.site.cloud_run.refusing("GetExecution", SILENCE, n_times=1):
        operator.is_looked_at(2)  # the second look comes after the first was given up
    assert operator.status(long_run) == "STARTED"
    operator.let_end(long_run)
    operator.comes_to(long_run, "SUCCESS")
    assert operator.executions(long_run) == [execution]


def test_a_run_that_is_ended_in_the_webserver_is_cancelled_when_its_worker_is(
    operator: Operator, long_run: str
) -> None:
    [execution] = operator.executions(long_run)
    with operator.site.cloud_run.refusing("CancelExecution", Code.PERMISSION_DENIED):
        assert operator.end(long_run) == "TerminateRunFailure"
    assert (operator.status(long_run), execution.process.poll()) == ("STARTED", None)
    assert operator.end(long_run) == "TerminateRunSuccess"
    operator.comes_to(long_run, "CANCELED")
    operator.until(lambda: execution.message.cancelled_count == 1, "the execution to be cancelled")
    assert execution.process.returncode != -signal.SIGKILL  # it had the time to say so itself
    assert operator.retry_of(long_run) is None


def test_a_killed_worker_is_noticed_and_its_run_begun_again(operator: Operator, long_run: str) -> None:
    [execution] = operator.executions(long_run)
    execution.process.kill()
    operator.comes_to(long_run, "FAILURE")
    assert "Detected run worker status FAILED" in operator.log(long_run)
    assert "exit code -9" in operator.log(long_run)
    operator.until(lambda: operator.retry_of(long_run), "another run")
    again = operator.retry_of(long_run)
    assert again is not None
    operator.let_end(long_run)
    operator.comes_to(again, "SUCCESS")
    [second] = operator.executions(again)
    assert second.message.name != execution.message.name


def test_a_run_waits_while_cloud_run_starts_nothing_and_gets_one_worker(operator: Operator) -> None:
    with operator.site.cloud_run.refusing("RunJob", Code.PERMISSION_DENIED) as forbidden:
        run_id = operator.launch("short")
        operator.until(lambda: "re-submitting the run" in operator.log(run_id), "the run to be put back")
        assert operator.status(run_id) in ("QUEUED", "STARTING")
    assert forbidden.n_given >= 2
    with (
        operator.site.cloud_run.refusing("RunJob", Code.RESOURCE_EXHAUSTED, n_times=1),
        operator.site.cloud_run.refusing("RunJob", Code.UNAVAILABLE, n_times=1, does_it_all_the_same=True),
    ):
        operator.comes_to(run_id, "SUCCESS")
    assert len(operator.executions(run_id)) == 1
