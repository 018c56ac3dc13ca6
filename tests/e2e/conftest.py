"""What a person has after `bandicoot run` and `bandicoot ui`: a home with a published list, its UI, and a browser.

Everything here goes through the command line and the browser, in processes of their own; no function of the product
is called to make a list or to serve it.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, expect, sync_playwright

from bandicoot_core.calendar import last_closed_week
from bandicoot_core.stores.embedded import server as embedded
from tests.servers.pubsub import SUBSCRIPTION, PubSubServer, pubsub_server

CALL_DATE = "2026-11-19"
WEEK = last_closed_week(date.fromisoformat(CALL_DATE)).isoformat()
SMALL_SIMULATION = {"BANDICOOT_SIMULATED_CAREGIVERS": "200", "BANDICOOT_SIMULATED_COHORTS": "2"}
PICTURES_VARIABLE = "BANDICOOT_PICTURES"
"""A folder that gets the pictures of the documentation; without it they stay in the tests' temporary folder."""

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_BROWSER_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
expect.set_options(timeout=30_000)  # pages fill in piece by piece, and a busy machine takes its time

_PROJECT = Path(__file__).parents[2]
_COMMAND = (sys.executable, "-m", "bandicoot_dagster.cli")
_SERVING_SECONDS = 120
# A code server lets its runs end; one that did not hear of the end misses its heartbeats first, after 90 s at most.
_ENDING_SECONDS = 180


@dataclass(frozen=True)
class DemoHome:
    """A home folder with a published list, and the command line as a user of it has it."""

    home: Path
    environment: dict[str, str]

    def bandicoot(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end, with further environment variables."""
        return subprocess.run(
            [*_COMMAND, *arguments],
            env=self.environment | variables,
            cwd=_PROJECT,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@dataclass(frozen=True)
class FirstRun:
    """What `bandicoot run` on an empty home printed."""

    output: str

    @property
    def published_url(self) -> str:
        """The URL that the command names for reading the list."""
        found = re.search(r"psql '([^']+)'", self.output)
        assert found is not None, f"no URL is named in:\n{self.output}"
        return found.group(1)


@dataclass
class Faults:
    """What went wrong on the pages of a test: uncaught errors, errors on the console, and refused requests."""

    found: list[str] = field(default_factory=list)

    def watch(self, page: Page, base_url: str) -> None:
        """Note the faults of a page from now on; only those of the UI itself, not of the browser's own requests."""

        def on_console(message: ConsoleMessage) -> None:
            if message.type == "error" and message.location["url"].startswith(base_url):
                self.found.append(f"console: {message.text}")

        def on_response(response: Response) -> None:
            if response.status >= 400 and response.url.startswith(base_url):
                self.found.append(f"{response.status} for {response.url}")

        page.on("pageerror", lambda error: self.found.append(f"uncaught: {error}"))
        page.on("console", on_console)
        page.on("response", on_response)


@pytest.fixture(scope="session")
def broker() -> Iterator[PubSubServer]:
    """A local Pub/Sub, from which the home takes in events while its daemon runs."""
    with pubsub_server() as server:
        yield server


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory, broker: PubSubServer) -> Iterator[DemoHome]:
    """A home in which nothing has happened yet, small and quick settings, and none of the caller's own."""
    home = tmp_path_factory.mktemp("home")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("BANDICOOT_", "DAGSTER_"))
    } | {
        "BANDICOOT_HOME": str(home),
        "BANDICOOT_DEMO_CAREGIVERS": "2000",
        "BANDICOOT_TRAINING_WEEKS": "10",
        "BANDICOOT_N_CLUSTERS": "6",  # of so few caregivers, each of more clusters would hardly ever be called
        "BANDICOOT_LOOKBACK_DAYS": "42",
        "BANDICOOT_EVENTS_SUBSCRIPTION": SUBSCRIPTION,
        "BANDICOOT_EVENTS_FOLDER": str(home / "events"),
        "PUBSUB_EMULATOR_HOST": broker.endpoint,
    }
    try:
        yield DemoHome(home, environment)
    finally:
        embedded.destroy(home)


@pytest.fixture(scope="session")
def first_run(empty_home: DemoHome) -> FirstRun:
    """The first run, from an empty home to the published list of CALL_DATE."""
    done = empty_home.bandicoot("run", "--as-of", CALL_DATE)
    assert done.returncode == 0, f"bandicoot run ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return FirstRun(done.stdout)


@pytest.fixture(scope="session")
def demo_home(empty_home: DemoHome, first_run: FirstRun) -> DemoHome:
    """The home after its first run."""
    assert "Published as bandicoot.call_list" in first_run.output
    return empty_home


@pytest.fixture(scope="session")
def published_url(first_run: FirstRun) -> str:
    """The URL that the first run printed."""
    return first_run.published_url


@pytest.fixture(scope="package")
def ui_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file with all that `bandicoot ui` and its children write, as JSON."""
    return tmp_path_factory.mktemp("ui") / "ui.log"


@pytest.fixture(scope="package")
def ui_url(demo_home: DemoHome, ui_log: Path) -> Iterator[str]:
    """`bandicoot ui` on the home, for every module after; then it is terminated, and nothing of it may be left."""
    log_path = ui_log
    port = closed_port()
    with log_path.open("w") as log:
        served = subprocess.Popen(
            [*_COMMAND, "ui", "--port", str(port)],
            env=demo_home.environment | {"BANDICOOT_LOG_FORMAT": "json"},
            cwd=_PROJECT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_served(served, url, log_path)
        # The list is of another day than today: the nights since would be made up for, and hold up every run.
        _stop_sensor(url, "nightly_again")
        yield url
    finally:
        # As a service manager does it: the one process that was started is told, and ends its children.
        served.send_signal(signal.SIGTERM)
        left = _left_of(served, demo_home.home)
    assert not left, "bandicoot ui was terminated, but these processes had to be killed:\n" + "\n".join(left)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium of this machine."""
    executable = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if executable is None:
        pytest.fail(
            f"the tests in a browser need Chromium: none of {', '.join(_BROWSERS)} is on the PATH. Install it with: "
            "sudo apt-get install chromium (`make test` does so where it may)",
            pytrace=False,
        )
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=list(_BROWSER_OPTIONS))
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, ui_url: str, tmp_path: Path) -> Iterator[Page]:
    """A page of a visitor who has seen the invitation to Dagster's community; errors of the UI fail the test.

    What it shows at the end of the test is kept as `last.png`.
    """
    context: BrowserContext = browser.new_context(
        base_url=ui_url,
        viewport={"width": 1400, "height": 900},
        device_scale_factor=1.5,
        timezone_id="Asia/Kolkata",
    )
    context.set_default_timeout(30_000)
    context.add_init_script("localStorage.setItem('communityNux', JSON.stringify('1'))")
    opened = context.new_page()
    faults = Faults()
    faults.watch(opened, ui_url)
    yield opened
    opened.screenshot(path=tmp_path / "last.png")
    context.close()
    assert faults.found == []


@pytest.fixture
def take_picture(page: Page, tmp_path: Path) -> Callable[[str], None]:
    """Saves what the page shows under a name, for the documentation too when a folder for it is named."""

    def take(name: str) -> None:
        picture = tmp_path / f"{name}.png"
        page.screenshot(path=picture, animations="disabled")
        folder = os.environ.get(PICTURES_VARIABLE)
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, Path(folder) / picture.name)

    return take


def closed_port() -> int:
    """A TCP port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_served(served: subprocess.Popen[bytes], url: str, log_path: Path) -> None:
    deadline = time.monotonic() + _SERVING_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"{url}/server_info", timeout=5):  # noqa: S310 - an http URL of our own
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            if served.poll() is not None or time.monotonic() >= deadline:
                pytest.fail(f"bandicoot ui does not serve on {url} ({error}):\n{log_path.read_text()[-4000:]}")
        time.sleep(0.25)


def _stop_sensor(url: str, name: str) -> None:
    """Stop a sensor as the switch on its page does."""
    selector = {
        "repositoryName": "__repository__",
        "repositoryLocationName": "bandicoot_dagster.definitions",
        "sensorName": name,
    }
    query = "query ($of: SensorSelector!) { sensorOrError(sensorSelector: $of) { ... on Sensor { id } } }"
    sensor = _ask(url, query, {"of": selector})["sensorOrError"]
    state = "... on StopSensorMutationResult { instigationState { status } }"
    stop = f"mutation ($id: String!) {{ stopSensor(id: $id) {{ {state} }} }}"
    assert _ask(url, stop, {"id": sensor["id"]})["stopSensor"]["instigationState"]["status"] == "STOPPED"


def _ask(url: str, query: str, variables: dict[str, Any]) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/graphql", data=body, headers=headers)  # noqa: S310 - an http URL of our own
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)["data"]


def _left_of(served: subprocess.Popen[bytes], home: Path) -> list[str]:
    """Wait for the end of the UI and its children; what does not end in time is killed and returned."""
    deadline = time.monotonic() + _ENDING_SECONDS
    while time.monotonic() < deadline:
        served.poll()  # reaps the child, which would stay a zombie
        if not _processes(served.pid, home):
            return []
        time.sleep(0.25)
    left = []
    for process in _processes(served.pid, home):
        try:
            left.append(f"{process.pid}: {' '.join(process.cmdline())[:160]}")
            process.kill()
        except psutil.NoSuchProcess:
            continue
    served.poll()
    return left


def _processes(group: int, home: Path) -> list[psutil.Process]:
    """The live processes of the UI's group, and any other of Dagster's that names the home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            command = " ".join(process.cmdline())
            if os.getpgid(process.pid) == group or (str(home) in command and "dagster" in command):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError):
            continue  # gone meanwhile, or none of ours
    return found
