"""Dagster as servers run it: a webserver, a code server and the daemon's run queue, each a process of its own.

Schedules and sensors stay off: of runs there are those that a test starts. `pause_queue` keeps runs queued.

python -m tests.servers.dagster WORKSPACE   (the run queue)
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bandicoot_core.stores.installation import Installation
from tests.servers.processes import end, free_port, kill, wait_until

_PROJECT = Path(__file__).parents[2]
_QUEUE_SECONDS = 1
"""How often runs are taken from the queue."""


@dataclass(frozen=True)
class DagsterServer:
    """A Dagster that serves one installation's jobs."""

    url: str
    _queue: "subprocess.Popen[bytes]"

    def ask(self, query: str) -> Any:
        """What GraphQL answers."""
        return httpx.post(f"{self.url}/graphql", json={"query": query}, timeout=60).json()["data"]

    def end_queued_runs(self) -> None:
        """Take every run from the queue, as a person does in the UI."""
        queued = "{ runsOrError(filter: {statuses: [QUEUED]}) { ... on Runs { results { runId } } } }"
        for run in self.ask(queued)["runsOrError"]["results"]:
            ended = self.ask(f'mutation {{ terminateRun(runId: "{run["runId"]}") {{ __typename }} }}')
            assert ended["terminateRun"]["__typename"] == "TerminateRunSuccess", ended

    @contextmanager
    def queue_paused(self) -> Iterator[None]:
        """No run is taken from the queue meanwhile."""
        self._queue.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._queue.send_signal(signal.SIGCONT)


@contextmanager
def running_dagster(installation: Installation, folder: Path, options: Mapping[str, str]) -> Iterator[DagsterServer]:
    """Dagster on an installation's own storage; `options` are further environment variables of its runs."""
    home = folder / "dagster"
    home.mkdir(parents=True)
    shutil.copyfile(_PROJECT / "bandicoot_dagster" / "dagster.yaml", home / "dagster.yaml")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BANDICOOT", "DAGSTER"))}
    environment = {
        **inherited,
        **options,
        "BANDICOOT_HOME": str(installation.settings.home),
        "BANDICOOT_DATABASE_URL": installation.database_url,
        "BANDICOOT_DAGSTER_STORAGE": installation.dagster_storage_url,
        "DAGSTER_HOME": str(home),
        "DAGSTER_EVENT_BATCH_SIZE": "500",
        "PYTHONPATH": str(_PROJECT),
    }
    code_port, port = free_port(), free_port()
    workspace = folder / "workspace.yaml"
    workspace.write_text(
        f"load_from:\n  - grpc_server: {{host: localhost, port: {code_port}, location_name: bandicoot}}\n"
    )
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> tuple["subprocess.Popen[bytes]", Path]:
        log = folder / f"{name}.log"
        with log.open("ab") as written:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(process)
        return process, log

    try:
        code = start("code server", "tests.fortnight.code_server", "--port", str(code_port))
        web = start("webserver", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", str(workspace))
        wait_until(lambda: listens(code_port), *code, timeout_seconds=180)
        queue = start("run queue", "tests.servers.dagster", str(workspace))
        server = DagsterServer(f"http://127.0.0.1:{port}", queue[0])
        wait_until(lambda: serves_jobs(server), *web, timeout_seconds=180)
        yield server
    finally:
        for process in reversed(started[1:]):
            end(process, signal.SIGTERM)
        kill(started[0])


def run_queue(workspace: str) -> None:
    """Be the part of Dagster's daemon that takes runs from the queue, until ended."""
    from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

    run_daemons(workspace, lambda: [QueuedRunCoordinatorDaemon(interval_seconds=_QUEUE_SECONDS)])


def run_daemons(workspace: str, daemons: Callable[[], Sequence[Any]]) -> None:
    """Be some parts of Dagster's daemon, until ended."""
    from dagster import DagsterInstance
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster._daemon.controller import daemon_controller_from_instance

    with (
        DagsterInstance.get() as instance,
        daemon_controller_from_instance(
            instance, WorkspaceFileTarget([workspace]), gen_daemons=lambda _: daemons()
        ) as controller,
    ):
        controller.check_daemon_loop()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("localhost", port)) == 0


def serves_jobs(server: DagsterServer) -> bool:
    """Whether the webserver answers and has loaded the jobs; it looks again when the code server comes after it."""
    query = "{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError { __typename } } } } }"
    try:
        entries = server.ask(query)["workspaceOrError"]["locationEntries"]
    except httpx.TransportError:
        return False
    return [each["locationOrLoadError"]["__typename"] for each in entries] == ["RepositoryLocation"]


if __name__ == "__main__":
    run_queue(sys.argv[1])
