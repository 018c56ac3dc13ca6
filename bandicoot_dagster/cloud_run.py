"""Starting runs as executions of Cloud Run Jobs, one Job for each size of machine.

A subclass of dagster-contrib-gcp's launcher. Different here:

- A run is dead when its execution has ended without success, and alive in every other case: while Cloud Run does not
  answer, refuses, or knows nothing of the execution, nobody can tell, and Dagster's run monitoring fails whatever is
  not called running. A run whose worker is lost for good is ended by its limit of time.
- What Cloud Run may do the next time is asked again, and after a while the run goes back into Dagster's queue. Whether
  a request was heard that got no answer is looked up before it is repeated, so that a run gets one worker.
- The worker of a failed run exits with 1, so that its execution fails, too.
- The Job is chosen by the run's size (run_sizes), the limit of its time by the run's own.
- A run that is cancelled reports its end itself: before, its worker is still at work.

https://cloud.google.com/run/docs/reference/rpc/google.cloud.run.v2
"""

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import dagster as dg
from dagster import _check as check
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, WorkerStatus
from dagster._core.storage.tags import MAX_RUNTIME_SECONDS_TAG
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClassData
from dagster_contrib_gcp.cloud_run.run_launcher import CloudRunRunLauncher
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud import run_v2

from bandicoot_core.errors import InvalidSettingError, UnreachableError
from bandicoot_dagster.run_sizes import SIZE_TAG, SMALL

EXECUTION_TAG = "bandicoot/execution"
"""Tag of a run: the full name of its execution."""

_CALL_SECONDS = 10
"""Longest wait for an answer. The client's own is for ever, and the daemon would stand still."""
_START_SECONDS = 30
"""The same for the start of an execution, which is slower."""
_CANCEL_TRIES = 3
_END_SECONDS = 600
"""How much later than Dagster Cloud Run ends a run: only when Dagster's daemon, which would, is not there."""
_LONGEST_SECONDS = 86_400
"""Cloud Run's longest limit, but for a preview of more. With a GPU it is an hour, and more is refused."""
_LOOK_BACK = 100
"""Executions of a Job, the newest, among which one that got no tag is looked for."""

_UNSURE_CODES = {409, 499}
_PASSING_CODES = {401, 403, 404, 408, 429} | _UNSURE_CODES
_CLOUD_ERRORS = (GoogleAPICallError, GoogleAuthError)

_logger = logging.getLogger(__name__)


class CloudRunUnavailableError(DagsterUserCodeUnreachableError):
    """Cloud Run started no execution. As an error of this kind Dagster puts the run back into its queue."""


class CloudRunLauncher(CloudRunRunLauncher):
    """Starts, watches and ends runs on Cloud Run; made by Dagster from deploy/dagster.cloudrun.yaml."""

    def __init__(
        self,
        project: str,
        region: str,
        jobs: Mapping[str, str],
        run_job_retry: dict[str, int],
        run_timeout: int,
        api_endpoint: str | None = None,
        inst_data: ConfigurableClassData | None = None,
    ) -> None:
        if SMALL not in jobs:
            raise InvalidSettingError(
                f"dagster.yaml, run_launcher: jobs has {', '.join(jobs) or 'nothing'} and no {SMALL!r}, which runs "
                "without a tag need; name the Cloud Run Job for it"
            )
        super().__init__(project, region, {}, run_job_retry, run_timeout, inst_data)
        self._jobs = jobs
        if api_endpoint is not None:
            options = {"api_endpoint": api_endpoint}
            self.jobs_client = run_v2.JobsClient(client_options=options)
            self.executions_client = run_v2.ExecutionsClient(client_options=options)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """That of the launcher underneath, with Jobs by size instead of by code location."""
        fields = dict(super().config_type())
        del fields["job_name_by_code_location"]
        return {
            **fields,
            "run_timeout": dg.Field(
                int, default_value=7200, description=f"Seconds that a run without {MAX_RUNTIME_SECONDS_TAG} may take"
            ),
            "jobs": dg.Field(
                {str: dg.StringSource},
                description=f"Cloud Run Job for each size that the tag {SIZE_TAG} may name; {SMALL!r} must be there",
            ),
            "api_endpoint": dg.Field(
                dg.StringSource,
                is_required=False,
                description="Host and port of the Cloud Run Admin API, where it is a private or regional one",
            ),
        }

    def job_of(self, run: dg.DagsterRun) -> str:
        """Full name of the Job whose machine a run gets; InvalidSettingError, with which it fails, without one."""
        size = run.tags.get(SIZE_TAG, SMALL)
        if size not in self._jobs:
            raise InvalidSettingError(
                f"tag {SIZE_TAG} of run {run.run_id} is {size!r}; the sizes are {', '.join(self._jobs)}: start it "
                "again with one of these, or add a Cloud Run Job of that size to dagster.yaml"
            )
        return f"projects/{self.project}/locations/{self.region}/jobs/{self._jobs[size]}"

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start one execution for a run; CloudRunUnavailableError when there is none to be had for now."""
        run = context.dagster_run
        if EXECUTION_TAG in run.tags:  # that of the run it repeats, whose tags it was given
            self._instance.add_run_tags(run.run_id, {EXECUTION_TAG: ""})
        name = self._start(run, self._request(run))
        try:
            self._instance.report_engine_event(
                "Started an execution on Cloud Run", run, EngineEventData({"Execution": name}), cls=type(self)
            )
            self._instance.add_run_tags(run.run_id, {EXECUTION_TAG: name})
        except Exception:
            # Raised, it would fail a run whose worker is at work; without its tag, the execution is looked for.
            _logger.exception("run %s is executed by %s, which could not be noted", run.run_id, name)

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """What is known of a run's worker; RUNNING, too, when nothing is."""
        try:
            execution = self._execution_of(run)
            if execution is not None and _has_succeeded(execution):
                # Its run goes on: then it was one too many, and left the run to another.
                execution = next((other for other in self._executions_of(run) if not _has_succeeded(other)), execution)
        except _CLOUD_ERRORS as error:
            _logger.warning("run %s is taken for running, since Cloud Run does not say: %s", run.run_id, error)
            return CheckRunHealthResult(WorkerStatus.RUNNING, f"Cloud Run does not say: {error}", transient=True)
        if execution is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING, "no execution of this run is known", transient=True)
        if not _has_ended(execution):
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=execution.name)
        if _has_succeeded(execution):
            return CheckRunHealthResult(WorkerStatus.SUCCESS, run_worker_id=execution.name)
        return CheckRunHealthResult(WorkerStatus.FAILED, _end_of(execution), run_worker_id=execution.name)

    def get_run_worker_debug_info(self, run: dg.DagsterRun, include_container_logs: bool | None = True) -> str | None:
        """What Cloud Run says of a run's execution, and where its log is."""
        execution = self._execution_of(run)
        return None if execution is None else f"{_end_of(execution)}\nIts log: {execution.log_uri}"

    def terminate(self, run_id: str) -> bool:
        """Have a run's worker ended, which then reports the run as cancelled; False when it could not be asked to."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        try:
            execution = self._execution_of(run)
            if execution is None:
                return self._not_ended(run, "no execution of this run is known")
            if _has_ended(execution):
                return self._end_without_worker(run_id)
            # May it be cancelled? Once a run is being cancelled, it is so for good.
            self._cancel(execution, is_trial=True)
        except _CLOUD_ERRORS as error:
            return self._not_ended(run, str(error))
        if run.status != dg.DagsterRunStatus.CANCELING:
            # Before the worker is told: one that is told and finds no such mark takes it for an accident, and fails.
            self._instance.report_run_canceling(run)
        for _ in range(_CANCEL_TRIES):
            try:
                self._cancel(execution, is_trial=False)
                return True
            except _CLOUD_ERRORS as error:
                failure = error
                time.sleep(self.run_job_retry_wait)
        return self._not_ended(run, str(failure))

    def _request(self, run: dg.DagsterRun) -> run_v2.RunJobRequest:
        origin = check.not_none(run.job_code_origin, f"run {run.run_id} does not say which code it is of")
        # The container is the Job's business.
        origin = origin._replace(repository_origin=origin.repository_origin._replace(container_context={}))
        worker = ExecuteRunArgs(origin, run.run_id, self._instance.get_ref(), set_exit_code_on_failure=True)
        overrides = run_v2.RunJobRequest.Overrides
        return run_v2.RunJobRequest(
            name=self.job_of(run),
            overrides=overrides(
                container_overrides=[overrides.ContainerOverride(args=worker.get_command_args())],
                timeout=timedelta(seconds=min((_limit_of(run) or self.run_timeout) + _END_SECONDS, _LONGEST_SECONDS)),
            ),
        )

    def _start(self, run: dg.DagsterRun, request: run_v2.RunJobRequest) -> str:
        """The full name of a new execution, asked for again and again within `run_job_retry`.

        Twice as long while it is not known whether one was started: a second worker would be sent away by Dagster, but
        has to be paid.
        """
        began_at = time.monotonic()
        is_unsure = False
        while True:
            try:
                if is_unsure:
                    begun = self._begun(run)
                    if begun is not None:
                        return str(begun.name)
                    is_unsure = False
                return str(self.jobs_client.run_job(request=request, timeout=_START_SECONDS).metadata.name)
            except _CLOUD_ERRORS as error:
                code = getattr(error, "code", None)
                if not (is_unsure or code is None or code >= 500 or code in _PASSING_CODES):
                    raise
                failure = error
                is_unsure = is_unsure or code is None or code >= 500 or code in _UNSURE_CODES
            patience = self.run_job_retry_timeout * (2 if is_unsure else 1)
            if time.monotonic() + self.run_job_retry_wait > began_at + patience:
                cause = UnreachableError(f"{request.name}: Cloud Run started no execution ({failure})")
                cause.__cause__ = failure
                raise CloudRunUnavailableError(f"{cause}; run {run.run_id} has to wait") from cause
            _logger.warning("run %s is not started yet: %s", run.run_id, failure)
            time.sleep(self.run_job_retry_wait)

    def _begun(self, run: dg.DagsterRun) -> run_v2.Execution | None:
        """The execution that was started for a run, if one was.

        One that has ended while the run still waits for its worker came too early: when the run was back in the queue.
        """
        newest = next(iter(self._executions_of(run)), None)
        if newest is None or not _has_ended(newest):
            return newest
        status = check.not_none(self._instance.get_run_by_id(run.run_id)).status
        return None if status == dg.DagsterRunStatus.STARTING else newest

    def _cancel(self, execution: run_v2.Execution, *, is_trial: bool) -> None:
        request = run_v2.CancelExecutionRequest(name=execution.name, validate_only=is_trial)
        self.executions_client.cancel_execution(request=request, timeout=_CALL_SECONDS)

    def _execution_of(self, run: dg.DagsterRun) -> run_v2.Execution | None:
        """A run's execution as Cloud Run has it now."""
        name = run.tags.get(EXECUTION_TAG)
        if name:
            request = run_v2.GetExecutionRequest(name=name)
            return self.executions_client.get_execution(request=request, timeout=_CALL_SECONDS)
        return next(iter(self._executions_of(run)), None)

    def _executions_of(self, run: dg.DagsterRun) -> list[run_v2.Execution]:
        """All executions that were started for a run, the newest first: their command names it."""
        request = run_v2.ListExecutionsRequest(parent=self.job_of(run), page_size=_LOOK_BACK)
        page = next(self.executions_client.list_executions(request=request, timeout=_CALL_SECONDS).pages)
        found = [each for each in page.executions if _executes(each, run.run_id)]
        return sorted(found, key=lambda execution: execution.create_time, reverse=True)

    def _end_without_worker(self, run_id: str) -> bool:
        run = check.not_none(self._instance.get_run_by_id(run_id))
        if run.is_finished:  # in this moment, by its worker
            return False
        self._instance.report_run_canceled(run, "Its execution on Cloud Run had ended before.")
        return True

    def _not_ended(self, run: dg.DagsterRun, why: str) -> bool:
        self._instance.report_engine_event(f"The worker was not ended: {why}. End the run again.", run, cls=type(self))
        return False


def _limit_of(run: dg.DagsterRun) -> float | None:
    """Seconds after which Dagster fails a run, None when the run does not say, or says what is no number."""
    try:
        return max(float(run.tags.get(MAX_RUNTIME_SECONDS_TAG, 0)), 0) or None
    except ValueError:
        return None


def _executes(execution: run_v2.Execution, run_id: str) -> bool:
    return any(run_id in argument for container in execution.template.containers for argument in container.args)


def _has_ended(execution: run_v2.Execution) -> bool:
    """Whether nothing of it runs or will run. `reconciling` does not say: it is false for some that run."""
    n_ended = execution.succeeded_count + execution.failed_count + execution.cancelled_count
    return bool(execution.completion_time) or (execution.running_count == 0 and n_ended >= max(execution.task_count, 1))


def _has_succeeded(execution: run_v2.Execution) -> bool:
    n_not_well = execution.failed_count + execution.cancelled_count
    return _has_ended(execution) and execution.succeeded_count > 0 and n_not_well == 0


def _end_of(execution: run_v2.Execution) -> str:
    failed = run_v2.Condition.State.CONDITION_FAILED
    reasons = " ".join(each.message for each in execution.conditions if each.state == failed and each.message)
    how = "has ended" if _has_ended(execution) else "has not ended"
    return f"execution {execution.name} {how} ({reasons or 'no reason is given'})"
