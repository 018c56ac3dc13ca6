"""deploy/terraform: it is well formed, plans without an account, and what matters holds in the plan of each profile."""

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.cloud.monitoring_dashboard_v1.types import Dashboard
from google.protobuf import json_format
from terraform_offline.terraform import NoTerraformError, Terraform, offline, terraform_program

from bandicoot_core.settings import settings_table
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
SHARED = {"shared_database": "programme", "shared_network": "projects/some-project/global/networks/programme"}

Resources = list[dict[str, Any]]


@pytest.fixture(scope="module")
def terraform() -> Iterator[Terraform]:
    try:
        with offline(FOLDER) as program:
            yield program
    except NoTerraformError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="module")
def plans(terraform: Terraform) -> Callable[..., Resources]:
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
            made[key] = list(_resources(told["planned_values"]["root_module"]))
        return made[key]

    return of


def _resources(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (each for each in module.get("resources", ()) if each["mode"] == "managed")
    for child in module.get("child_modules", ()):
        yield from _resources(child)


def _of(resources: Resources, kind: str) -> dict[str, dict[str, Any]]:
    return {each["address"]: each["values"] for each in resources if each["type"] == f"google_{kind}"}


profiles = pytest.mark.parametrize("profile", cost.PROFILES)


# Form


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


# What matters


@profiles
def test_no_bucket_and_no_database_can_be_reached_by_the_public(plans: Callable[..., Resources], profile: str) -> None:
    planned = plans(profile)
    buckets = _of(planned, "storage_bucket")
    assert len(buckets) == 3
    for address, bucket in buckets.items():
        assert bucket["public_access_prevention"] == "enforced", address
        assert bucket["uniform_bucket_level_access"] is True, address
    for address, instance in _of(planned, "sql_database_instance").items():
        (network,) = instance["settings"][0]["ip_configuration"]
        assert network["ipv4_enabled"] is False, address
        assert network["authorized_networks"] == [], address
        assert network["ssl_mode"] == "ENCRYPTED_ONLY", address
    for redis in _of(planned, "redis_instance").values():
        assert redis["auth_enabled"] is True
        assert redis["transit_encryption_mode"] == "SERVER_AUTHENTICATION"


@profiles
def test_nobody_is_everybody(plans: Callable[..., Resources], profile: str) -> None:
    for each in plans(profile):
        members = [each["values"].get("member"), *(each["values"].get("members") or ())]
        assert not {"allUsers", "allAuthenticatedUsers"} & set(members), each["address"]


@profiles
def test_the_code_location_and_the_machine_are_reached_from_inside_alone(
    plans: Callable[..., Resources], profile: str
) -> None:
    planned = plans(profile)
    services = {each["name"]: each for each in _of(planned, "cloud_run_v2_service").values()}
    if "bandicoot-code" in services:
        assert services["bandicoot-code"]["ingress"] == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    (machine,) = _of(planned, "compute_instance").values()
    assert all(not interface["access_config"] for interface in machine["network_interface"])
    for address, firewall in _of(planned, "compute_firewall").items():
        assert firewall["source_ranges"] in (None, ["35.235.240.0/20"]), address
        assert firewall["source_ranges"] or firewall["source_tags"], f"{address} lets everybody in"


def test_the_service_is_internal_unless_it_is_said_to_be_public(plans: Callable[..., Resources]) -> None:
    def ingress(planned: Resources) -> str:
        services = {each["name"]: each for each in _of(planned, "cloud_run_v2_service").values()}
        return str(services["bandicoot-api"]["ingress"])

    assert ingress(plans("development")) == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    assert ingress(plans("lean", api_is_public=False)) == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    assert ingress(plans("lean")) == "INGRESS_TRAFFIC_ALL"


@profiles
def test_there_is_no_key_file_and_no_secret_in_the_state(plans: Callable[..., Resources], profile: str) -> None:
    planned = plans(profile)
    kinds = {each["type"] for each in planned}
    assert not kinds & {"google_service_account_key", "google_secret_manager_secret_version", "google_sql_user"}
    text = "".join(file.read_text() for file in FOLDER.rglob("*.tf"))
    assert "GOOGLE_APPLICATION_CREDENTIALS" not in text
    assert "credentials" not in re.findall(r"^\s*(\w+)\s*=", text, flags=re.MULTILINE)


@profiles
def test_the_service_has_the_instances_and_probes_that_were_decided(
    plans: Callable[..., Resources], profile: str
) -> None:
    services = {each["name"]: each for each in _of(plans(profile), "cloud_run_v2_service").values()}
    template = services["bandicoot-api"]["template"][0]
    (container,) = template["containers"]
    assert template["scaling"][0]["min_instance_count"] == 0
    assert template["scaling"][0]["max_instance_count"] == (2 if profile == "development" else 10)
    assert template["max_instance_request_concurrency"] == 80
    assert template["timeout"] == "300s"
    assert container["resources"][0]["limits"]["memory"] == "512Mi"
    assert container["resources"][0]["startup_cpu_boost"] is True
    assert container["startup_probe"][0]["http_get"][0]["path"] == "/health"
    assert container["liveness_probe"][0]["http_get"][0]["path"] == "/health"
    if "bandicoot-code" in services:
        scaling = services["bandicoot-code"]["template"][0]["scaling"][0]
        assert (scaling["min_instance_count"], scaling["max_instance_count"]) == (1, 1)
        assert services["bandicoot-code"]["template"][0]["containers"][0]["ports"][0]["name"] == "h2c"


def test_a_public_service_is_asked_from_outside_whether_it_is_ready(plans: Callable[..., Resources]) -> None:
    (check,) = _of(plans("lean"), "monitoring_uptime_check_config").values()
    assert check["http_check"][0]["path"] == "/ready"
    assert _of(plans("development"), "monitoring_uptime_check_config") == {}


@pytest.mark.parametrize("profile", ["lean", "safe"])
def test_what_cannot_be_made_again_refuses_to_be_destroyed(plans: Callable[..., Resources], profile: str) -> None:
    planned = plans(profile)
    for address, instance in _of(planned, "sql_database_instance").items():
        assert instance["deletion_protection"] is True, address
        assert instance["settings"][0]["deletion_protection_enabled"] is True, address
    for kind in ("cloud_run_v2_service", "cloud_run_v2_job", "compute_instance"):
        for address, values in _of(planned, kind).items():
            assert values["deletion_protection"] is True, address
    buckets = {each["name"]: each for each in _of(planned, "storage_bucket").values()}
    assert buckets["some-project-bandicoot-lake"]["force_destroy"] is False
    backups = buckets["some-project-bandicoot-backups"]
    assert backups["force_destroy"] is False
    assert backups["retention_policy"][0]["retention_period"] == 30 * 86400
    for database in _of(planned, "sql_database").values():
        assert database["deletion_policy"] == "ABANDON"


def test_an_own_database_is_backed_up_at_three_in_india_and_to_any_moment(plans: Callable[..., Resources]) -> None:
    (instance,) = _of(plans("safe"), "sql_database_instance").values()
    (backup,) = instance["settings"][0]["backup_configuration"]
    assert (backup["enabled"], backup["start_time"]) == (True, "21:30")
    assert backup["point_in_time_recovery_enabled"] is True


@profiles
def test_cloud_run_never_tries_a_run_again(plans: Callable[..., Resources], profile: str) -> None:
    jobs = {each["name"]: each for each in _of(plans(profile), "cloud_run_v2_job").values()}
    assert set(jobs) == {"bandicoot-run-small", "bandicoot-run-large", "bandicoot-migrate"}
    for name, job in jobs.items():
        assert job["template"][0]["template"][0]["max_retries"] == 0, name
    # The launcher gives the whole command line as arguments; a command before it would be run instead.
    assert not jobs["bandicoot-run-small"]["template"][0]["template"][0]["containers"][0]["command"]


def test_each_secret_is_read_by_those_who_are_given_it_and_by_nobody_else(terraform: Terraform) -> None:
    """From the plan of the account names; the addresses of accounts are known only to Google."""
    values = terraform.folder / "readers.tfvars.json"
    values.write_text(json.dumps(GIVEN))
    terraform.must("plan", "-input=false", "-out=readers", "-var-file=safe.tfvars", f"-var-file={values}")
    planned = json.loads(terraform.must("show", "-json", "readers"))
    addresses = [each["address"] for each in _resources(planned["planned_values"]["root_module"])]
    found = set(re.findall(r'secret_iam_member\.reader\["(.*?)"\]', "\n".join(addresses)))
    assert found == {
        "bandicoot-owner-url/migrate",
        "bandicoot-database-url/runs",
        "bandicoot-database-url/code",
        "bandicoot-service-url/api",
        "bandicoot-source-url/runs",
        "bandicoot-source-url/code",
        "bandicoot-dagster-storage-url/runs",
        "bandicoot-dagster-storage-url/code",
        "bandicoot-dagster-storage-url/control",
        "bandicoot-session-secret/api",
        "bandicoot-redis-url/runs",
        "bandicoot-redis-url/code",
        "bandicoot-redis-url/api",
        "bandicoot-redis-ca/runs",
        "bandicoot-redis-ca/code",
        "bandicoot-redis-ca/api",
        "bandicoot-alarm-webhook-url/runs",
        "bandicoot-alarm-webhook-url/code",
    }


@profiles
def test_no_role_on_the_whole_project_but_to_write_logs_and_metrics(
    plans: Callable[..., Resources], profile: str
) -> None:
    roles = {each["role"] for each in _of(plans(profile), "project_iam_member").values()}
    assert roles == {"roles/logging.logWriter", "roles/monitoring.metricWriter"}
    for each in plans(profile):
        role = each["values"].get("role") or ""
        assert role not in ("roles/owner", "roles/editor"), each["address"]
        assert not role.lower().endswith("admin"), each["address"]


def test_events_that_cannot_be_taken_are_kept_apart(plans: Callable[..., Resources]) -> None:
    subscriptions = {each["name"]: each for each in _of(plans("lean"), "pubsub_subscription").values()}
    events = subscriptions["bandicoot-events"]
    assert events["dead_letter_policy"][0]["max_delivery_attempts"] == 100
    assert events["expiration_policy"][0]["ttl"] == ""
    assert events["ack_deadline_seconds"] >= 60
    assert "bandicoot-events-dead" in subscriptions


def test_budget_and_alarms_reach_a_person(plans: Callable[..., Resources]) -> None:
    (budget,) = _of(plans("lean"), "billing_budget").values()
    assert budget["amount"][0]["specified_amount"][0] == {"currency_code": "USD", "nanos": None, "units": "200"}
    spent = [rule["threshold_percent"] for rule in budget["threshold_rules"] if rule["spend_basis"] is None]
    assert spent == [0.5, 0.8, 1.0]
    (channel,) = _of(plans("lean"), "monitoring_notification_channel").values()
    assert channel["labels"] == {"email_address": "night@example.org"}


def test_the_service_fits_into_the_connections_of_its_database(plans: Callable[..., Resources]) -> None:
    services = {each["name"]: each for each in _of(plans("safe"), "cloud_run_v2_service").values()}
    template = services["bandicoot-api"]["template"][0]
    environment = {each["name"]: each["value"] for each in template["containers"][0]["env"]}
    most = template["scaling"][0]["max_instance_count"] * int(environment["BANDICOOT_POOL_SIZE"])
    # Half is left to daemon, webserver, code location, two runs and people.
    assert most <= cost.read_json("sizes.json")["sizes"]["200000"]["database_connections"] / 2


# Names that others rely on


def test_every_variable_of_the_environment_is_a_setting() -> None:
    known = set(re.findall(r"`(BANDICOOT_\w+)`", settings_table()))
    used = {
        name
        for file in [*FOLDER.rglob("*.tf"), *FOLDER.rglob("*.tftpl")]
        for name in re.findall(r"BANDICOOT_[A-Z_]+", file.read_text())
    }
    assert used - known == set()
    assert len(used) > 15


@pytest.mark.parametrize("profile", ["development", "lean"])
def test_what_the_machine_is_told_can_be_read_and_starts_what_belongs_there(
    plans: Callable[..., Resources], profile: str
) -> None:
    (machine,) = _of(plans(profile, districts=["Patna", 'D\'Souza "town" $5 100%']), "compute_instance").values()
    told = machine["metadata"]["user-data"]
    assert told.startswith("#cloud-config\n")
    config = yaml.safe_load(told)
    files = {each["path"]: each["content"] for each in config["write_files"]}
    wanted = {"daemon", "webserver", "code"} | ({"redis"} if profile == "lean" else set())
    folder = "/etc/systemd/system/bandicoot-"
    units = {path.removeprefix(folder).removesuffix(".service") for path in files if path.startswith(folder)}
    assert units == wanted
    assert {each for each in config["runcmd"] if "systemctl start" in each} == {
        f"systemctl start --no-block bandicoot-{name}.service" for name in wanted
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
    jobs = {each["name"] for each in _of(plans(profile), "cloud_run_v2_job").values()}
    assert set(launcher["config"]["jobs"].values()) == jobs - {"bandicoot-migrate"}


@pytest.mark.parametrize("profile", ["development", "lean"])
def test_each_process_of_the_machine_fetches_its_own_secrets(plans: Callable[..., Resources], profile: str) -> None:
    (machine,) = _of(plans(profile), "compute_instance").values()
    files = {each["path"]: each["content"] for each in yaml.safe_load(machine["metadata"]["user-data"])["write_files"]}

    def fetched(name: str) -> set[str]:
        words = _words(files[f"/etc/systemd/system/bandicoot-{name}.service"], "ExecStartPre")
        return {each for each in words[words.index("/fetch_secrets.py") :] if "bandicoot-" in each}

    storage = "BANDICOOT_DAGSTER_STORAGE_URL=bandicoot-dagster-storage-url"
    assert fetched("daemon") == fetched("webserver") == {storage}
    assert {storage, "BANDICOOT_DATABASE_URL=bandicoot-database-url"} < fetched("code")
    assert not any("owner" in each or "session" in each for each in fetched("code"))
    ast.parse(files["/etc/bandicoot/fetch_secrets.py"])


def _words(unit: str, key: str) -> list[str]:
    """The words of the last line of a unit that begins with a key, as systemd splits them."""
    lines = unit.replace("\\\n", " ").splitlines()
    return shlex.split([line.split("=", 1)[1] for line in lines if line.startswith(f"{key}=")][-1])


# What is watched


def test_the_dashboard_is_one_that_cloud_monitoring_takes(plans: Callable[..., Resources]) -> None:
    (dashboard,) = _of(plans("safe"), "monitoring_dashboard").values()
    parsed = json_format.ParseDict(json.loads(dashboard["dashboard_json"]), Dashboard.pb(Dashboard()))
    assert len(parsed.mosaic_layout.tiles) == 6


@pytest.mark.parametrize(
    ("phrase", "where"),
    [
        ("was not told by", "bandicoot_core/pipeline/alarms.py"),
        (" incidents opened", "bandicoot_dagster/alarm_sensor.py"),
        ('name="alarms"', "bandicoot_dagster/alarm_sensor.py"),
    ],
)
def test_what_is_looked_for_in_logs_is_logged(phrase: str, where: str) -> None:
    assert phrase in (cost.DEPLOY.parent / where).read_text()


@profiles
def test_every_metric_of_logs_that_is_watched_is_made(plans: Callable[..., Resources], profile: str) -> None:
    planned = plans(profile)
    made = {each["name"] for each in _of(planned, "logging_metric").values()}
    told = json.dumps([each["conditions"] for each in _of(planned, "monitoring_alert_policy").values()])
    assert made == set(re.findall(r"logging\.googleapis\.com/user/([\w/]+)", told)) != set()


# The cost table prices what the plan makes


@profiles
@pytest.mark.parametrize("caregivers", cost.SCALES)
def test_the_cost_table_prices_what_is_planned(plans: Callable[..., Resources], profile: str, caregivers: int) -> None:
    planned = plans(profile, caregivers)
    variables = cost.read_variables(FOLDER / f"{profile}.tfvars")
    bill = {part.name: part for part in cost.parts(variables, caregivers)}
    size = cost.read_json("sizes.json")["sizes"][str(caregivers)]
    (machine,) = _of(planned, "compute_instance").values()
    assert bill["Control plane"].what.startswith(machine["machine_type"] + ",")
    assert machine["boot_disk"][0]["initialize_params"][0]["size"] == cost.CONTROL_DISK_GIB
    services = {each["name"] for each in _of(planned, "cloud_run_v2_service").values()}
    assert ("bandicoot-code" in services) == ("Code location" in bill)
    jobs = {each["name"]: each["template"][0]["template"][0] for each in _of(planned, "cloud_run_v2_job").values()}
    for kind in ("small", "large"):
        limits = jobs[f"bandicoot-run-{kind}"]["containers"][0]["resources"][0]["limits"]
        run = size[f"{kind}_run"]
        assert limits == {"cpu": str(run["cpu"]), "memory": f"{run['memory_gib']}Gi"}
    for instance in _of(planned, "sql_database_instance").values():
        assert instance["settings"][0]["tier"] == size["database_tier"]
        assert instance["settings"][0]["disk_size"] == size["database_gb"]
    assert bool(_of(planned, "sql_database_instance")) == (bill["PostgreSQL"].usd > 0)
    assert bool(_of(planned, "redis_instance")) == ("Redis" in bill)
    assert bool(_of(planned, "compute_router_nat")) == ("Way to the internet" in bill)
    conditions = sum(len(each["conditions"]) for each in _of(planned, "monitoring_alert_policy").values())
    secrets = len(_of(planned, "secret_manager_secret"))
    assert bill["Storage, images, logs, alerts"].what.endswith(f"{secrets} secrets, {conditions} alert conditions")


# What docs/deploy.md promises


@pytest.mark.parametrize(("profile", "written"), [("safe", r"Plan: (\d+) to add"), ("lean", r"\(lean: (\d+)\)")])
def test_the_guide_says_how_many_things_are_made(plans: Callable[..., Resources], profile: str, written: str) -> None:
    whole = len(plans(profile, github_repository=None, event_senders=[]))
    first = len(plans(profile, github_repository=None, event_senders=[], image=None))
    page = (cost.DEPLOY.parent / "docs" / "deploy.md").read_text()
    # The job of migrations is made between the two.
    assert [int(each) for each in re.findall(written, page)] == [first, whole - first - 1]


def test_the_guide_puts_in_every_secret(plans: Callable[..., Resources]) -> None:
    page = (cost.DEPLOY.parent / "docs" / "deploy.md").read_text()
    secrets = {each["secret_id"] for each in _of(plans("safe"), "secret_manager_secret").values()}
    assert secrets == set(re.findall(r"^secret (bandicoot-[\w-]+) ", page, flags=re.MULTILINE))
