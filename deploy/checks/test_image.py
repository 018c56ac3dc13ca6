"""The image, built over a base of Debian's packages and run as production does: no root, no rights, nothing writable
but /tmp and one folder; PostgreSQL is outside.

With BANDICOOT_CHECK_BASE set to an image, as python:3.11-slim-bookworm@sha256:..., it is built over that one.
"""

import json
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import grpc
import psycopg
import pytest
from containers import Containers, lacking, owned_folder, pip_settings, run

from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.servers.processes import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
NEEDED = ("podman", "buildah", "runc", "mmdebstrap")
LIMIT_MB = 1100
"""Of what the image adds to its base, uncompressed. Whoever passes it should know what for."""

N_CAREGIVERS = 800
BUDGET = 20
FILL = f"""
from bandicoot_core.calendar import day_of
from bandicoot_core.settings import load_settings
from bandicoot_dagster.clock import system_clock
from bandicoot_dagster.demo_source import fill_demo
from bandicoot_dagster.opening import open_installation
stores = open_installation(load_settings())
today = day_of(system_clock())
fill_demo(stores, n_caregivers={N_CAREGIVERS}, seed=11, day=today, on_progress=lambda *_: None)
"""
MEMORY = """
import glob, os
total = 0
for path in glob.glob("/proc/[0-9]*/smaps_rollup"):
    if path.split("/")[2] != str(os.getpid()):
        total += sum(int(line.split()[1]) for line in open(path) if line.startswith("Pss:"))
print(total // 1024)
"""
WORKSPACE = "load_from:\n  - grpc_server: {{host: 127.0.0.1, port: {port}, location_name: bandicoot}}\n"


@dataclass
class Built:
    """The image under test, and what was measured of it."""

    containers: Containers
    base: str
    reference: str
    bill: Path
    figures: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def built(pytestconfig: pytest.Config) -> Iterator[Built]:
    """The image, built by the project's own script; at the end its figures are printed."""
    missing = lacking(NEEDED)
    if missing:
        pytest.fail(
            f"not checked: the image; this machine has no {', '.join(missing)}. As root: apt-get install "
            "--no-install-recommends podman buildah runc mmdebstrap uidmap",
            pytrace=False,
        )
    if os.geteuid() != 0:
        pytest.fail("not checked: the image; building and running it in a folder of its own needs root", pytrace=False)
    folder = Path(tempfile.mkdtemp(prefix="bandicoot-image-"))
    try:
        folder.chmod(0o755)  # the container's user has a folder below it
        containers = Containers(folder)
        base = os.environ.get("BANDICOOT_CHECK_BASE", "")
        if not base:
            base = "localhost/bandicoot-check-base:bookworm"
            containers.import_base(base, REPOSITORY / "build" / "deploy-check" / "base.tar")
        conf, mounts = pip_settings(folder)
        command = [str(REPOSITORY / "deploy" / "scripts" / "build-image.sh"), "--builder", "buildah"]
        command += ["--repository", "localhost/bandicoot", "--base", base, "--allow-unpinned", "--allow-dirty"]
        command += [
            "--sbom",
            str(folder / "bill"),
            "--pip-conf",
            str(conf),
            "--source",
            "https://example.org/bandicoot",
        ]
        began = time.monotonic()
        printed = run([*command, "--", "--network", "host", *mounts], environment=containers.environment, timeout=1800)
        made = Built(containers, base, printed.split()[0], folder / "bill" / "bandicoot.cdx.json")
        made.figures["build"] = f"{time.monotonic() - began:.0f} s"
        yield made
        captured: Any = pytestconfig.pluginmanager.get_plugin("capturemanager")
        with captured.global_and_fixture_disabled():
            print("\n\nThe image:", *(f"  {name:<36} {value}" for name, value in made.figures.items()), sep="\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Programme:
    """A programme in a PostgreSQL outside the containers, and the folder that the containers may write to."""

    server: DebianPostgres
    url: str
    home: Path
    environment: dict[str, str]

    @property
    def options(self) -> list[str]:
        """Options of a container that has the folder."""
        return ["--volume", f"{self.home}:/var/lib/bandicoot"]


@pytest.fixture(scope="module")
def programme(built: Built) -> Iterator[Programme]:
    """A small programme, filled by a process of the image itself, and its first nightly run, measured."""
    with debian_postgres() as server:
        server.create_role("pipeline", attributes="CREATEROLE")
        name = server.create_database("programme", owner="pipeline").rsplit("/", 1)[-1]
        url = server.url(name, user="pipeline", password="of the role")
        server.create_database("dagster", owner="pipeline")
        storage = server.url("dagster", user="pipeline", password="of the role")
        home = owned_folder(built.containers.folder / "home")
        environment = {
            "BANDICOOT_DATABASE_URL": url,
            "BANDICOOT_SOURCE_URL": url,
            "BANDICOOT_DAGSTER_STORAGE_URL": storage.replace("postgresql://", "postgresql+psycopg2://"),
            "BANDICOOT_BUDGET": str(BUDGET),
            "BANDICOOT_TRAINING_WEEKS": "4",
            "BANDICOOT_MIN_PASSIVE_WEEKS": "2",
            "BANDICOOT_N_CLUSTERS": "4",
            "BANDICOOT_N_DRAWS": "200",
        }
        made = Programme(server, url, home, environment)
        assert_ends_well(built, made, ["python", "-c", FILL])
        yield made


def assert_ends_well(built: Built, programme: Programme, command: list[str], timeout: float = 600) -> tuple[str, float]:
    """What a container of the image prints until it ends with 0, and how long that takes."""
    started = built.containers.started(
        built.reference, command, environment=programme.environment, options=programme.options
    )
    with started as container:
        code = container.wait(timeout)
        took = time.monotonic() - container.began
        assert code == 0, f"{command[:3]} ended with {code}:\n{container.log()[-4000:]}"
        return container.log(), took


@pytest.fixture(scope="module")
def published(built: Built, programme: Programme) -> str:
    """The list of today, made by `bandicoot run` in a container: what it printed."""
    printed, took = assert_ends_well(built, programme, ["bandicoot", "run"])
    built.figures[f"`bandicoot run`, {N_CAREGIVERS} caregivers"] = f"{took:.1f} s, training and history included"
    return printed


def get(url: str, key: str | None = None, body: dict[str, Any] | None = None) -> Any:
    """The JSON that an address answers."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    request = Request(url, data=json.dumps(body).encode() if body else None, headers=headers)  # noqa: S310 - ours
    with urlopen(request, timeout=30) as answer:  # noqa: S310 - ours
        return json.load(answer)


def answers(url: str) -> Callable[[], bool]:
    """Whether an address answers with 200."""

    def asked() -> bool:
        try:
            with urlopen(url, timeout=5) as answer:  # noqa: S310 - ours
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    return asked


def raw_call(port: int, method: str, request: bytes) -> bytes | None:
    """A gRPC call in the bytes of its messages; None when nobody answers."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer: bytes = channel.unary_unary(method, None, None)(request, timeout=5)
        except grpc.RpcError:
            return None
        return answer


def serves_code(port: int) -> Callable[[], bool]:
    """Whether the health service of a code location says SERVING (field 1 is 1) of DagsterApi (field 1, 10 bytes)."""

    def asked() -> bool:
        with socket.socket() as probe:  # a refused channel would wait before it tries again
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return False
        return raw_call(port, "/grpc.health.v1.Health/Check", b"\n\x0aDagsterApi") == b"\x08\x01"

    return asked


def test_the_image_is_as_small_as_was_said(built: Built) -> None:
    whole, base = built.containers.size_mb(built.reference), built.containers.size_mb(built.base)
    built.figures["size, uncompressed"] = f"{whole:.0f} MB, {base:.0f} MB of them the base"
    assert whole - base < LIMIT_MB


def test_the_image_says_what_it_is_and_asks_how_it_is(built: Built) -> None:
    found = built.containers.inspect(built.reference)
    labels = {name.rsplit(".", 1)[-1]: value for name, value in found["Labels"].items()}
    assert labels["version"] == built.reference.rsplit(":", 1)[-1]
    assert labels["revision"] == run(["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]).strip()
    assert labels["source"] == "https://example.org/bandicoot"
    assert found["User"] == "10001:10001"
    assert not found["Config"].get("Entrypoint")
    assert found["Healthcheck"]["Test"] == ["CMD", "healthcheck"]


def test_its_user_is_nobody_special_and_finds_no_compiler_and_nothing_to_write_to(built: Built) -> None:
    found = """
import os, shutil
from pathlib import Path
tried = []
for folder in ("/", "/etc", "/opt/bandicoot", "/opt/dagster", "/usr/local/bin", "/var/lib/bandicoot", "/tmp"):
    try:
        (Path(folder) / "written").write_text("")
        tried.append(folder)
    except OSError:
        pass
compilers = [name for name in ("cc", "gcc", "g++", "clang", "make", "rustc", "go") if shutil.which(name)]
rights = [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "NoNewPrivs"))]
print(os.getuid(), os.getgid(), os.getgroups(), tried, compilers, rights)
"""
    with built.containers.started(built.reference, ["python", "-c", found]) as container:
        assert container.wait(60) == 0, container.log()
        assert container.log().strip() == "10001 10001 [10001] ['/tmp'] [] ['0000000000000000', '1']"


@pytest.mark.parametrize("folder", ["/var/lib/bandicoot", "/opt/dagster", "/opt/dagster/storage"])
def test_memory_over_a_folder_is_writable_whatever_the_runtime_makes_of_its_mode(built: Built, folder: str) -> None:
    options = ["--tmpfs", folder]
    with built.containers.started(built.reference, ["touch", f"{folder}/written"], options=options) as container:
        assert container.wait(60) == 0, container.log()


def test_a_container_without_a_database_is_told_which_setting_is_missing(built: Built) -> None:
    options = ["--tmpfs", "/var/lib/bandicoot"]
    with built.containers.started(built.reference, ["bandicoot", "status"], options=options) as container:
        assert container.wait(60) == 3
        assert "set BANDICOOT_DATABASE_URL" in container.log()


def test_the_bill_of_materials_names_what_is_in_the_image(built: Built) -> None:
    bill = json.loads(built.bill.read_text())
    named = {(one["name"].lower(), one["version"]) for one in bill["components"]}
    listed = (
        "from importlib.metadata import distributions as d; print(*(f'{x.name.lower()}=={x.version}' for x in d()))"
    )
    with built.containers.started(built.reference, ["python", "-c", listed]) as container:
        assert container.wait(60) == 0, container.log()
        installed = {tuple(one.split("==")) for one in container.log().split()}
    installed = {one for one in installed if one[0] != "bandicoot"}
    assert len(installed) > 100
    assert installed <= named
    assert {"libc6", "python"} <= {name for name, _ in named}
    assert bill["metadata"]["component"]["name"] == "bandicoot"
    built.figures["bill of materials"] = f"{len(bill['components'])} components"


def test_the_nightly_job_publishes_the_list_of_today(published: str, programme: Programme) -> None:
    with psycopg.connect(programme.url) as connection:
        rows = connection.execute("SELECT call_date, count(*) FROM bandicoot.current_call_list GROUP BY 1").fetchall()
    today = (datetime.now(UTC) + timedelta(hours=5, minutes=30)).date()
    assert rows == [(today, BUDGET)]
    assert "Traceback" not in published


def test_the_service_answers_and_recommends(built: Built, programme: Programme, published: str) -> None:
    assert published
    create = ["bandicoot", "api", "keys", "create", "--client", "check", "--scope", "read"]
    printed, _ = assert_ends_well(built, programme, create)
    key = next(line for line in printed.splitlines() if line.startswith("bdc_"))
    port = free_port()
    command = ["bandicoot", "api", "--host", "127.0.0.1", "--port", str(port)]
    with built.containers.started(
        built.reference, command, environment=programme.environment, options=programme.options
    ) as container:
        started = container.seconds_until(answers(f"http://127.0.0.1:{port}/health"))
        built.figures["service, until /health answers"] = f"{started:.1f} s"
        container.seconds_until(answers(f"http://127.0.0.1:{port}/ready"))
        found = get(f"http://127.0.0.1:{port}/recommend?budget=5", key)
        assert len(found["recommendations"]) == 5
        assert container.exec("healthcheck").strip() == f"http://127.0.0.1:{port}/health: well"
        built.figures["memory of the service"] = memory(container)


def test_code_location_webserver_and_daemon_are_the_same_image(built: Built, programme: Programme) -> None:
    code_port, port = free_port(), free_port()
    workspace = built.containers.folder / "workspace.yaml"
    workspace.write_text(WORKSPACE.format(port=code_port))
    environment = {**programme.environment, "DAGSTER_HOME": "/opt/dagster"}
    kept = owned_folder(built.containers.folder / "dagster")
    options = [*programme.options, "--volume", f"{kept}:/opt/dagster/storage"]
    options += ["--volume", f"{workspace}:/opt/dagster/workspace.yaml:ro"]
    code = ["dagster", "api", "grpc", "--module-name", "bandicoot_dagster.definitions", "--host", "127.0.0.1"]
    web = ["dagster-webserver", "--host", "127.0.0.1", "--port", str(port), "--workspace", "workspace.yaml"]

    with ExitStack() as stack:

        def start(*command: str) -> Any:
            return stack.enter_context(
                built.containers.started(built.reference, command, environment=environment, options=options)
            )

        location = start(*code, "--port", str(code_port))
        with pytest.raises(AssertionError, match="UNAVAILABLE"):
            location.exec("healthcheck")  # it loads for seconds before it listens
        built.figures["code location, until it serves"] = f"{location.seconds_until(serves_code(code_port)):.1f} s"
        assert raw_call(code_port, "/api.DagsterApi/Ping", b"\n\x05hello")[:7] == b"\n\x05hello"  # type: ignore[index]
        assert location.exec("healthcheck").strip() == f"grpc://127.0.0.1:{code_port}: well"

        webserver = start(*web)
        ready = webserver.seconds_until(answers(f"http://127.0.0.1:{port}/server_info"))
        built.figures["webserver, until it answers"] = f"{ready:.1f} s"
        assert webserver.exec("healthcheck").strip() == f"http://127.0.0.1:{port}/server_info: well"
        daemon = start("dagster-daemon", "run", "--workspace", "workspace.yaml")

        def ask(query: str) -> Any:
            return get(f"http://127.0.0.1:{port}/graphql", body={"query": query})["data"]

        where = 'repositoryLocationName: "bandicoot", repositoryName: "__repository__", jobName: "housekeeping"'
        built.figures["memory of location and webserver"] = f"{memory(location)}, {memory(webserver)}"
        launched = ask(
            f"mutation {{ launchRun(executionParams: {{selector: {{{where}}}, runConfigData: {{}}}}) "
            "{ __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"
        )["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        query = f'{{ runOrError(runId: "{launched["run"]["runId"]}") {{ ... on Run {{ status }} }} }}'
        began = time.monotonic()

        def status() -> str:
            time.sleep(0.5)
            return str(ask(query)["runOrError"]["status"])

        daemon.seconds_until(lambda: status() in ("SUCCESS", "FAILURE", "CANCELED"), timeout=180)
        assert status() == "SUCCESS", location.log()[-3000:]
        built.figures["a run through daemon and location"] = f"{time.monotonic() - began:.1f} s"
        built.figures["memory of the daemon"] = memory(daemon)
        assert "answers nobody" in daemon.exec("healthcheck")


def memory(container: Any) -> str:
    """Memory of a container's processes, with their part of what they share (proportional set size)."""
    sizes = container.exec("python", "-c", MEMORY)
    return f"{int(sizes)} MB"
