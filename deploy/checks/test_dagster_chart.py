"""The values for Dagster's chart: held to a schema made from its documentation, to the guide, and to the chart itself
where BANDICOOT_DAGSTER_CHART names it.
"""

import copy
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from charts import DAGSTER_VALUES, DEPLOY, NEEDED, hold_to_kubernetes, known_settings, of_kind, pods, rendered


def test_dagsters_chart_knows_every_value_that_it_is_given(dagster_values: dict[str, Any]) -> None:
    schema = json.loads((DEPLOY / "checks" / "dagster-values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(dagster_values, schema)
    wrong = copy.deepcopy(dagster_values)
    wrong["dagsterDaemon"]["runMonitoring"]["startTimeout"] = 5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


def test_dagsters_own_chart_takes_the_values_and_makes_what_kubernetes_takes(
    dagster_values: dict[str, Any], not_checked: Callable[[str], None]
) -> None:
    place = os.environ.get("BANDICOOT_DAGSTER_CHART")
    if place is None:
        not_checked(
            "Dagster's own chart, for BANDICOOT_DAGSTER_CHART names none. Where its repository can be reached: helm "
            "pull dagster --repo https://dagster-io.github.io/helm --version VERSION --untar, and set it to that folder"
        )
        return
    objects = rendered(dagster_values, Path(place))
    for one in objects:
        hold_to_kubernetes(one)
    images = {pod["containers"][0]["image"].rpartition(":")[0] for pod in pods(objects)}
    assert images == {dagster_values["dagsterWebserver"]["image"]["repository"]}
    names = " ".join(one["metadata"]["name"] for one in objects if one["kind"] == "Deployment")
    for part in ("webserver", "daemon", "user-deployments"):
        assert part in names, names
    assert not [one for one in objects if one["kind"] == "Secret"], "secrets are named, never made"


def test_pods_of_dagsters_chart_are_as_confined_as_the_services(dagster_values: dict[str, Any]) -> None:
    parts = [dagster_values["dagsterWebserver"], dagster_values["dagsterDaemon"]]
    parts += dagster_values["dagster-user-deployments"]["deployments"]
    for part in parts:
        assert part["podSecurityContext"]["runAsNonRoot"] is True
        assert part["securityContext"]["readOnlyRootFilesystem"] is True
        assert part["image"]["repository"].endswith(".invalid/bandicoot"), "the image is the operator's to name"
        container = {
            "name": "it",
            "image": "it:1",
            "env": part["env"],
            "envFrom": [{"configMapRef": one} for one in part["envConfigMaps"]],
            "resources": part["resources"],
            "securityContext": part["securityContext"],
            "volumeMounts": part["volumeMounts"],
        }
        spec = {"containers": [container], "volumes": part["volumes"], "securityContext": part["podSecurityContext"]}
        hold_to_kubernetes({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "it"}, "spec": spec})
        mounted = {mount["mountPath"] for mount in part["volumeMounts"]}
        assert dagster_values["global"]["dagsterHome"] in mounted, "Dagster writes below DAGSTER_HOME"
    assert dagster_values["rbacEnabled"] is False
    assert dagster_values["dagster-user-deployments"]["rbacEnabled"] is False


def test_both_charts_name_the_same_accounts_ports_and_configuration(dagster_values: dict[str, Any]) -> None:
    objects = rendered(NEEDED)
    accounts = {one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"}
    launcher = dagster_values["runLauncher"]["config"]["customRunLauncher"]["config"]
    assert dagster_values["serviceAccount"]["name"] in accounts
    assert dagster_values["dagster-user-deployments"]["serviceAccount"]["name"] in accounts
    assert launcher["service_account_name"] in accounts - {dagster_values["serviceAccount"]["name"]}
    config_map = of_kind(objects, "ConfigMap")["metadata"]["name"]
    assert launcher["env_config_maps"] == [config_map]
    assert launcher["postgres_password_secret"] == dagster_values["global"]["postgresqlSecretName"]
    assert launcher["dagster_home"] == dagster_values["global"]["dagsterHome"]
    policies = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
    to_webserver = policies["bandicoot-bandicoot-api-dagster-webserver"]["ingress"][0]["ports"][0]["port"]
    assert to_webserver == dagster_values["dagsterWebserver"]["service"]["port"]
    to_code = policies["bandicoot-bandicoot-api-dagster-code"]["ingress"][0]["ports"][0]["port"]
    assert to_code == dagster_values["dagster-user-deployments"]["deployments"][0]["port"]


def snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()


def test_the_instance_is_that_of_deploy_dagster_yaml_but_for_its_launcher_and_what_is_said(
    dagster_values: dict[str, Any],
) -> None:
    production = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())
    daemon = dagster_values["dagsterDaemon"]
    monitoring = {snake(key): value for key, value in daemon["runMonitoring"].items()}
    # The chart has no name for this one: Dagster's own default is no limit, and each job of ours has one by its tag.
    assert monitoring.pop("start_timeout_seconds") > production["run_monitoring"].pop("start_timeout_seconds")
    assert monitoring == {key: val for key, val in production["run_monitoring"].items() if key != "max_runtime_seconds"}
    retries = {snake(key): value for key, value in daemon["runRetries"].items()}
    assert retries == production["run_retries"]
    concurrency = {snake(key): value for key, value in dagster_values["concurrency"]["runs"].items()}
    assert concurrency == production["concurrency"]["runs"]
    pools = {snake(key): value for key, value in dagster_values["concurrency"]["pools"].items()}
    assert pools == production["concurrency"]["pools"]
    for kind in ("schedule", "sensor"):
        days = dagster_values["retention"][kind]["purgeAfterDays"]
        assert days == production["retention"][kind]["purge_after_days"]
    for ours, theirs, custom in (
        ("scheduler", "scheduler", "customScheduler"),
        ("computeLogManager", "compute_logs", "customComputeLogManager"),
    ):
        given = dagster_values[ours]["config"][custom]
        assert (given["module"], given["class"]) == (production[theirs]["module"], production[theirs]["class"])
    assert dagster_values["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    assert dagster_values["telemetry"] == production["telemetry"]


def guide_block(name: str) -> dict[str, Any]:
    """The YAML of docs/kubernetes.md that begins with the name of a file."""
    text = (DEPLOY.parent / "docs" / "kubernetes.md").read_text()
    (block,) = re.findall(rf"```yaml\n# {re.escape(name)}\n(.*?)```", text, re.DOTALL)
    return yaml.safe_load(block)


def test_the_guides_values_are_taken_by_both_charts(dagster_values: dict[str, Any]) -> None:
    objects = rendered(guide_block("api.yaml"))
    for one in objects:
        hold_to_kubernetes(one)
    variables = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {one["name"] for one in variables if one["name"].startswith("BANDICOOT_")} <= known_settings()
    schema = json.loads((DEPLOY / "checks" / "dagster-values.schema.json").read_text())
    mine = guide_block("mine.yaml")
    for name, values in mine.items():
        jsonschema.validate({**dagster_values, name: {**dagster_values[name], **values}}, schema)


def test_the_guide_says_the_sizes_and_the_release_that_the_values_have(dagster_values: dict[str, Any]) -> None:
    guide = (DEPLOY.parent / "docs" / "kubernetes.md").read_text()
    launcher = dagster_values["runLauncher"]["config"]["customRunLauncher"]["config"]
    for size, given in launcher["sizes"].items():
        requests = given["container_config"]["resources"]["requests"]
        row = next(line for line in guide.splitlines() if line.startswith(f"| `{size}` |"))
        if size != "gpu":
            memory, most = requests["memory"], given["container_config"]["resources"]["limits"]["memory"]
            assert f"{requests['cpu']} CPU, {memory[:-2]} GiB, at most {most[:-2]} GiB" in row
        assert f"`{given['pod_spec_config']['node_selector']['bandicoot/pool']}`" in row
    for job in launcher["job_sizes"]:
        assert f"`{job}`" in guide
    (pinned,) = re.findall(r"^dagster==(\S+)$", (DEPLOY.parent / "constraints.txt").read_text(), re.MULTILINE)
    versions = set(re.findall(r"dagster/dagster --version (\S+)", guide + DAGSTER_VALUES.read_text()))
    assert versions == {pinned}
