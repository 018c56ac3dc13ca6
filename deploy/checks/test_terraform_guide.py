"""The cost table and the guide say what is planned."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from planned import FOLDER, IMAGE, Resources, managed, of_kind, profiles
from terraform_offline.terraform import Terraform

from bandicoot_core.settings import settings_table
from deploy import cost

GUIDE = cost.DEPLOY.parent / "docs" / "deploy.md"
PAGES = [*sorted(GUIDE.parent.glob("*.md")), cost.DEPLOY / "README.md", cost.DEPLOY.parent / "README.md"]


@profiles
@pytest.mark.parametrize("caregivers", cost.SCALES)
def test_the_cost_table_prices_what_is_planned(plans: Callable[..., Resources], profile: str, caregivers: int) -> None:
    planned = plans(profile, caregivers)
    variables = cost.read_variables(FOLDER / f"{profile}.tfvars")
    bill = {part.name: part for part in cost.parts(variables, caregivers)}
    size = cost.read_json("sizes.json")["sizes"][str(caregivers)]
    (machine,) = of_kind(planned, "compute_instance").values()
    assert bill["Control plane"].what.startswith(machine["machine_type"] + ",")
    assert machine["boot_disk"][0]["initialize_params"][0]["size"] == cost.CONTROL_DISK_GIB
    services = {each["name"] for each in of_kind(planned, "cloud_run_v2_service").values()}
    assert ("bandicoot-code" in services) == ("Code location" in bill)
    jobs = {each["name"]: each["template"][0]["template"][0] for each in of_kind(planned, "cloud_run_v2_job").values()}
    for kind in ("small", "large"):
        limits = jobs[f"bandicoot-run-{kind}"]["containers"][0]["resources"][0]["limits"]
        run = size[f"{kind}_run"]
        assert limits == {"cpu": str(run["cpu"]), "memory": f"{run['memory_gib']}Gi"}
    for instance in of_kind(planned, "sql_database_instance").values():
        assert instance["settings"][0]["tier"] == size["database_tier"]
        assert instance["settings"][0]["disk_size"] == size["database_gb"]
    assert bool(of_kind(planned, "sql_database_instance")) == (bill["PostgreSQL"].usd > 0)
    assert bool(of_kind(planned, "redis_instance")) == ("Redis" in bill)
    assert bool(of_kind(planned, "compute_router_nat")) == ("Way to the internet" in bill)
    conditions = sum(len(each["conditions"]) for each in of_kind(planned, "monitoring_alert_policy").values())
    secrets = len(of_kind(planned, "secret_manager_secret"))
    assert bill["Storage, images, logs, alerts"].what.endswith(f"{secrets} secrets, {conditions} alert conditions")


@pytest.mark.parametrize(("profile", "written"), [("safe", r"Plan: (\d+) to add"), ("lean", r"\(lean: (\d+)\)")])
def test_the_guide_says_how_many_things_are_made(plans: Callable[..., Resources], profile: str, written: str) -> None:
    whole = len(plans(profile, github_repository=None, event_senders=[]))
    first = len(plans(profile, github_repository=None, event_senders=[], image=None))
    page = GUIDE.read_text()
    # The job of migrations is made between the two.
    assert [int(each) for each in re.findall(written, page)] == [first, whole - first - 1]


@profiles
def test_the_guide_puts_in_every_secret_and_says_which_profiles_have_it(
    plans: Callable[..., Resources], profile: str
) -> None:
    secrets = {each["secret_id"] for each in of_kind(plans(profile), "secret_manager_secret").values()}
    lines = re.findall(r"^secret (bandicoot-[\w-]+) .*?(?: # ([a-z, ]+))?$", GUIDE.read_text(), flags=re.MULTILINE)
    assert secrets == {name for name, only in lines if not only or profile in only.split(", ")}


def test_what_i_say_counts_before_what_the_profile_says(terraform: Terraform) -> None:
    """With the file that the guide writes, and the words of its plan."""
    (written,) = re.findall(
        r"cat > (mine\.tfvars) <<END\n(.*?)^END$", GUIDE.read_text(), flags=re.DOTALL | re.MULTILINE
    )
    more = "caregivers = 1000000\n" + "".join(re.findall(r"^shared_\w+ .*\n", GUIDE.read_text(), flags=re.MULTILINE))
    settings = re.findall(r"^settings = \{.*?^\}\n", GUIDE.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = written[1].replace("$PROJECT", "some-project") + more + "".join(settings) + f'image = "{IMAGE}"\n'
    (terraform.folder / written[0]).write_text(text)
    (words,) = {command.partition("terraform plan ")[2] for command in commands(GUIDE, "terraform plan")}
    terraform.must("plan", "-input=false", "-out=mine", *shlex.split(words.replace("$PROFILE", "lean")))
    planned = json.loads(terraform.must("show", "-json", "mine"))
    machines = of_kind(list(managed(planned["planned_values"]["root_module"])), "compute_instance")
    (machine,) = machines.values()
    assert machine["machine_type"] == "e2-medium"
    assert "BANDICOOT_CONTROL_SHARE=0.2" in machine["metadata"]["user-data"]
    in_example = set(re.findall(r"^  (BANDICOOT_\w+) ", "".join(settings), flags=re.MULTILINE))
    assert in_example
    assert in_example <= set(re.findall(r"`(BANDICOOT_\w+)`", settings_table()))


def test_mine_comes_last_wherever_the_profile_is_named() -> None:
    named = [line for line in GUIDE.read_text().splitlines() if "-var-file=" in line]
    assert len(named) > 5
    assert [line for line in named if '-var-file="$PROFILE.tfvars" -var-file=mine.tfvars' not in line] == []
    assert "auto.tfvars" not in GUIDE.read_text(), "Terraform reads these before every -var-file"


def commands(page: Path, words: str) -> list[str]:
    """Commands of a page's shell blocks in which some words stand, each on one line, up to what ends it."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part for line in lines for part in re.split(r"&&|\|\||[|;]|(?<!\\)\)(?=$|\s)", line)]
    return [part.strip() for part in parts if words in part]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_script_that_a_page_runs_is_there_and_knows_its_options(page: Path) -> None:
    for command in commands(page, "scripts/"):
        found = re.search(r"((?:\.\./|deploy/)scripts/\w[\w-]*\.sh)(.*)", command)
        assert found is not None, command
        # The guide of Google Cloud works in deploy/terraform, the others in the root.
        script = (FOLDER if found[1].startswith("../") else cost.DEPLOY.parent) / found[1]
        assert script.is_file(), command
        known = script.read_text() + (script.parent / "common.sh").read_text()
        for option in re.findall(r"(?<=\s)--[\w-]+", found[2]):
            assert re.search(rf"^\s+{option}\)", known, flags=re.MULTILINE), f"{command}: no {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_builds_an_image_without_a_digest_and_labels(page: Path) -> None:
    assert commands(page, "docker build ") + commands(page, "buildah build ") == [], "build-image.sh gives both"


@pytest.mark.parametrize("page", [GUIDE, GUIDE.parent / "kubernetes.md"], ids=lambda page: page.name)
def test_the_steps_of_the_image_push_every_name_and_take_its_digest(page: Path, tmp_path: Path) -> None:
    """Runs them, with the real script and programs that only say what they were asked."""
    (block,) = [each for each in shell_blocks(page) if "build-image.sh" in each]
    digest = "sha256:" + "a" * 64
    programs = {
        "docker": f'echo "docker $*" >> "$ASKED"; [[ $1 != buildx ]] || echo {digest}',
        "gcloud": f'echo "gcloud $*" >> "$ASKED"; [[ $1 != artifacts ]] || echo {digest}',
        "terraform": "echo asia-south1-docker.pkg.dev/some-project/bandicoot",
    }
    where = FOLDER if page == GUIDE else cost.DEPLOY.parent
    # A tree with changes, as while one works on it, can be built for a trial alone.
    told = run_block(block.replace(".sh --repository", ".sh --allow-dirty --repository"), programs, tmp_path, where)
    asked = (tmp_path / "asked").read_text().splitlines()
    (built,) = [line for line in asked if line.startswith("docker build ")]
    assert f"BASE_IMAGE=python:3.11-slim-bookworm@{digest}" in built
    names = re.findall(r"--tag (\S+)", built)
    assert len(names) == 3
    assert [line for line in asked if line.startswith("docker push ")] == [f"docker push {name}" for name in names]
    if page == GUIDE:
        assert f"TF_VAR_image={names[0].rpartition(':')[0]}@{digest}" in told
        assert any(f"images describe {names[0]} " in line for line in asked)


def test_a_key_is_made_on_the_machine_without_forwarding_and_with_no_url_on_a_command_line(tmp_path: Path) -> None:
    assert not re.search(r"ssh .*-- .*-L ", GUIDE.read_text()), "Container-Optimised OS may forward no port"
    (block,) = [each for each in shell_blocks(GUIDE) if "api keys create" in each]
    url = "postgresql://bandicoot_owner:secret@10.0.0.3:5432/bandicoot?sslmode=require"
    programs = {
        # The machine: what --command says, by a shell of its own.
        "gcloud": 'echo "gcloud $*" >> "$ASKED"\n'
        'for word; do [[ $word != --command=* ]] || sh -c "${word#--command=}"; done',
        "sudo": '"$@"',
        "docker": f'echo "docker $*" >> "$ASKED"; [[ $1 != inspect ]] || echo {IMAGE}; '
        '[[ $1 != run ]] || echo "docker was given $BANDICOOT_DATABASE_URL"',
    }
    before = 'OWNER=secret DATABASE="10.0.0.3:5432/bandicoot?sslmode=require" REGION=asia-south1\n'
    told = run_block(before + block, programs, tmp_path, FOLDER)
    assert f"docker was given {url}" in told
    asked = (tmp_path / "asked").read_text()
    assert "secret" not in asked
    command = f"{IMAGE} bandicoot api keys create --client centre-7 --scope read --scope call"
    assert f"docker run --rm --network host --env BANDICOOT_DATABASE_URL {command}\n" in asked


def shell_blocks(page: Path) -> list[str]:
    """The shell blocks of a page."""
    return re.findall(r"^```sh\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def run_block(block: str, programs: dict[str, str], folder: Path, where: Path) -> str:
    """Runs a block with programs in place of real ones, which may note in $ASKED; returns what was said and set."""
    for name, text in programs.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\nexit 0\n")
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "ASKED": str(folder / "asked")}
    done = subprocess.run(
        ["bash", "-euc", f"REGION=asia-south1\n{block}\nenv"],
        cwd=where,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_deploy_readme_lists_everything_beside_it() -> None:
    page = (cost.DEPLOY / "README.md").read_text()
    named = set(re.findall(r"`([\w./-]+?)/?`", "".join(re.findall(r"^\| (.*?) \|", page, flags=re.MULTILINE))))
    hidden = ("__pycache__", "compose.env", "compose.settings.env", "README.md")
    there = {each.name for each in cost.DEPLOY.iterdir() if not each.name.startswith(".") and each.name not in hidden}
    assert there - named == set()


def test_terraform_readme_lists_every_module() -> None:
    page = (FOLDER / "README.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))
    assert named == {each.name for each in (FOLDER / "modules").iterdir()}
