"""The service as it is in production: processes of `bandicoot api`, each on a port of its own, started and ended.

Also the bare application it is compared with. What is asked of them belongs to `traffic`.
"""

import http.client
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.measure import default_settings
from tests.servers.processes import free_port

_COMMAND = "from bandicoot_dagster.cli import main; main()"
_START_SECONDS = 60.0
_POLL_SECONDS = 0.005


class Serving:
    """A process that answers HTTP on a free port."""

    def __init__(self, command: Sequence[str], port: int, environment: Mapping[str, str], log: Path) -> None:
        self.port = port
        self.log = log
        self.started_at = time.monotonic()
        with log.open("ab") as written:
            self._process = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT
            )

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def cpu_seconds(self) -> float:
        """Seconds of processor time it has used."""
        return sum(psutil.Process(self._process.pid).cpu_times()[:2])

    @property
    def memory_mb(self) -> float:
        """Memory it holds."""
        return float(psutil.Process(self._process.pid).memory_info().rss) / 2**20

    def first_answer(self, path: str, key: str = "") -> tuple[float, bytes]:
        """Seconds from the process's start to its first 200 for a path, and that answer."""
        while True:
            try:
                status, body = ask(self.port, path, key)
                if status == 200:
                    return time.monotonic() - self.started_at, body
            except OSError:
                status, body = 0, b""
            if self._process.poll() is not None or time.monotonic() - self.started_at > _START_SECONDS:
                raise RuntimeError(f"no answer ({status}, {body[:500]!r}): {self.log.read_text()[-3000:]}")
            time.sleep(_POLL_SECONDS)

    def end(self) -> None:
        """Ask it to end, and wait."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextmanager
def service(folder: Path, settings: Mapping[str, str]) -> Iterator[Serving]:
    """A process of `bandicoot api` with these settings and no others."""
    port = free_port()
    command = [sys.executable, "-c", _COMMAND, "api", "--port", str(port)]
    serving = Serving(command, port, default_settings(**settings), folder / f"service-{port}.log")
    try:
        yield serving
    finally:
        serving.end()


@contextmanager
def bare(folder: Path, body: bytes) -> Iterator[Serving]:
    """A process of the bare application that returns these bytes."""
    port, file = free_port(), folder / "body.json"
    file.write_bytes(body)
    command = [sys.executable, "-m", "benchmarks.load.bare", str(port), str(file)]
    serving = Serving(command, port, default_settings(), folder / f"bare-{port}.log")
    try:
        yield serving
    finally:
        serving.end()


def ask(port: int, path: str, key: str = "", *, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own; a body is posted as JSON. OSError when none comes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=40)
    try:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except http.client.HTTPException as error:
        raise ConnectionError(str(error)) from error
    finally:
        connection.close()
