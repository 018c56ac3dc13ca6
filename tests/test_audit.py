"""The audit of the pinned packages: what is known fails it, and a machine without a network is told so and passes."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "audit.py"
CONSTRAINTS = "# pinned\nharmless==1.0\nbroken==2.0\n"
ADVISORY = {
    "id": "GHSA-0000-0000-0000",
    "summary": "It opens every door",
    "affected": [
        {
            "package": {"name": "broken", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.1"}]}],
        }
    ],
}


class Advisories(ThreadingHTTPServer):
    """A server that speaks the advisory protocol."""

    answer: Callable[[dict], tuple[int, object]]
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class _Handler(BaseHTTPRequestHandler):
    server: Advisories

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(question["package"]["name"])
        status, answer = self.server.answer(question)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    with Advisories(("127.0.0.1", 0), _Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture
def constraints(tmp_path: Path) -> Path:
    path = tmp_path / "constraints.txt"
    path.write_text(CONSTRAINTS)
    return path


def audit(constraints: Path, url: str, *more: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(constraints), "--url", url, "--timeout", "2", *more],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"HOME": str(constraints.parent), "PATH": "/usr/bin:/bin"},  # nothing is remembered from before, no proxy
    )
    return done.returncode, done.stdout + done.stderr


def test_what_is_known_against_a_package_fails_the_audit(advisories: Advisories, constraints: Path) -> None:
    advisories.answer = lambda asked: (200, {"vulns": [ADVISORY]} if asked["package"]["name"] == "broken" else {})
    status, said = audit(constraints, advisories.url)
    assert status == 1
    assert "broken 2.0: GHSA-0000-0000-0000, fixed in 2.1" in said
    assert {"harmless", "broken"} <= set(advisories.asked)


def test_nothing_known_against_any_passes_and_says_of_how_many(advisories: Advisories, constraints: Path) -> None:
    advisories.answer = lambda _asked: (200, {})
    status, said = audit(constraints, advisories.url)
    assert (status, said.strip()) == (0, "audit: nothing is known against the 2 packages of constraints.txt")


def test_without_a_network_it_passes_and_says_that_nothing_is_audited(constraints: Path) -> None:
    status, said = audit(constraints, "http://127.0.0.1:9/v1/query")
    assert status == 0
    assert "constraints.txt is NOT audited" in said
    assert "can't be reached" in said


@pytest.mark.parametrize("answer", [(502, {}), (200, ["a sign-in page"])])
def test_a_proxy_that_answers_in_its_place_is_no_advisory_service(
    advisories: Advisories, constraints: Path, answer: tuple[int, object]
) -> None:
    advisories.answer = lambda _asked: answer
    status, said = audit(constraints, advisories.url)
    assert status == 0
    assert "NOT audited" in said
    assert advisories.asked == ["pip"]


def test_a_service_that_fails_for_a_package_while_it_answers_fails_the_audit(
    advisories: Advisories, constraints: Path
) -> None:
    advisories.answer = lambda asked: (500, {}) if asked["package"]["name"] == "broken" else (200, {})
    status, said = audit(constraints, advisories.url)
    assert status == 1
    assert "did not for every package" in said


def test_it_never_hangs(advisories: Advisories, constraints: Path) -> None:
    def answer(asked: dict) -> tuple[int, object]:
        if asked["package"]["name"] != "pip":
            time.sleep(1.5)
        return 200, {}

    advisories.answer = answer
    started = time.monotonic()
    status, said = audit(constraints, advisories.url, "--total", "1")
    assert time.monotonic() - started < 15
    assert status == 1
    assert "longer than 1 s" in said
