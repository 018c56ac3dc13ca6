"""deploy/compose.yaml keeps to the specification, names what exists, and opens and tells nothing it should not.

Its commands and scripts are run, without containers, by tests/local_production.
"""

import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bandicoot_core import settings

DEPLOY = Path(__file__).parents[1]
COMPOSE = DEPLOY / "compose.yaml"
EXAMPLE = DEPLOY / "compose.env.example"
TEXT = COMPOSE.read_text()
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = DOCUMENT["services"]
WANTED = {"postgres", "pgbouncer", "redis", "code-location", "daemon", "webserver", "api", "prometheus", "grafana"}
# One-shot processes: they end, and need no healthcheck.
ONCE = {"volumes", "schema", "users"}
# Variables that scripts beside the compose file read; Bandicoot does not know them.
OF_SCRIPTS = {
    f"BANDICOOT_{name}_PASSWORD"
    for name in ("POSTGRES", "OWNER", "PIPELINE", "SERVICE", "DAGSTER", "DASHBOARDS", "REDIS", "GRAFANA")
} | {"BANDICOOT_IMAGE"}


def of_bandicoot() -> list[str]:
    return [name for name, service in SERVICES.items() if str(service["image"]).startswith("${BANDICOOT_IMAGE")]


def binds(service: dict[str, Any]) -> list[str]:
    return [volume for volume in service.get("volumes", []) if volume.startswith(".")]


def test_it_keeps_to_the_specification(tool: Callable[[str, str], str]) -> None:
    checker = tool("check-jsonschema", "Install deploy/checks/requirements-monitoring.txt (`make deploy-check` does).")
    command = [checker, "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_has_every_part_of_a_production() -> None:
    assert set(SERVICES) == WANTED | ONCE
    assert set(of_bandicoot()) == {"volumes", "schema", "code-location", "daemon", "webserver", "api"}


@pytest.mark.parametrize("name", sorted(WANTED | ONCE))
def test_a_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "/tmp" in service.get("tmpfs", []) or name == "prometheus"  # noqa: S108
    if name == "volumes":  # it gives the volumes away, reaches nobody and ends
        assert (service["user"], service["cap_add"], service["network_mode"]) == ("0:0", ["CHOWN"], "none")
        assert service["restart"] == "no"
    else:
        assert re.fullmatch(r"[1-9]\d*:\d+", service["user"])
        assert "cap_add" not in service


@pytest.mark.parametrize("name", sorted(WANTED))
def test_what_goes_on_says_whether_it_is_healthy_and_starts_again(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_ports_are_open_to_this_machine_alone_and_data_to_nobody_outside() -> None:
    opened = {name: port for name, service in SERVICES.items() for port in service.get("ports", [])}
    assert set(opened) == {"webserver", "api", "prometheus", "grafana"}
    for port in opened.values():
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)
    assert DOCUMENT["networks"]["data"] == {"internal": True}
    for name in ("postgres", "pgbouncer", "redis", "schema", "users", "daemon"):
        assert SERVICES[name]["networks"] == ["data"]


def test_images_are_pinned_and_can_be_replaced() -> None:
    for name, service in SERVICES.items():
        found = re.fullmatch(r"\$\{[A-Z]+_IMAGE(?::-([^}]+)|:\?[^}]+)\}", service["image"])
        assert found, f"{name}: the image is {service['image']}; expected a variable with a pinned default or none"
        if found[1]:
            assert re.search(r":v?\d+\.\d+", found[1]), f"{name}: {found[1]} names no version"


def test_no_secret_stands_in_it_or_in_the_example() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET", variable):
                assert re.fullmatch(r"\$\{\w+:\?\}", value), f"{name}: {variable} is no reference"
            if isinstance(value, str) and "@" in value:
                assert re.search(r":\$\{\w+:\?\}@", value), f"{name}: {variable} holds a password"
    for line in EXAMPLE.read_text().splitlines():
        assert not line or line.startswith("#") or re.fullmatch(r"[A-Z_]+=", line), f"{line!r} has a value"
    ignored = (DEPLOY.parent / ".gitignore").read_text().splitlines()
    assert {"deploy/compose.env", "deploy/compose.settings.env"} <= set(ignored)


def test_the_example_names_each_variable_that_is_needed_and_no_other() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", TEXT))
    named = set(re.findall(r"^(\w+)=", EXAMPLE.read_text(), re.MULTILINE))
    assert named == needed


def test_every_setting_is_one_of_bandicoots() -> None:
    groups = (settings.Settings, settings.LogOptions, settings.ServiceOptions, settings.ListOptions)
    known = {f"BANDICOOT_{name.upper()}" for group in groups for name in group.model_fields}
    for name in of_bandicoot():
        given = {key for key in SERVICES[name].get("environment", {}) if key.startswith("BANDICOOT_")}
        assert given <= known, f"{name}: {given - known} is no setting"
    named = set(re.findall(r"\b(BANDICOOT_[A-Z_]+)\b", TEXT + EXAMPLE.read_text()))
    assert named <= known | OF_SCRIPTS


def test_every_file_that_is_mounted_exists_and_is_read_only() -> None:
    mounted = [(name, bind) for name, service in SERVICES.items() for bind in binds(service)]
    assert len(mounted) > 10
    for name, bind in mounted:
        here, _there, mode = bind.split(":")
        assert (DEPLOY / here).exists(), f"{name}: {here} does not exist"
        assert mode == "ro"


def test_every_file_that_a_command_names_is_mounted() -> None:
    for name, service in SERVICES.items():
        there = {bind.split(":")[1] for bind in binds(service)}
        words = [*service.get("entrypoint", []), *service.get("command", [])]
        paths = {word.split("=")[-1] for word in words if re.search(r"(^|=)/(etc|opt)/\S+\.\w+$", word)}
        assert paths <= there, f"{name}: {paths - there} is not mounted"


def test_postgresqls_image_executes_the_first_start_and_does_not_read_it_into_its_own_shell() -> None:
    assert os.access(DEPLOY / "compose" / "first_start.sh", os.X_OK)


def test_every_volume_is_declared_and_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {volume for volume in used if not volume.startswith(".")} == set(DOCUMENT["volumes"])


def test_commands_are_those_that_the_package_and_dagster_install() -> None:
    scripts = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]["scripts"]
    known = {*scripts, "dagster", "dagster-daemon", "dagster-webserver", "sh", "chown"}
    for name in of_bandicoot():
        assert SERVICES[name]["command"][0] in known


def test_the_webserver_shares_no_pool_and_everything_waits_for_the_schema() -> None:
    assert "@postgres:5432/dagster" in SERVICES["webserver"]["environment"]["BANDICOOT_DAGSTER_STORAGE_URL"]
    for name in ("code-location", "api"):
        assert SERVICES[name]["depends_on"]["users"] == {"condition": "service_completed_successfully"}
    assert SERVICES["users"]["depends_on"]["schema"] == {"condition": "service_completed_successfully"}


def test_scripts_are_sound(tool: Callable[[str, str], str]) -> None:
    shellcheck = tool("shellcheck", "apt-get install shellcheck")
    scripts = sorted((DEPLOY / "compose").glob("*.sh"))
    assert scripts
    done = subprocess.run([shellcheck, *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
