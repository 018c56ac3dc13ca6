"""An emulator of Google Cloud Storage in a process of its own, and a gate before it that holds conditions.

The emulator ignores `ifGenerationMatch`. The gate records every request, answers 412 where the real store would, can
make every answer late, and passes the rest on.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

BUCKET = "lake"

# Read when gcsfs is imported: without it, it asks an API that the emulator does not have.
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"


# With the usual queue of 5, connections made at once are refused at first and come again a second later.
_START = """
import runpy, socketserver
socketserver.TCPServer.request_queue_size = 128
runpy.run_module("gcp_storage_emulator", run_name="__main__", alter_sys=True)
"""


@contextmanager
def cloud_storage() -> Iterator[str]:
    """The address of a fresh emulator with an empty bucket BUCKET; ended on exit."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    options = ["start", "-M", "-q", "-H", "127.0.0.1", "--port", str(port), "--default-bucket", BUCKET]
    process = subprocess.Popen(
        [sys.executable, "-c", _START, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_until_it_answers(address, process)
        yield address
    finally:
        # It waits for open connections when it is asked to end, and holds nothing that could be lost.
        process.kill()
        process.wait()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait_until_it_answers(address: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        assert process.poll() is None, f"the storage emulator ended with {process.returncode}"
        try:
            with urllib.request.urlopen(address, timeout=1):  # noqa: S310 - our own address
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the storage emulator at {address} did not answer in 30 s")


@dataclass
class Gate:
    """The gate's address, the requests it has seen as (method, path, query), and how late it answers."""

    address: str
    delay_seconds: float = 0
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def gate_before(emulator: str) -> Iterator[Gate]:
    """A gate before an emulator that answers on the loopback; ended on exit."""
    holding = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            split = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            gate.requests.append((self.command, split.path, query))
            time.sleep(gate.delay_seconds)
            condition = query.get("ifGenerationMatch")
            with holding:
                if condition is not None and _generation(emulator, split.path, query) != condition:
                    self._answer(412, b'{"error": {"code": 412, "message": "conditionNotMet"}}', "application/json")
                    return
                upstream = http.client.HTTPConnection(urlsplit(emulator).netloc)
                headers = {name: value for name, value in self.headers.items() if name != "Host"}
                upstream.request(self.command, self.path, body, {**headers, "Host": urlsplit(gate.address).netloc})
                answer = upstream.getresponse()
                content = answer.read()
                upstream.close()
            self._answer(answer.status, content, answer.getheader("Content-Type"), answer.getheader("Location"))

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _pass_on  # noqa: N815 - names the server looks for

        def _answer(self, status: int, content: bytes, kind: str | None, location: str | None = None) -> None:
            self.send_response(status)
            for name, value in (("Content-Type", kind), ("Location", location)):
                if value is not None:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(BrokenPipeError):  # who asked has gone
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    gate = Gate(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield gate
    finally:
        server.shutdown()
        server.server_close()


def _generation(emulator: str, path: str, query: dict[str, str]) -> str:
    """The generation of the object a request is about, as the store itself says; 0 when there is none."""
    bucket, _, name = unquote(path).partition("/b/")[2].partition("/o")
    key = query.get("name") or name.removeprefix("/")
    try:
        address = f"{emulator}/storage/v1/b/{bucket}/o/{quote(key, safe='')}"
        with urllib.request.urlopen(address) as answer:  # noqa: S310 - our own address
            return str(json.load(answer)["generation"])
    except urllib.error.HTTPError:
        return "0"
