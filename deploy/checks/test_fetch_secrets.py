"""The program that hands secrets to the control plane's processes, against a server that answers as Google's do."""

import base64
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy import cost

PROGRAM = cost.TERRAFORM / "modules" / "control_plane" / "fetch_secrets.py"
SECRETS = {
    "bandicoot-dagster-storage-url": "postgresql+psycopg2://dagster:pa%24s@10.0.0.3/bandicoot\n",
    "bandicoot-redis-url": "redis://:s%20pace%22quote@10.41.0.10:6379/0",
    "bandicoot-no-password": "redis://10.41.0.10:6379/0",
    "bandicoot-two-lines": "one\nBANDICOOT_DATABASE_URL=other",
}


class _Google(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/computeMetadata/v1/instance/service-accounts/default/token":
            known = self.headers.get("Metadata-Flavor") == "Google"
            self._answer(200 if known else 403, {"access_token": "a-token"})
            return
        name = self.path.removeprefix("/v1/projects/some-project/secrets/").removesuffix("/versions/latest:access")
        if self.headers.get("Authorization") != "Bearer a-token" or name not in SECRETS:
            self._answer(403, {"error": {"message": "denied"}})
            return
        self._answer(200, {"payload": {"data": base64.b64encode(SECRETS[name].encode()).decode()}})

    def _answer(self, status: int, body: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def google() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Google)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def fetch(google: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), "--project", "some-project", *words],
        env={**os.environ, "METADATA_SERVER": google, "SECRET_MANAGER": google},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_process_finds_its_secrets_in_a_file_that_root_alone_reads(google: str, tmp_path: Path) -> None:
    file = tmp_path / "run" / "daemon.env"
    done = fetch(google, "--environment", str(file), "BANDICOOT_DAGSTER_STORAGE_URL=bandicoot-dagster-storage-url")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert file.read_text() == "BANDICOOT_DAGSTER_STORAGE_URL=postgresql+psycopg2://dagster:pa%24s@10.0.0.3/bandicoot\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == ["daemon.env"]


def test_redis_gets_the_password_of_its_url(google: str, tmp_path: Path) -> None:
    file = tmp_path / "redis.conf"
    owner = "999" if os.getuid() == 0 else str(os.getuid())
    assert fetch(google, "--redis", str(file), "--owner", owner, "bandicoot-redis-url").returncode == 0
    assert file.stat().st_uid == int(owner)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == 'requirepass "s pace\\"quote"\n'


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--environment", "FILE", "BANDICOOT_SOURCE_URL=bandicoot-unknown"),
            "was not given (HTTP 403): add a version",
        ),
        (("--environment", "FILE", "BANDICOOT_SOURCE_URL=bandicoot-two-lines"), "has more than one line"),
        (("--redis", "FILE", "bandicoot-no-password"), "has no password"),
    ],
)
def test_what_cannot_be_used_is_said_and_nothing_is_written(
    google: str, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    file = tmp_path / "file"
    done = fetch(google, *(str(file) if word == "FILE" else word for word in words))
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not file.exists()
    assert not any(secret.strip() in done.stdout + done.stderr for secret in SECRETS.values())
