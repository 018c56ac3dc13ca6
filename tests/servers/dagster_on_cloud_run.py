"""Dagster as it stands on Google Cloud: a code location behind TLS, a webserver, a daemon, runs on Cloud Run.

Each is a process of its own with the files of deploy/, of which only intervals and addresses are changed. Of the daemon
there is what starts, watches and repeats runs.

python -m tests.servers.dagster_on_cloud_run WORKSPACE   (the daemon)
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.servers.bigquery import service_account
from tests.servers.certificates import make_certificates
from tests.servers.cloud_run import CloudRun, cloud_run_server
from tests.servers.cloud_run_code import FOLDER_VARIABLE
from tests.servers.dagster import DagsterServer, listens, run_daemons, serves_jobs
from tests.servers.processes import end, free_port, kill, private_folder, wait_until
from tests.servers.tls_front import tls_front

_PROJECT = Path(__file__).parents[2]
_DEPLOY = _PROJECT / "deploy"
_SECONDS = 1
"""How often the daemon takes runs from the queue, looks after those that run, and repeats those that were lost."""


@dataclass(frozen=True)
class Site:
    """All of it; what a worker waits for is a file in `folder`."""

    dagster: DagsterServer
    cloud_run: CloudRun
    folder: Path
    daemon_log: Path


@contextmanager
def dagster_on_cloud_run(storage_url: str, folder: Path) -> Iterator[Site]:
    """All of it on the loopback, with Dagster's storage in an empty database."""
    with ExitStack() as open_until_end:
        certificates = make_certificates(open_until_end.enter_context(private_folder("cloud-run")))
        home, waiting = folder / "dagster", folder / "waiting"
        for each in (home, waiting):
            each.mkdir()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("BANDICOOT", "DAGSTER"))}
        environment = {
            **inherited,
            "PYTHONPATH": str(_PROJECT),
            "DAGSTER_HOME": str(home),
            "BANDICOOT_DAGSTER_STORAGE_URL": storage_url.replace("postgresql://", "postgresql+psycopg2://"),
        }
        instance = yaml.safe_load((_DEPLOY / "dagster.cloudrun.yaml").read_text())
        jobs = instance["run_launcher"]["config"]["jobs"]
        worker = {**environment, FOLDER_VARIABLE: str(waiting)}
        cloud_run = open_until_end.enter_context(
            cloud_run_server(dict.fromkeys(jobs.values(), worker), folder, certificates)
        )
        instance["run_launcher"]["config"]["api_endpoint"] = cloud_run.address
        instance["run_launcher"]["config"]["run_job_retry"] = {"wait": 1, "timeout": 3}
        instance["run_coordinator"]["config"]["user_code_failure_retry_delay"] = _SECONDS
        instance["run_monitoring"]["poll_interval_seconds"] = _SECONDS
        (home / "dagster.yaml").write_text(yaml.safe_dump(instance))
        server = environment | {
            "GOOGLE_CLOUD_PROJECT": "bandicoot-project",
            "GOOGLE_CLOUD_REGION": "asia-south1",
            "GOOGLE_APPLICATION_CREDENTIALS": str(service_account(folder, "http://localhost:1")),
            "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(certificates.ca),
            "CODE_LOCATION_HOST": "localhost",
        }

        def start(name: str, *arguments: str) -> tuple["subprocess.Popen[bytes]", Path]:
            log = folder / f"{name}.log"
            with log.open("ab") as written:
                process = subprocess.Popen(
                    [sys.executable, "-m", *arguments],
                    cwd=folder,
                    env=server,
                    stdin=subprocess.DEVNULL,
                    stdout=written,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            return process, log

        code_port, port = free_port(), free_port()
        code = start(
            "code location",
            *("dagster", "api", "grpc", "--host", "localhost", "--port", str(code_port)),
            *("--module-name", "tests.servers.cloud_run_code", "--use-python-environment-entry-point"),
        )
        open_until_end.callback(kill, code[0])
        tls_port = open_until_end.enter_context(tls_front(code_port, certificates))
        workspace = folder / "workspace.yaml"
        where = yaml.safe_load((_DEPLOY / "workspace.cloudrun.yaml").read_text())
        where["load_from"][0]["grpc_server"]["port"] = tls_port
        workspace.write_text(yaml.safe_dump(where))
        web = start("webserver", "dagster_webserver", "-h", "127.0.0.1", "-p", str(port), "-w", str(workspace))
        open_until_end.callback(end, web[0], signal.SIGTERM)
        wait_until(lambda: listens(code_port), *code, timeout_seconds=180)
        daemon = start("daemon", "tests.servers.dagster_on_cloud_run", str(workspace))
        open_until_end.callback(end, daemon[0], signal.SIGTERM)
        dagster = DagsterServer(f"http://127.0.0.1:{port}", daemon[0])
        wait_until(lambda: serves_jobs(dagster), *web, timeout_seconds=180)
        yield Site(dagster, cloud_run, waiting, daemon[1])


def daemon(workspace: str) -> None:
    """Be the parts of Dagster's daemon that have to do with runs, at short intervals, until ended."""
    from dagster._daemon.auto_run_reexecution.event_log_consumer import EventLogConsumerDaemon
    from dagster._daemon.daemon import MonitoringDaemon
    from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

    parts = (QueuedRunCoordinatorDaemon, MonitoringDaemon, EventLogConsumerDaemon)
    run_daemons(workspace, lambda: [part(interval_seconds=_SECONDS) for part in parts])


if __name__ == "__main__":
    daemon(sys.argv[1])
