"""Cloud Run's Admin API as far as a launcher of runs speaks it, over gRPC with TLS: executions are processes here.

An execution runs the arguments that the request gives for its container, which has no command of its own, with the
environment of its Job. Refusals and silence are put in by `refusing`. What is not here: quotas, images, several tasks,
and the minutes that a container may need to start.
"""

import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import any_pb2

from tests.servers.certificates import Certificates

_GRACE_SECONDS = 10
"""From SIGTERM to SIGKILL when an execution is cancelled, as Google has it."""
_SILENCE_SECONDS = 60

SILENCE = "silence"
"""Refusal that is none: no answer comes."""


@dataclass
class Refusal:
    """What a method answers instead: how often (None: until taken back), and whether it does what it was asked, too.

    The first `n_spared` requests are answered.
    """

    method: str
    code: grpc.StatusCode | str
    n_times: int | None = None
    does_it_all_the_same: bool = False
    n_spared: int = 0
    n_given: int = 0


@dataclass
class Execution:
    """One execution: what the API says of it, and its process."""

    message: run_v2.Execution
    process: "subprocess.Popen[bytes]"
    log: Path
    is_cancelled: bool = False

    @property
    def printed(self) -> str:
        """What its process has printed."""
        return self.log.read_text(errors="replace")


@dataclass
class CloudRun:
    """A server with some Jobs, each with the environment of its container."""

    jobs: Mapping[str, Mapping[str, str]]
    folder: Path
    address: str = ""
    executions: list[Execution] = field(default_factory=list)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    is_over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def refusing(self, method: str, code: grpc.StatusCode | str, **how: Any) -> Iterator[Refusal]:
        """Have a method refuse meanwhile."""
        refusal = Refusal(method, code, **how)
        self.refusals.append(refusal)
        try:
            yield refusal
        finally:
            self.refusals.remove(refusal)

    def of_run(self, run_id: str) -> list[Execution]:
        """Executions that were started for a run of Dagster's, in order."""
        with self.lock:
            return [each for each in self.executions if any(run_id in argument for argument in _command(each.message))]

    def run_job(self, request: run_v2.RunJobRequest, context: grpc.ServicerContext) -> operations_pb2.Operation:
        """Start a process."""
        job = request.name.rpartition("/")[2]
        if job not in self.jobs:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Resource '{job}' of kind 'JOB' does not exist.")
        [container] = request.overrides.container_overrides
        name = f"{request.name}/executions/{job}-{uuid.uuid4().hex[:5]}"
        template = run_v2.TaskTemplate(
            containers=[run_v2.Container(image="an image", args=container.args)], timeout=request.overrides.timeout
        )
        message = run_v2.Execution(
            name=name,
            job=job,
            create_time=datetime.now(UTC),
            task_count=1,
            running_count=1,
            template=template,
            log_uri=f"https://logs.example.org/{name.rpartition('/')[2]}",
        )
        log = self.folder / f"{name.rpartition('/')[2]}.log"
        with log.open("wb") as written:
            process = subprocess.Popen(
                list(container.args),
                env={**self.jobs[job], "CLOUD_RUN_JOB": job, "CLOUD_RUN_EXECUTION": name.rpartition("/")[2]},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        execution = Execution(message, process, log)
        with self.lock:
            self.executions.append(execution)
        threading.Thread(target=self._wait, args=(execution,), daemon=True).start()
        metadata = any_pb2.Any()
        metadata.Pack(run_v2.Execution.pb(message))
        return operations_pb2.Operation(name=f"{name}/operations/1", metadata=metadata)

    def get_execution(self, request: Any, context: grpc.ServicerContext) -> run_v2.Execution:
        """What is known of an execution."""
        return self._find(request.name, context).message

    def list_executions(self, request: Any, context: grpc.ServicerContext) -> run_v2.ListExecutionsResponse:
        """Those of one Job, the newest first."""
        with self.lock:
            of_job = [each.message for each in self.executions if each.message.name.startswith(f"{request.parent}/")]
        return run_v2.ListExecutionsResponse(executions=of_job[::-1][: request.page_size or 100])

    def cancel_execution(self, request: Any, context: grpc.ServicerContext) -> operations_pb2.Operation:
        """End a process as Google does: SIGTERM, and SIGKILL for one that does not go."""
        execution = self._find(request.name, context)
        if execution.process.poll() is not None:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the execution has ended")
        if not request.validate_only:
            execution.is_cancelled = True
            execution.process.send_signal(signal.SIGTERM)
            threading.Thread(target=_kill_later, args=(execution.process,), daemon=True).start()
        return operations_pb2.Operation(name=f"{request.name}/operations/2")

    def end(self) -> None:
        """Kill what still runs."""
        for execution in self.executions:
            _kill(execution.process)
            execution.process.wait()

    def answer(self, method: str, do: Callable[[Any, grpc.ServicerContext], Any]) -> Callable[..., Any]:
        """A method as the API has it: who asks is known by a token, and it may refuse."""

        def answered(request: Any, context: grpc.ServicerContext) -> Any:
            token = dict(context.invocation_metadata()).get("authorization", "")
            if not token.startswith("Bearer "):
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token")
            self.requests.append((method, request))
            refusal = self._refusal(method)
            if refusal is None:
                return do(request, context)
            if refusal.does_it_all_the_same:
                do(request, context)
            if isinstance(refusal.code, str):
                self.is_over.wait(_SILENCE_SECONDS)
            code = grpc.StatusCode.UNAVAILABLE if isinstance(refusal.code, str) else refusal.code
            return context.abort(code, f"refused {method}, as the test asked for")

        return answered

    def _refusal(self, method: str) -> Refusal | None:
        with self.lock:
            for refusal in self.refusals:
                if refusal.method == method and refusal.n_spared > 0:
                    refusal.n_spared -= 1
                elif refusal.method == method and (refusal.n_times is None or refusal.n_given < refusal.n_times):
                    refusal.n_given += 1
                    return refusal
        return None

    def _find(self, name: str, context: grpc.ServicerContext) -> Execution:
        with self.lock:
            for execution in self.executions:
                if execution.message.name == name:
                    return execution
        context.abort(grpc.StatusCode.NOT_FOUND, f"Resource '{name}' of kind 'EXECUTION' does not exist.")
        raise AssertionError("an aborted request goes no further")

    def _wait(self, execution: Execution) -> None:
        code = execution.process.wait()
        message = run_v2.Execution(execution.message)
        message.running_count, message.completion_time = 0, datetime.now(UTC)
        if execution.is_cancelled:
            message.cancelled_count = 1
        elif code == 0:
            message.succeeded_count = 1
        else:
            message.failed_count = 1
            said = f"Task {message.name.rpartition('/')[2]}-task0 failed with message: exit code {code}."
            message.conditions.append(
                run_v2.Condition(type_="Completed", state=run_v2.Condition.State.CONDITION_FAILED, message=said)
            )
        execution.message = message


def _command(message: run_v2.Execution) -> list[str]:
    return [argument for container in message.template.containers for argument in container.args]


def _kill_later(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        _kill(process)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):  # it ended just now
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def cloud_run_server(
    jobs: Mapping[str, Mapping[str, str]], folder: Path, certificates: Certificates
) -> Iterator[CloudRun]:
    """A server on the loopback that ends with its executions; its certificate is for `localhost`."""
    cloud_run = CloudRun(jobs, folder)
    operation = operations_pb2.Operation.SerializeToString
    methods: dict[str, dict[str, tuple[Any, Any, Any]]] = {
        "google.cloud.run.v2.Jobs": {"RunJob": (run_v2.RunJobRequest, operation, cloud_run.run_job)},
        "google.cloud.run.v2.Executions": {
            "GetExecution": (run_v2.GetExecutionRequest, run_v2.Execution.serialize, cloud_run.get_execution),
            "ListExecutions": (
                run_v2.ListExecutionsRequest,
                run_v2.ListExecutionsResponse.serialize,
                cloud_run.list_executions,
            ),
            "CancelExecution": (run_v2.CancelExecutionRequest, operation, cloud_run.cancel_execution),
        },
    }
    server = grpc.server(futures.ThreadPoolExecutor(16))
    for service, of_service in methods.items():
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                cloud_run.answer(name, do), request_deserializer=kind.deserialize, response_serializer=serialize
            )
            for name, (kind, serialize, do) in of_service.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    credentials = grpc.ssl_server_credentials([(certificates.key.read_bytes(), certificates.certificate.read_bytes())])
    cloud_run.address = f"localhost:{server.add_secure_port('localhost:0', credentials)}"
    server.start()
    try:
        yield cloud_run
    finally:
        cloud_run.is_over.set()
        cloud_run.end()
        server.stop(grace=0)
