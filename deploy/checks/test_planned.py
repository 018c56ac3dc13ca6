"""What matters holds in the plan of each profile."""

import json
import re
from collections.abc import Callable

import pytest
import yaml
from planned import FOLDER, GIVEN, Resources, managed, of_kind, profiles
from pydantic_settings import BaseSettings
from terraform_offline.terraform import Terraform

from bandicoot_core import settings as settings_module
from bandicoot_core.settings import settings_table
from deploy import cost


@profiles
def test_no_bucket_and_no_database_can_be_reached_by_the_public(plans: Callable[..., Resources], profile: str) -> None:
    planned = plans(profile)
    buckets = of_kind(planned, "storage_bucket")
    assert len(buckets) == 3
    for address, bucket in buckets.items():
        assert bucket["public_access_prevention"] == "enforced", address
        assert bucket["uniform_bucket_level_access"] is True, address
    for address, instance in of_kind(planned, "sql_database_instance").items():
        (network,) = instance["settings"][0]["ip_configuration"]
        assert network["ipv4_enabled"] is False, address
        assert network["authorized_networks"] == [], address
        assert network["ssl_mode"] == "ENCRYPTED_ONLY", address
    for redis in of_kind(planned, "redis_instance").values():
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
    services = {each["name"]: each for each in of_kind(planned, "cloud_run_v2_service").values()}
    if "bandicoot-code" in services:
        assert services["bandicoot-code"]["ingress"] == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    (machine,) = of_kind(planned, "compute_instance").values()
    assert all(not interface["access_config"] for interface in machine["network_interface"])
    for address, firewall in of_kind(planned, "compute_firewall").items():
        assert firewall["source_ranges"] in (None, ["35.235.240.0/20"]), address
        assert firewall["source_ranges"] or firewall["source_tags"], f"{address} lets everybody in"


def test_the_service_is_internal_unless_it_is_said_to_be_public(plans: Callable[..., Resources]) -> None:
    def ingress(planned: Resources) -> str:
        services = {each["name"]: each for each in of_kind(planned, "cloud_run_v2_service").values()}
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
    services = {each["name"]: each for each in of_kind(plans(profile), "cloud_run_v2_service").values()}
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
    (check,) = of_kind(plans("lean"), "monitoring_uptime_check_config").values()
    assert check["http_check"][0]["path"] == "/ready"
    assert of_kind(plans("development"), "monitoring_uptime_check_config") == {}


@pytest.mark.parametrize("profile", ["lean", "safe"])
def test_what_cannot_be_made_again_refuses_to_be_destroyed(plans: Callable[..., Resources], profile: str) -> None:
    planned = plans(profile)
    for address, instance in of_kind(planned, "sql_database_instance").items():
        assert instance["deletion_protection"] is True, address
        assert instance["settings"][0]["deletion_protection_enabled"] is True, address
    for kind in ("cloud_run_v2_service", "cloud_run_v2_job", "compute_instance"):
        for address, values in of_kind(planned, kind).items():
            assert values["deletion_protection"] is True, address
    buckets = {each["name"]: each for each in of_kind(planned, "storage_bucket").values()}
    assert buckets["some-project-bandicoot-lake"]["force_destroy"] is False
    backups = buckets["some-project-bandicoot-backups"]
    assert backups["force_destroy"] is False
    assert backups["retention_policy"][0]["retention_period"] == 30 * 86400
    for database in of_kind(planned, "sql_database").values():
        assert database["deletion_policy"] == "ABANDON"


def test_an_own_database_is_backed_up_at_three_in_india_and_to_any_moment(plans: Callable[..., Resources]) -> None:
    (instance,) = of_kind(plans("safe"), "sql_database_instance").values()
    (backup,) = instance["settings"][0]["backup_configuration"]
    assert (backup["enabled"], backup["start_time"]) == (True, "21:30")
    assert backup["point_in_time_recovery_enabled"] is True


@profiles
def test_cloud_run_never_tries_a_run_again(plans: Callable[..., Resources], profile: str) -> None:
    jobs = {each["name"]: each for each in of_kind(plans(profile), "cloud_run_v2_job").values()}
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
    addresses = [each["address"] for each in managed(planned["planned_values"]["root_module"])]
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
def test_no_component_has_a_role_on_the_whole_project_but_to_write_logs_and_metrics(
    plans: Callable[..., Resources], profile: str
) -> None:
    found = of_kind(plans(profile), "project_iam_member")
    of_deployer = {address for address in found if ".google_project_iam_member.deployer[" in address}
    roles = {each["role"] for address, each in found.items() if address not in of_deployer}
    assert roles == {"roles/logging.logWriter", "roles/monitoring.metricWriter"}
    for each in plans(profile):
        role = each["values"].get("role") or ""
        assert role not in ("roles/owner", "roles/editor"), each["address"]
        # A scan of an image can be asked for by nobody less.
        assert not role.lower().endswith("admin") or role == "roles/ondemandscanning.admin", each["address"]


def test_who_deploys_may_do_what_the_scripts_ask_and_is_there_only_with_workflows(
    plans: Callable[..., Resources],
) -> None:
    found = of_kind(plans("lean"), "project_iam_member")
    roles = {each["role"] for address, each in found.items() if ".google_project_iam_member.deployer[" in address}
    assert roles == {
        "roles/cloudsql.editor",
        "roles/monitoring.viewer",
        "roles/ondemandscanning.admin",
        "roles/run.viewer",
    }
    without = plans("lean", github_repository=None)
    assert not [address for address in of_kind(without, "project_iam_member") if "deployer" in address]
    # The scan of the workflow that makes the image.
    scanning = "ondemandscanning.googleapis.com"
    assert scanning in {each["service"] for each in of_kind(plans("lean"), "project_service").values()}
    assert scanning not in {each["service"] for each in of_kind(without, "project_service").values()}


def test_events_that_cannot_be_taken_are_kept_apart(plans: Callable[..., Resources]) -> None:
    subscriptions = {each["name"]: each for each in of_kind(plans("lean"), "pubsub_subscription").values()}
    events = subscriptions["bandicoot-events"]
    assert events["dead_letter_policy"][0]["max_delivery_attempts"] == 100
    assert events["expiration_policy"][0]["ttl"] == ""
    assert events["ack_deadline_seconds"] >= 60
    assert "bandicoot-events-dead" in subscriptions


def test_budget_and_alarms_reach_a_person(plans: Callable[..., Resources]) -> None:
    (budget,) = of_kind(plans("lean"), "billing_budget").values()
    units = str(cost.budget(cost.read_variables(FOLDER / "lean.tfvars"), 200_000))
    assert budget["amount"][0]["specified_amount"][0] == {"currency_code": "USD", "nanos": None, "units": units}
    spent = [rule["threshold_percent"] for rule in budget["threshold_rules"] if rule["spend_basis"] is None]
    assert spent == [0.5, 0.8, 1.0]
    (channel,) = of_kind(plans("lean"), "monitoring_notification_channel").values()
    assert channel["labels"] == {"email_address": "night@example.org"}


@profiles
@pytest.mark.parametrize("caregivers", cost.SCALES)
def test_the_budget_is_that_of_the_profile_and_its_size(
    plans: Callable[..., Resources], profile: str, caregivers: int
) -> None:
    expected = cost.budget(cost.read_variables(FOLDER / f"{profile}.tfvars"), caregivers)
    (budget,) = of_kind(plans(profile, caregivers), "billing_budget").values()
    assert budget["amount"][0]["specified_amount"][0]["units"] == str(expected)


def test_a_budget_of_ones_own_counts_before_that_of_the_size(plans: Callable[..., Resources]) -> None:
    mine = plans("lean", monthly_budget_usd=75, budget_currency="INR", currency_per_usd=88)
    (budget,) = of_kind(mine, "billing_budget").values()
    assert budget["amount"][0]["specified_amount"][0] == {"currency_code": "INR", "nanos": None, "units": "6600"}


def _members(planned: Resources, kind: str, address: str) -> set[tuple[str, str | None]]:
    """Role and member of each grant whose address has a part; None for a member that is asked for while applying."""
    return {(each["role"], each.get("member")) for where, each in of_kind(planned, kind).items() if address in where}


@pytest.mark.parametrize("profile", ["lean", "safe"])
def test_cloud_sql_itself_exports_to_the_backups_and_imports_from_them(
    known_plans: Callable[..., Resources], profile: str
) -> None:
    # Terraform asks for that of a shared instance only once its API is switched on.
    account = "serviceAccount:some-service_account_email_address" if profile == "safe" else None
    assert _members(known_plans(profile), "storage_bucket_iam_member", ".backups[") == {
        ("roles/storage.objectCreator", account),
        ("roles/storage.objectViewer", account),
    }


@profiles
def test_whoever_logs_what_dagster_shows_may_write_it_down(plans: Callable[..., Resources], profile: str) -> None:
    written = of_kind(plans(profile), "storage_bucket_iam_member")
    who = {address.split('"')[1] for address in written if ".logs[" in address}
    assert who == {"runs", "control"} | ({"code"} if profile == "safe" else set())
    assert {each["role"] for address, each in written.items() if ".logs[" in address} == {"roles/storage.objectUser"}


def test_other_projects_pull_images_only_when_they_are_named(plans: Callable[..., Resources]) -> None:
    agent = "serviceAccount:service-1@serverless-robot-prod.iam.gserviceaccount.com"
    kind, place = "artifact_registry_repository_iam_member", ".other_reader["
    assert _members(plans("safe"), kind, place) == set()
    assert _members(plans("safe", registry_readers=[agent]), kind, place) == {("roles/artifactregistry.reader", agent)}


@profiles
def test_twenty_releases_stay_with_their_signatures_and_lists_of_parts(
    plans: Callable[..., Resources], profile: str
) -> None:
    found = of_kind(plans(profile), "artifact_registry_repository").values()
    (own,) = [each for each in found if each["repository_id"] == "bandicoot"]
    (kept,) = [each for each in own["cleanup_policies"] if each["action"] == "KEEP"]
    assert kept["most_recent_versions"][0]["keep_count"] == 20 * 3


@profiles
def test_an_operator_may_look_the_machine_up_and_pass_iap_and_no_more(
    plans: Callable[..., Resources], profile: str
) -> None:
    operator = "user:operator@example.org"
    planned = plans(profile)
    roles = {each["values"]["role"] for each in planned if each["values"].get("member") == operator}
    assert roles == {"roles/compute.viewer", "roles/iap.tunnelResourceAccessor"}
    (on_machine,) = of_kind(planned, "compute_instance_iam_member").values()
    assert on_machine["instance_name"] == "bandicoot-control"


@profiles
def test_the_service_alone_reaches_the_webserver_and_redis_is_open_only_where_it_is(
    plans: Callable[..., Resources], profile: str
) -> None:
    reached = {
        port: set(firewall["source_tags"])
        for firewall in of_kind(plans(profile), "compute_firewall").values()
        if firewall["source_tags"]
        for port in firewall["allow"][0]["ports"]
    }
    redis = {"6379": {"bandicoot-api", "bandicoot-runs"}} if profile == "lean" else {}
    assert reached == {"3000": {"bandicoot-api"}, **redis}


@profiles
def test_what_leaves_by_the_nat_leaves_from_one_reserved_address(
    known_plans: Callable[..., Resources], profile: str
) -> None:
    planned = known_plans(profile)
    reserved = [each["name"] for each in of_kind(planned, "compute_address").values() if "EXTERNAL" in each.values()]
    nats = list(of_kind(planned, "compute_router_nat").values())
    assert reserved == ["bandicoot-outgoing"] * len(nats)
    for nat in nats:
        assert (nat["nat_ip_allocate_option"], nat["nat_ips"]) == ("MANUAL_ONLY", ["some-self_link"])


def _environments(planned: Resources) -> dict[str, dict[str, str | None]]:
    """Variables of the environment of each process, by its place; None where a secret gives the value."""
    found: dict[str, dict[str, str | None]] = {}
    for kind in ("cloud_run_v2_service", "cloud_run_v2_job"):
        for each in of_kind(planned, kind).values():
            template = each["template"][0]
            (container,) = template.get("containers") or template["template"][0]["containers"]
            found[each["name"]] = {env["name"]: env["value"] for env in container["env"]}
    (machine,) = of_kind(planned, "compute_instance").values()
    files = {each["path"]: each["content"] for each in yaml.safe_load(machine["metadata"]["user-data"])["write_files"]}
    lines = files["/etc/bandicoot/environment"].splitlines()
    found["bandicoot-control"] = dict(line.split("=", 1) for line in lines)
    for path, content in files.items():
        if path.endswith(".service"):
            found["bandicoot-control"] |= dict.fromkeys(re.findall(r"(BANDICOOT_\w+)=bandicoot-", content))
    return found


@pytest.mark.parametrize("profile", ["lean", "safe"])
def test_further_settings_reach_every_process_but_the_migration(
    known_plans: Callable[..., Resources], profile: str
) -> None:
    settings = {"BANDICOOT_CONTROL_SHARE": "0.2", "BANDICOOT_API_ORIGINS": '["https://sheet.example.org"]'}
    environments = _environments(known_plans(profile, settings=settings))
    assert environments.pop("bandicoot-migrate").keys() == {"BANDICOOT_DATABASE_URL"}
    for place, environment in environments.items():
        assert settings.items() <= environment.items(), place


def test_what_terraform_sets_itself_is_refused_as_a_further_setting(known_plans: Callable[..., Resources]) -> None:
    written = re.search(r"settings_of_terraform = \[(.*?)\]", (FOLDER / "main.tf").read_text(), flags=re.DOTALL)
    assert written is not None
    listed = re.findall(r'"(BANDICOOT_\w+)"', written[1])
    mail = {"BANDICOOT_ALARM_EMAIL_FROM": "b@example.org", "BANDICOOT_ALARM_EMAIL_TO": '["night@example.org"]'}
    planned = [known_plans(profile, has_alarm_mail=True, settings=mail) for profile in ("lean", "safe")]
    environments = [_environments(each) for each in planned]
    names = {name for each in environments for environment in each.values() for name in environment}
    assert set(listed) == {name for name in names if name.startswith("BANDICOOT_")} - set(mail)
    # Who tells of alarms reads where the mails go through, and nobody else.
    told = {place for place, each in environments[1].items() if "BANDICOOT_ALARM_SMTP_URL" in each}
    assert told == {"bandicoot-code", "bandicoot-run-small", "bandicoot-run-large"}


def _settings() -> dict[str, bool]:
    """The variable of each setting, and whether it is a secret."""
    return {
        f"BANDICOOT_{name.upper()}": "SecretStr" in str(field.annotation)
        for options in vars(settings_module).values()
        if isinstance(options, type) and issubclass(options, BaseSettings)
        for name, field in options.model_fields.items()
    }


def test_every_secret_is_refused_as_a_further_setting_and_nothing_else_is(terraform: Terraform) -> None:
    """With one plan for all that may be set, and one for each secret."""
    (terraform.folder / "given.tfvars.json").write_text(json.dumps(GIVEN))
    listed = re.search(r"settings_of_terraform = \[(.*?)\]", (FOLDER / "main.tf").read_text(), flags=re.DOTALL)
    assert listed is not None

    def plan(names: list[str]) -> tuple[int, str]:
        file = terraform.folder / "settings.tfvars.json"
        file.write_text(json.dumps({"settings": dict.fromkeys(names, "1")}))
        files = ("-var-file=safe.tfvars", "-var-file=given.tfvars.json", f"-var-file={file}")
        done = terraform.run("plan", "-input=false", "-no-color", "-refresh=false", *files)
        return done.returncode, done.stderr

    open_ones = [name for name, is_secret in _settings().items() if not is_secret and name not in listed[1]]
    assert plan(open_ones) == (0, "")
    for secret in [name for name, is_secret in _settings().items() if is_secret]:
        code, said = plan([secret])
        assert code == 1
        assert "A secret would be in Terraform's state" in said, secret


def test_the_service_fits_into_the_connections_of_its_database(plans: Callable[..., Resources]) -> None:
    services = {each["name"]: each for each in of_kind(plans("safe"), "cloud_run_v2_service").values()}
    template = services["bandicoot-api"]["template"][0]
    environment = {each["name"]: each["value"] for each in template["containers"][0]["env"]}
    most = template["scaling"][0]["max_instance_count"] * int(environment["BANDICOOT_POOL_SIZE"])
    # Half is left to daemon, webserver, code location, two runs and people.
    assert most <= cost.read_json("sizes.json")["sizes"]["200000"]["database_connections"] / 2


def test_every_variable_of_the_environment_is_a_setting() -> None:
    known = set(re.findall(r"`(BANDICOOT_\w+)`", settings_table()))
    used = {
        name
        for file in [*FOLDER.rglob("*.tf"), *FOLDER.rglob("*.tftpl")]
        for name in re.findall(r"BANDICOOT_[A-Z_]+", file.read_text())
    }
    assert used - known == set()
    assert len(used) > 15
