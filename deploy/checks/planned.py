"""Plans of deploy/terraform without an account, made once for all checks; a plugin of pytest for its fixtures."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from terraform_offline.terraform import NoTerraformError, Terraform, offline

from deploy import cost

FOLDER = cost.TERRAFORM
IMAGE = "asia-south1-docker.pkg.dev/some-project/bandicoot/bandicoot:1.0.0"
GIVEN = {
    "project": "some-project",
    "image": IMAGE,
    "alert_emails": ["night@example.org"],
    "operators": ["user:operator@example.org"],
    "event_senders": ["serviceAccount:sender@other.iam.gserviceaccount.com"],
    "billing_account": "0123AB-4567CD-89EF01",
    "github_repository": "owner/bandicoot",
}
CHECKOV = ("--framework", "terraform", "--skip-download", "-o", "json")
SHARED = {
    "shared_database": "programme",
    "shared_database_connections": 200,
    "shared_network": "projects/some-project/global/networks/programme",
}

Resources = list[dict[str, Any]]


@pytest.fixture(scope="session")
def terraform() -> Iterator[Terraform]:
    try:
        with offline(FOLDER) as program:
            yield program
    except NoTerraformError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def plans(terraform: Terraform) -> Callable[..., Resources]:
    """What a profile makes, by its name, with what only Google can say left out."""
    return _plans(terraform)


@pytest.fixture(scope="session")
def known_plans() -> Iterator[Callable[..., Resources]]:
    """The same, with made-up texts for what only Google can say: what depends on them can be read."""
    try:
        with offline(FOLDER, knows_everything=True) as program:
            yield _plans(program)
    except NoTerraformError as error:
        pytest.fail(str(error), pytrace=False)


def _plans(terraform: Terraform) -> Callable[..., Resources]:
    made: dict[str, Resources] = {}

    def of(profile: str, caregivers: int = 200_000, **more: object) -> Resources:
        shared = {} if cost.read_variables(FOLDER / f"{profile}.tfvars")["own_database"] else SHARED
        given = {**GIVEN, **shared, "caregivers": caregivers, **more}
        key = json.dumps([profile, given], sort_keys=True)
        if key not in made:
            values = terraform.folder / "given.tfvars.json"
            values.write_text(json.dumps(given))
            files = (f"-var-file={profile}.tfvars", f"-var-file={values}")
            terraform.must("plan", "-input=false", "-no-color", "-out=plan", *files)
            told = json.loads(terraform.must("show", "-json", "plan"))
            made[key] = list(managed(told["planned_values"]["root_module"]))
        return made[key]

    return of


def managed(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What Terraform makes in a module and those below it."""
    yield from (each for each in module.get("resources", ()) if each["mode"] == "managed")
    for child in module.get("child_modules", ()):
        yield from managed(child)


def of_kind(resources: Resources, kind: str) -> dict[str, dict[str, Any]]:
    """Values of the resources of a kind, by address."""
    return {each["address"]: each["values"] for each in resources if each["type"] == f"google_{kind}"}


profiles = pytest.mark.parametrize("profile", cost.PROFILES)
