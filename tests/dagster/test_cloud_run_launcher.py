"""What the launcher asks of Cloud Run's API and makes of its answers: the real launcher and client, a local API.

Workers are small programs here; Dagster's own are in test_runs_on_cloud_run.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import grpc
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.test_utils import create_run_for_test
from dagster._utils.error import serializable_error_info_from_exc_info
from google.api_core.exceptions import InvalidArgument

from bandicoot_core.errors import InvalidSettingError, UnreachableError
from bandicoot_dagster import cloud_run
from bandicoot_dagster.cloud_run import EXECUTION_TAG, CloudRunLauncher, CloudRunUnavailableError
from bandicoot_dagster.jobs import all_jobs
from bandicoot_dagster.run_failures import foreseen
from bandicoot_dagster.run_sizes import SIZE_TAG
from tests.servers.bigquery import service_account
from tests.servers.certificates import make_certificates
from tests.servers.cloud_run import SILENCE, CloudRun, Execution, cloud_run_server
from tests.servers.processes import private_folder

DEPLOY = Path(__file__).parents[2] / "deploy"
JOBS = {"small": "bandicoot-run-small", "large": "bandicoot-run-large"}
WHERE = "projects/bandicoot-project/locations/asia-south1/jobs"
Code = grpc.StatusCode
PASSING = {
    "401": Code.UNAUTHENTICATED,
    "403": Code.PERMISSION_DENIED,
    "404": Code.NOT_FOUND,
    "429": Code.RESOURCE_EXHAUSTED,
    "500": Code.INTERNAL,
    "503": Code.UNAVAILABLE,
    "504": Code.DEADLINE_EXCEEDED,
}
passing = pytest.mark.parametrize("code", PASSING.values(), ids=PASSING)


class Site:
    """Dagster's instance with the launcher, and runs whose workers wait to be told with which code to end."""

    def __init__(self, instance: dg.DagsterInstance, server: CloudRun, folder: Path) -> None:
        self.instance, self.server, self._end = instance, server, folder / "end"
        program = f"import pathlib, sys, time\nend = pathlib.Path({str(self._end)!r})\n"
        program += "while not end.exists(): time.sleep(0.02)\nsys.exit(int(end.read_text()))"
        self._command = [sys.executable, "-c", program]

    @property
    def launcher(self) -> CloudRunLauncher:
        launcher = self.instance.run_launcher
        assert isinstance(launcher, CloudRunLauncher)
        return launcher

    def new_run(self, **tags: str) -> dg.DagsterRun:
        """A run that the daemon is about to start."""
        code = RepositoryPythonOrigin(
            sys.executable,
            ModuleCodePointer("bandicoot_dagster.definitions", "defs", working_directory=None),
            entry_point=self._command,
            container_context={"k8s": {"env_vars": ["PASSWORD=hunter2"]}},
        )
        return create_run_for_test(
            self.instance,
            "nightly",
            status=dg.DagsterRunStatus.STARTING,
            tags=tags,
            job_code_origin=JobPythonOrigin("nightly", code),
        )

    def launch(self, run: dg.DagsterRun) -> None:
        self.launcher.launch_run(LaunchRunContext(run, workspace=None))

    def started(self, **tags: str) -> tuple[dg.DagsterRun, Execution]:
        """A run whose worker is at work, as the daemon sees it."""
        run = self.new_run(**tags)
        self.launch(run)
        self.instance.handle_new_event(_started(run))
        [execution] = self.server.of_run(run.run_id)
        return self.again(run), execution

    def again(self, run: dg.DagsterRun) -> dg.DagsterRun:
        found = self.instance.get_run_by_id(run.run_id)
        assert found is not None
        return found

    def health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        return self.launcher.check_run_worker_health(self.again(run))

    def end_workers(self, code: int) -> None:
        arriving = self._end.with_suffix(".new")
        arriving.write_text(str(code))
        arriving.rename(self._end)

    def said(self, run: dg.DagsterRun) -> str:
        """What Dagster shows in the log of a run."""
        return "\n".join(entry.message for entry in self.instance.all_logs(run.run_id))


def _started(run: dg.DagsterRun) -> dg.EventLogEntry:
    return dg.EventLogEntry(
        error_info=None,
        level=20,
        user_message="",
        run_id=run.run_id,
        timestamp=time.time(),
        job_name=run.job_name,
        dagster_event=dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name),
    )


def until(holds: Callable[[], object], timeout_seconds: float = 15) -> None:
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < deadline, "it has not come to that in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def server() -> Iterator[CloudRun]:
    with private_folder("cloud-run") as folder, pytest.MonkeyPatch.context() as patch:
        certificates = make_certificates(folder)
        patch.setenv("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", str(certificates.ca))
        # Nobody is asked for a token: the client signs one with the key.
        patch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(folder, "http://localhost:1")))
        with cloud_run_server({job: {} for job in JOBS.values()}, folder, certificates) as running:
            yield running


@pytest.fixture(scope="module")
def instance(server: CloudRun) -> Iterator[dg.DagsterInstance]:
    """The launcher asks again at once, and gives up after two seconds."""
    launcher = {
        "module": "bandicoot_dagster.cloud_run",
        "class": "CloudRunLauncher",
        "config": {
            "project": "bandicoot-project",
            "region": "asia-south1",
            "jobs": JOBS,
            "run_job_retry": {"wait": 0, "timeout": 2},
            "api_endpoint": server.address,
        },
    }
    with dg.instance_for_test(overrides={"run_launcher": launcher}) as made:
        yield made


@pytest.fixture
def site(instance: dg.DagsterInstance, server: CloudRun, tmp_path: Path) -> Iterator[Site]:
    """Every test has workers of its own, which end with it."""
    yield Site(instance, server, tmp_path)
    server.end()


def test_a_run_gets_the_cloud_run_job_of_its_size(site: Site) -> None:
    _, small = site.started()
    _, large = site.started(**{SIZE_TAG: "large"})
    assert [each.message.name.rpartition("/executions/")[0] for each in (small, large)] == [
        f"{WHERE}/bandicoot-run-small",
        f"{WHERE}/bandicoot-run-large",
    ]


def test_a_size_without_a_cloud_run_job_is_refused_with_those_there_are(site: Site) -> None:
    run = site.new_run(**{SIZE_TAG: "gpu"})
    with pytest.raises(InvalidSettingError, match="is 'gpu'; the sizes are large, small"):
        site.launch(run)
    assert not site.server.of_run(run.run_id)


def test_the_launcher_is_refused_without_a_job_for_small_runs() -> None:
    with pytest.raises(InvalidSettingError, match="jobs has large and no 'small'"):
        CloudRunLauncher("p", "r", {"large": "a-job"}, {"wait": 0, "timeout": 0}, 7200)


def test_what_trains_simulates_or_reads_years_is_large_and_all_else_is_small() -> None:
    sizes = {job.name: (job.tags or {}).get(SIZE_TAG) for job in all_jobs}
    assert {name for name, size in sizes.items() if size == "large"} == {
        "weekly_training",
        "precompute_indices",
        "evaluation",
        "source_history",
    }
    assert set(sizes.values()) == {"large", None}


def test_a_worker_is_told_to_fail_with_its_run_and_learns_no_secret(site: Site) -> None:
    _, execution = site.started()
    command = " ".join(execution.message.template.containers[0].args)
    assert '"set_exit_code_on_failure": true' in command
    assert "hunter2" not in command


@pytest.mark.parametrize(
    ("tags", "seconds"),
    [
        ({}, 7800),
        ({"dagster/max_runtime": "1800"}, 2400),
        ({"dagster/max_runtime": "soon"}, 7800),
        ({"dagster/max_runtime": "200000"}, 86_400),
    ],
    ids=["no limit of its own", "half an hour", "a limit that is no number", "more than Cloud Run takes"],
)
def test_cloud_run_ends_an_execution_ten_minutes_after_dagster_would(
    site: Site, tags: dict[str, str], seconds: int
) -> None:
    _, execution = site.started(**tags)
    assert execution.message.template.timeout.total_seconds() == seconds


def test_an_execution_that_runs_is_running_though_nothing_is_reconciled(site: Site) -> None:
    run, execution = site.started()
    assert not execution.message.reconciling
    assert site.health(run).status is WorkerStatus.RUNNING


@pytest.mark.parametrize(("code", "status"), [(0, WorkerStatus.SUCCESS), (1, WorkerStatus.FAILED)])
def test_an_execution_that_has_ended_is_what_its_worker_ended_with(site: Site, code: int, status: WorkerStatus) -> None:
    run, _ = site.started()
    site.end_workers(code)
    until(lambda: site.health(run).status is status)


def test_a_killed_worker_is_noticed_and_its_end_and_log_are_told(site: Site) -> None:
    run, execution = site.started()
    execution.process.kill()
    until(lambda: site.health(run).status is WorkerStatus.FAILED)
    told = site.launcher.get_run_worker_debug_info(run)
    assert told is not None
    assert "exit code -9" in told
    assert f"Its log: {execution.message.log_uri}" in told


@passing
def test_a_run_lives_while_cloud_run_does_not_say(site: Site, code: grpc.StatusCode) -> None:
    run, _ = site.started()
    with site.server.refusing("GetExecution", code) as refusal:
        health = site.health(run)
    assert (health.status, health.transient, refusal.n_given) == (WorkerStatus.RUNNING, True, 1)


def test_a_run_lives_while_cloud_run_is_silent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _ = site.started()
    monkeypatch.setattr(cloud_run, "_CALL_SECONDS", 0.5)
    asked_at = time.monotonic()
    with site.server.refusing("GetExecution", SILENCE):
        assert site.health(run).status is WorkerStatus.RUNNING
    assert time.monotonic() - asked_at < 5


def test_a_run_that_got_no_execution_lives(site: Site) -> None:
    assert site.health(site.new_run()).status is WorkerStatus.RUNNING


@passing
def test_a_start_that_is_refused_for_now_is_asked_for_again(site: Site, code: grpc.StatusCode) -> None:
    with site.server.refusing("RunJob", code, n_times=2) as refusal:
        run, _ = site.started()
    assert refusal.n_given == 2
    assert site.health(run).status is WorkerStatus.RUNNING


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNAVAILABLE, Code.ABORTED, SILENCE])
def test_a_start_that_was_heard_and_not_answered_is_not_repeated(
    site: Site, code: grpc.StatusCode | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cloud_run, "_START_SECONDS", 2.2)  # longer than it would go on asking if it were sure
    run = site.new_run()
    with (
        site.server.refusing("RunJob", code, does_it_all_the_same=True),
        site.server.refusing("ListExecutions", Code.PERMISSION_DENIED, n_times=2),
    ):
        site.launch(run)
    [execution] = site.server.of_run(run.run_id)
    assert site.again(run).tags[EXECUTION_TAG] == execution.message.name


def test_a_worker_that_came_before_the_run_was_due_again_is_not_taken_for_its_own(site: Site) -> None:
    run = site.new_run()
    site.launch(run)
    [early] = site.server.of_run(run.run_id)
    early.process.kill()
    until(lambda: early.message.failed_count == 1)
    with site.server.refusing("RunJob", Code.UNAVAILABLE, n_times=1):
        site.launch(run)
    [_, own] = site.server.of_run(run.run_id)
    assert site.again(run).tags[EXECUTION_TAG] == own.message.name


def test_a_worker_that_was_quicker_than_the_answer_is_taken(site: Site) -> None:
    run = site.new_run()
    site.launch(run)
    [execution] = site.server.of_run(run.run_id)
    site.end_workers(0)
    until(lambda: execution.message.succeeded_count == 1)
    site.instance.handle_new_event(_started(run))
    with site.server.refusing("RunJob", Code.UNAVAILABLE, n_times=1):
        site.launch(run)
    assert site.server.of_run(run.run_id) == [execution]


def test_a_run_that_cannot_be_started_goes_back_into_the_queue(site: Site) -> None:
    run = site.new_run()
    with (
        site.server.refusing("RunJob", Code.UNAVAILABLE),
        pytest.raises(CloudRunUnavailableError, match="bandicoot-run-small: Cloud Run started no execution") as raised,
    ):
        site.launch(run)
    assert isinstance(raised.value, DagsterUserCodeUnreachableError)  # which the daemon puts back
    # And when it has been put back often enough, the sensor `nightly_again` sees a server that was away.
    assert isinstance(
        foreseen(serializable_error_info_from_exc_info((raised.type, raised.value, raised.tb)), "starting"),
        UnreachableError,
    )


def test_a_start_that_would_always_be_refused_fails_at_once(site: Site) -> None:
    with site.server.refusing("RunJob", Code.INVALID_ARGUMENT) as refusal, pytest.raises(InvalidArgument):
        site.launch(site.new_run())
    assert refusal.n_given == 1


def test_a_run_whose_execution_could_not_be_noted_is_not_judged_by_that_of_the_run_it_repeats(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, execution = site.started()
    execution.process.kill()
    until(lambda: site.health(dead).status is WorkerStatus.FAILED)
    run = site.new_run(**{EXECUTION_TAG: site.again(dead).tags[EXECUTION_TAG]})

    def fail(*_args: object, **_named: object) -> None:
        raise ConnectionError("the storage is away for a moment")

    with monkeypatch.context() as patch:
        patch.setattr(site.instance, "report_engine_event", fail)
        site.launch(run)
    health = site.health(run)
    [execution] = site.server.of_run(run.run_id)
    assert (health.status, health.run_worker_id) == (WorkerStatus.RUNNING, execution.message.name)


def test_of_two_workers_of_one_run_the_one_at_work_counts(site: Site) -> None:
    run, first = site.started()
    site.launch(site.again(run))
    second = site.server.of_run(run.run_id)[1]
    second.process.send_signal(signal.SIGSTOP)
    site.end_workers(0)
    until(lambda: first.message.succeeded_count == 1)
    site.instance.add_run_tags(run.run_id, {EXECUTION_TAG: first.message.name})
    assert site.health(run).status is WorkerStatus.RUNNING
    second.process.kill()
    until(lambda: site.health(run).status is WorkerStatus.FAILED)


def test_ending_a_run_tells_its_worker_which_reports_the_end_itself(site: Site) -> None:
    run, execution = site.started()
    assert site.launcher.terminate(run.run_id)
    assert site.again(run).status is dg.DagsterRunStatus.CANCELING
    until(lambda: execution.message.cancelled_count == 1)
    assert execution.process.returncode == -signal.SIGTERM


@passing
@pytest.mark.parametrize("method", ["GetExecution", "CancelExecution"])
def test_a_run_that_cannot_be_ended_goes_on_as_it_was(site: Site, method: str, code: grpc.StatusCode) -> None:
    run, execution = site.started()
    with site.server.refusing(method, code):
        assert not site.launcher.terminate(run.run_id)
    assert site.again(run).status is dg.DagsterRunStatus.STARTED
    assert execution.process.poll() is None
    assert "The worker was not ended" in site.said(run)
    assert site.launcher.terminate(run.run_id)


def test_a_run_that_may_be_ended_is_asked_to_end_until_it_is_heard(site: Site) -> None:
    run, execution = site.started()
    with site.server.refusing("CancelExecution", Code.UNAVAILABLE, n_spared=1, n_times=2) as refusal:
        assert site.launcher.terminate(run.run_id)
    assert refusal.n_given == 2
    until(lambda: execution.message.cancelled_count == 1)


def test_a_run_whose_worker_has_gone_is_ended_at_once(site: Site) -> None:
    run, execution = site.started()
    execution.process.kill()
    until(lambda: site.health(run).status is WorkerStatus.FAILED)
    assert site.launcher.terminate(run.run_id)
    assert site.again(run).status is dg.DagsterRunStatus.CANCELED


def test_a_run_that_has_ended_or_never_was_is_not_ended(site: Site) -> None:
    run, _ = site.started()
    site.instance.report_run_failed(run)
    assert not site.launcher.terminate(run.run_id)
    assert not site.launcher.terminate("00000000-0000-0000-0000-000000000000")


def test_the_instance_on_cloud_run_is_the_usual_one_but_for_what_the_file_says() -> None:
    usual, here = (yaml.safe_load((DEPLOY / name).read_text()) for name in ("dagster.yaml", "dagster.cloudrun.yaml"))
    launcher, queue = here.pop("run_launcher"), here["run_coordinator"].pop("config")
    assert (launcher["module"], launcher["class"]) == (CloudRunLauncher.__module__, CloudRunLauncher.__name__)
    assert queue["max_user_code_failure_retries"] > 0  # without it a run that cannot be started is failed
    changed: dict[str, Any] = here["run_monitoring"]
    assert launcher["config"]["run_timeout"] == changed["max_runtime_seconds"]
    assert 2 * launcher["config"]["run_job_retry"]["timeout"] < changed["start_timeout_seconds"]
    assert (changed.pop("start_timeout_seconds"), changed.pop("cancel_timeout_seconds")) == (600, 60)
    del usual["run_monitoring"]["start_timeout_seconds"], usual["run_monitoring"]["cancel_timeout_seconds"]
    assert here == usual
