"""What the machine of daemon and webserver is told, and who looks after it."""

import ast
import json
import shlex
from collections.abc import Callable

import pytest
import yaml
from planned import IMAGE, Resources, of_kind

from deploy import cost


@pytest.mark.parametrize("profile", ["development", "lean"])
def test_what_the_machine_is_told_can_be_read_and_starts_what_belongs_there(
    plans: Callable[..., Resources], profile: str
) -> None:
    (machine,) = of_kind(plans(profile, districts=["Patna", 'D\'Souza "town" $5 100%']), "compute_instance").values()
    told = machine["metadata"]["user-data"]
    assert told.startswith("#cloud-config\n")
    config = yaml.safe_load(told)
    files = {each["path"]: each["content"] for each in config["write_files"]}
    wanted = {"daemon", "webserver", "code"} | ({"redis"} if profile == "lean" else set())
    folder = "/etc/systemd/system/bandicoot-"
    units = {path.removeprefix(folder).removesuffix(".service") for path in files if path.startswith(folder)}
    assert units == wanted | {"prune", "prune.timer"}
    assert {each for each in config["runcmd"] if "systemctl start" in each} == {
        *(f"systemctl start --no-block bandicoot-{name}.service" for name in wanted),
        "systemctl start bandicoot-prune.timer",
    }
    commands = {name: _words(files[f"{folder}{name}.service"], "ExecStart") for name in wanted}
    for name in wanted - {"redis"}:
        assert "--read-only" in commands[name]
        assert f"/run/bandicoot/{name}.env" in commands[name]
    after_image = {name: words[words.index(IMAGE) + 1 :] for name, words in commands.items() if name != "redis"}
    workspace = ["-w", "/opt/dagster/workspace.yaml"]
    assert after_image["daemon"] == ["dagster-daemon", "run", *workspace]
    assert after_image["webserver"] == ["dagster-webserver", "-h", "0.0.0.0", "-p", "3000", *workspace]
    assert after_image["code"][-4:] == ["--host", "127.0.0.1", "--port", "4000"]
    environment = dict(line.split("=", 1) for line in files["/etc/bandicoot/environment"].splitlines())
    assert json.loads(environment["BANDICOOT_DISTRICTS"]) == ["Patna", 'D\'Souza "town" $5 100%']
    assert yaml.safe_load(files["/etc/bandicoot/workspace.yaml"]) == {
        "load_from": [{"grpc_server": {"host": "127.0.0.1", "port": 4000, "location_name": "bandicoot"}}]
    }
    dagster = yaml.safe_load(files["/etc/bandicoot/dagster.yaml"])
    everywhere = yaml.safe_load((cost.DEPLOY / "dagster.cloudrun.yaml").read_text())
    launcher = dagster.pop("run_launcher")
    assert launcher["module"] == everywhere.pop("run_launcher")["module"]
    assert dagster == everywhere
    jobs = {each["name"] for each in of_kind(plans(profile), "cloud_run_v2_job").values()}
    assert set(launcher["config"]["jobs"].values()) == jobs - {"bandicoot-migrate"}


@pytest.mark.parametrize("profile", ["development", "lean"])
def test_each_process_of_the_machine_fetches_its_own_secrets(plans: Callable[..., Resources], profile: str) -> None:
    (machine,) = of_kind(plans(profile), "compute_instance").values()
    files = {each["path"]: each["content"] for each in yaml.safe_load(machine["metadata"]["user-data"])["write_files"]}

    def fetched(name: str) -> set[str]:
        words = _words(files[f"/etc/systemd/system/bandicoot-{name}.service"], "ExecStartPre")
        return {each for each in words[words.index("/fetch_secrets.py") :] if "bandicoot-" in each}

    storage = "BANDICOOT_DAGSTER_STORAGE_URL=bandicoot-dagster-storage-url"
    assert fetched("daemon") == fetched("webserver") == {storage}
    assert {storage, "BANDICOOT_DATABASE_URL=bandicoot-database-url"} < fetched("code")
    assert not any("owner" in each or "session" in each for each in fetched("code"))
    ast.parse(files["/etc/bandicoot/fetch_secrets.py"])


def test_a_process_has_time_to_fetch_its_image_and_old_images_go(plans: Callable[..., Resources]) -> None:
    (machine,) = of_kind(plans("lean"), "compute_instance").values()
    files = {each["path"]: each["content"] for each in yaml.safe_load(machine["metadata"]["user-data"])["write_files"]}
    units = {path.removeprefix("/etc/systemd/system/bandicoot-"): text for path, text in files.items()}
    for name in ("daemon", "webserver", "code", "redis"):
        # systemd's own minute and a half is over before a gigabyte is fetched, and it would begin again for ever.
        assert "TimeoutStartSec=15min" in units[f"{name}.service"].splitlines(), name
    assert _words(units["prune.service"], "ExecStart") == shlex.split("/usr/bin/docker image prune --all --force")
    assert "Type=oneshot" in units["prune.service"].splitlines()
    assert "OnUnitActiveSec=1d" in units["prune.timer"].splitlines()


def _words(unit: str, key: str) -> list[str]:
    """The words of the last line of a unit that begins with a key, as systemd splits them."""
    lines = unit.replace("\\\n", " ").splitlines()
    return shlex.split([line.split("=", 1)[1] for line in lines if line.startswith(f"{key}=")][-1])
