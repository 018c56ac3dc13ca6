"""deploy/terraform is well formed, and its own tests and checkov find nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from planned import CHECKOV, FOLDER
from terraform_offline.terraform import NoTerraformError, Terraform, offline, terraform_program


def test_every_file_is_formatted() -> None:
    try:
        program = terraform_program()
    except NoTerraformError as error:
        pytest.fail(str(error), pytrace=False)
    done = subprocess.run(
        [program, "fmt", "-check", "-recursive", "-diff", str(FOLDER)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_configuration_is_valid(terraform: Terraform) -> None:
    terraform.must("validate", "-no-color")


def test_the_stand_in_provider_finds_an_argument_that_does_not_exist(tmp_path: Path) -> None:
    folder = tmp_path / "deploy" / "terraform"
    folder.mkdir(parents=True)
    text = 'resource "google_storage_bucket" "b" {\n  name = "b"\n  location = "x"\n  public = true\n}\n'
    (folder / "main.tf").write_text((FOLDER / "modules/lake/versions.tf").read_text() + text)
    try:
        with offline(folder) as program:
            done = program.run("validate", "-no-color")
    except NoTerraformError as error:
        pytest.fail(str(error), pytrace=False)
    assert done.returncode == 1
    assert 'An argument named "public" is not expected here.' in done.stdout + done.stderr


def test_the_tests_of_terraform_pass(terraform: Terraform) -> None:
    said = terraform.must("test", "-no-color")
    counted = re.search(r"Success! (\d+) passed, 0 failed", said)
    assert counted is not None, said
    assert int(counted[1]) >= 10


def test_checkov_finds_nothing_and_every_skip_has_its_reason() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("checkov")), "-d", str(FOLDER), *CHECKOV],
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout)
    assert told["results"]["parsing_errors"] == [], "what checkov cannot read it does not check"
    failed = [
        f"{each['check_id']} {each['resource']}: {each['check_name']}" for each in told["results"]["failed_checks"]
    ]
    assert failed == []
    assert len(told["results"]["passed_checks"]) > 50
    for each in told["results"]["skipped_checks"]:
        assert len(each["check_result"]["suppress_comment"].split()) >= 3, f"{each['check_id']}: no reason"
