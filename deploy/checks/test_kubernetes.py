"""The two Helm pieces: what they render is valid and holds what matters; what Dagster's chart is told, it knows.

Charts are rendered with Helm itself, objects are held to Kubernetes' own schemas. Dagster's chart is not at hand:
its values are held to a schema made from its documentation, and its instance to deploy/dagster.yaml.
"""

import ast
import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import helm_python
import jsonschema
import kubernetes.client
import kubernetes_validate
import pytest
import yaml
from dagster._config import process_config
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from bandicoot_core.errors import InvalidSettingError
from bandicoot_dagster.kubernetes_launcher import SIZE_TAG, SizedK8sRunLauncher

DEPLOY = Path(__file__).resolve().parent.parent
CHART = DEPLOY / "helm" / "bandicoot-api"
DAGSTER_VALUES = DEPLOY / "helm" / "dagster-values.yaml"
KUBERNETES = ("1.28", "1.34")
"""Oldest and newest release of Kubernetes that objects are held to."""

NEEDED: dict[str, Any] = {
    "image": {"repository": "registry.example.org/bandicoot", "tag": "1.2.3"},
    "dagster": {"env": {"BANDICOOT_LAKE_ROOT": "gs://bucket/lake"}},
}
EVERYTHING: dict[str, Any] = {
    **NEEDED,
    "ingress": {"enabled": True, "className": "nginx", "host": "api.example.org", "tlsSecret": "api-tls"},
    "podLabels": {"azure.workload.identity/use": "true"},
    "tolerations": [{"key": "cloud.google.com/gke-spot", "operator": "Exists", "effect": "NoSchedule"}],
    "nodeSelector": {"bandicoot/pool": "general"},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/r"}},
}
BARE: dict[str, Any] = {
    **NEEDED,
    "autoscaling": {"enabled": False},
    "podDisruptionBudget": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "migration": {"enabled": False},
    "dagster": {"enabled": False},
    "serviceAccount": {"create": False, "name": "existing"},
}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        manifests = chart.render(values, name="bandicoot", namespace="bandicoot")
    texts = [text for path, text in manifests.items() if not path.endswith("NOTES.txt")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def of_kind(objects: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    (found,) = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def pods(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in objects if one["kind"] in ("Deployment", "Job")]


def hold_to_kubernetes(thing: dict[str, Any]) -> None:
    for version in KUBERNETES:
        kubernetes_validate.validate(thing, version, strict=True)


def known_settings() -> set[str]:
    """Every setting by its variable, read from the source: the settings' own packages are not needed here."""
    tree = ast.parse((DEPLOY.parent / "bandicoot_core" / "settings.py").read_text())
    return {
        f"BANDICOOT_{field.target.id.upper()}"
        for definition in ast.walk(tree)
        if isinstance(definition, ast.ClassDef)
        for field in definition.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


# --- the chart of the service


@pytest.mark.parametrize("values", [NEEDED, EVERYTHING, BARE], ids=["needed", "everything", "bare"])
def test_whatever_is_switched_on_the_objects_are_valid_on_the_oldest_and_newest_kubernetes(
    values: dict[str, Any],
) -> None:
    objects = rendered(values)
    assert len(objects) >= 2
    for one in objects:
        hold_to_kubernetes(one)


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    found = helm_python.lint(str(CHART))
    assert not found["errors"]
    assert [message["error"] for message in found["messages"]] in ([], ["icon is recommended"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"replica": 3},
        {"image": {"repository": "r", "tag": "latest"}},
        {"resources": {"requests": {"cpu": "much"}}},
        {"env": {"BANDICOOT_DATABASE_URL": "postgresql://me:secret@host/db"}},
        {"secretEnv": {"BANDICOOT_DATABASE_URL": "postgresql://me:secret@host/db"}},
        {"dagster": {"env": {"BANDICOOT_REDIS_URL": "redis://:secret@host"}}},
        {"networkPolicy": {"egress": [{"cidr": "10.0.0.0/8"}]}},
        {"probes": {"readinessPath": "/healthz"}},
    ],
    ids=lambda wrong: json.dumps(wrong)[:50],
)
def test_a_misspelt_value_or_a_secret_in_the_open_is_refused(wrong: dict[str, Any]) -> None:
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(NEEDED)
        with pytest.raises(helm_python.HelmError, match="bandicoot-api:"):
            chart.validate_schema({**NEEDED, **wrong})


@pytest.mark.parametrize("missing", ["image", "dagster"])
def test_without_an_image_or_a_lake_nothing_is_rendered(missing: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match="is not set"):
        rendered({key: value for key, value in NEEDED.items() if key != missing})


def test_no_container_runs_as_root_writes_its_own_files_or_gains_rights() -> None:
    found = pods(rendered(EVERYTHING))
    assert len(found) == 2
    for pod in found:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]) == {"requests", "limits"}
            writable = {mount["mountPath"] for mount in container["volumeMounts"]}
            for variable in container["env"]:
                if variable["name"] in ("HOME", "TMPDIR", "MPLCONFIGDIR", "BANDICOOT_HOME"):
                    assert any(variable["value"].startswith(place) for place in writable), variable


def test_secrets_come_by_reference_only() -> None:
    for pod in pods(rendered(EVERYTHING)):
        for variable in pod["containers"][0]["env"]:
            is_secret = variable["name"].endswith(("_URL", "_SECRET"))
            assert is_secret == ("valueFrom" in variable), variable
    assert not [one for one in rendered(EVERYTHING) if one["kind"] == "Secret"]


def test_the_schema_is_migrated_before_new_pods_start_and_as_its_owner() -> None:
    objects = rendered(NEEDED)
    job = of_kind(objects, "Job")
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] + container["args"] == ["bandicoot", "database", "upgrade"]
    urls = [
        next(one for one in pod["containers"][0]["env"] if one["name"] == "BANDICOOT_DATABASE_URL")["valueFrom"]
        for pod in pods(objects)
    ]
    assert urls[0] != urls[1], "the service must not connect as the owner of the schema"
    service = of_kind(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert service["image"] == container["image"]
    # Its network policy comes before it: hooks of a lower weight are first.
    policy = of_kind(objects, "NetworkPolicy", "bandicoot-bandicoot-api-migration")
    weights = [int(one["metadata"]["annotations"]["helm.sh/hook-weight"]) for one in (policy, job)]
    assert weights[0] < weights[1]


def test_an_upgrade_and_the_loss_of_a_node_leave_somebody_who_answers() -> None:
    objects = rendered(NEEDED)
    deployment = of_kind(objects, "Deployment")["spec"]
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in deployment, "with a HorizontalPodAutoscaler each upgrade would set the number back"
    scaler = of_kind(objects, "HorizontalPodAutoscaler")["spec"]
    budget = of_kind(objects, "PodDisruptionBudget")["spec"]
    assert 1 <= budget["minAvailable"] < scaler["minReplicas"], "a budget that nothing may leave blocks every drain"
    assert scaler["scaleTargetRef"]["name"] == of_kind(objects, "Deployment")["metadata"]["name"]
    labels = deployment["template"]["metadata"]["labels"]
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    selectors = [one["labelSelector"]["matchLabels"] for one in spread]
    selectors += [budget["selector"]["matchLabels"], deployment["selector"]["matchLabels"]]
    selectors.append(of_kind(objects, "Service")["spec"]["selector"])
    assert all(selector.items() <= labels.items() for selector in selectors)


def test_probes_ask_what_the_service_answers_and_liveness_never_asks_the_database() -> None:
    container = of_kind(rendered(NEEDED), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    routes = (DEPLOY.parent / "bandicoot_api" / "routes" / "operations.py").read_text()
    paths = {
        probe: container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert all(f'@router.get("{path}"' in routes or f'"{path}",' in routes for path in paths.values())
    assert paths["livenessProbe"] == paths["startupProbe"] == "/health"
    assert container["args"][-1] == str(container["ports"][0]["containerPort"])


def test_network_policies_let_nobody_in_or_out_who_is_not_named() -> None:
    objects = rendered(NEEDED)
    policies = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "NetworkPolicy"}
    assert len(policies) == 6
    for name, policy in policies.items():
        assert policy["policyTypes"] == ["Ingress", "Egress"], name
        assert all(rule.get("from") and rule.get("ports") for rule in policy["ingress"]), name
        assert all(rule.get("to") and rule.get("ports") for rule in policy["egress"]), name
        assert any(port["port"] == 53 for rule in policy["egress"] for port in rule["ports"]), name
    webserver = policies["bandicoot-bandicoot-api-dagster-webserver"]
    assert len(webserver["ingress"][0]["from"]) == 1, "only the service reaches the webserver, which asks nobody"
    assert policies["bandicoot-bandicoot-api-dagster-runs"]["ingress"] == []
    service = policies["bandicoot-bandicoot-api"]
    assert not [
        rule for rule in service["egress"] for one in rule["to"] if one.get("ipBlock", {}).get("cidr") == "0.0.0.0/0"
    ]


def test_the_launcher_may_do_with_jobs_and_pods_what_dagster_k8s_calls_and_runs_may_do_nothing() -> None:
    objects = rendered(NEEDED)
    role = of_kind(objects, "Role")
    allowed = {
        (verb, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for resource in rule["resources"]
        if "*" not in (verb, resource)
    }
    source = (Path(__import__("dagster_k8s").__file__).parent / "client.py").read_text()
    calls = set(re.findall(r"(?:batch|core)_api\.((?:create|list|read|delete|patch)_namespaced_\w+)", source))
    verbs = {"read": "get"}
    needed = set()
    for call in calls:
        verb, _, what = call.partition("_namespaced_")
        resource = {"job_status": "jobs/status", "pod_log": "pods/log"}.get(what, f"{what}s")
        needed.add((verbs.get(verb, verb), resource))
    assert len(needed) >= 8
    assert needed <= allowed, f"dagster-k8s also needs {sorted(needed - allowed)}"
    assert allowed - needed <= {("get", "jobs")}, f"nobody needs {sorted(allowed - needed)}"
    subjects = of_kind(objects, "RoleBinding")["subjects"]
    assert [one["name"] for one in subjects] == ["bandicoot-launcher"]
    assert of_kind(objects, "ServiceAccount", "bandicoot-runs")["automountServiceAccountToken"] is False
    assert not [one for one in objects if one["kind"].startswith("Cluster")]


def test_every_variable_is_a_setting() -> None:
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())
    named = {*defaults["env"], *defaults["secretEnv"], *defaults["dagster"]["env"]}
    assert named <= known_settings(), f"no settings: {sorted(named - known_settings())}"


# --- the values of Dagster's chart


@pytest.fixture(scope="module")
def dagster_values() -> dict[str, Any]:
    return yaml.safe_load(DAGSTER_VALUES.read_text())


def test_dagsters_chart_knows_every_value_that_it_is_given(dagster_values: dict[str, Any]) -> None:
    schema = json.loads((DEPLOY / "checks" / "dagster-values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(dagster_values, schema)
    wrong = copy.deepcopy(dagster_values)
    wrong["dagsterDaemon"]["runMonitoring"]["startTimeout"] = 5
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, schema)


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


# --- the launcher


class RecordingBatch:
    """Stands where the Jobs of a cluster are made, and keeps what it is given."""

    def __init__(self) -> None:
        self.made: list[dict[str, Any]] = []

    def create_namespaced_job(self, body: kubernetes.client.V1Job, namespace: str, **_: Any) -> None:
        self.made.append({**kubernetes.client.ApiClient().sanitize_for_serialization(body), "in": namespace})


@pytest.fixture
def launched(dagster_values: dict[str, Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Starts a run of a job with tags by the configuration of the values; gives the Kubernetes Job that it became."""
    settings = dagster_values["runLauncher"]["config"]["customRunLauncher"]
    assert settings["module"] == SizedK8sRunLauncher.__module__
    assert settings["class"] == SizedK8sRunLauncher.__name__
    checked = process_config(SizedK8sRunLauncher.config_type(), settings["config"])
    assert checked.success, checked.errors

    def launch(job_name: str = "nightly", **tags: str) -> dict[str, Any]:
        batch = RecordingBatch()
        with mock.patch("dagster_k8s.launcher.load_kubernetes_config"):
            launcher = SizedK8sRunLauncher.from_config_value(
                None, {**checked.value, "k8s_client_batch_api": batch, "k8s_client_core_api": object()}
            )
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            launcher.register_instance(instance)
            origin = JobPythonOrigin(
                job_name,
                RepositoryPythonOrigin(
                    "/usr/bin/python", ModuleCodePointer("bandicoot_dagster.definitions", "defs"), "bandicoot:1.2.3"
                ),
            )
            run = instance.create_run(
                job_name=job_name,
                run_id=None,
                run_config={},
                status=dg.DagsterRunStatus.STARTING,
                tags=tags,
                root_run_id=None,
                parent_run_id=None,
                step_keys_to_execute=None,
                execution_plan_snapshot=None,
                job_snapshot=None,
                parent_job_snapshot=None,
                asset_selection=None,
                asset_check_selection=None,
                resolved_op_selection=None,
                op_selection=None,
                remote_job_origin=None,
                job_code_origin=origin,
                asset_graph=mock.MagicMock(),
            )
            launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        (made,) = batch.made
        return made

    return launch


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    hold_to_kubernetes({key: value for key, value in job.items() if key != "in"})
    return job["spec"]["template"]["spec"]


def test_a_run_becomes_a_confined_job_with_the_accounts_secrets_and_image_of_its_code(
    launched: Callable[..., dict[str, Any]],
) -> None:
    job = launched()
    assert job["in"] == "bandicoot"
    assert job["spec"]["backoffLimit"] == 0
    pod = pod_of(job)
    assert pod["serviceAccountName"] == "bandicoot-runs"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    (container,) = pod["containers"]
    assert container["image"] == "bandicoot:1.2.3"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"secretRef": {"name": "bandicoot-pipeline"}} in container["envFrom"]
    assert {"configMapRef": {"name": "bandicoot-pipeline"}} in container["envFrom"]
    variables = {one["name"] for one in container["env"]}
    assert {"DAGSTER_HOME", "DAGSTER_PG_PASSWORD", "TMPDIR", "BANDICOOT_HOME"} <= variables
    labels = job["spec"]["template"]["metadata"]["labels"]
    policy = of_kind(rendered(NEEDED), "NetworkPolicy", "bandicoot-bandicoot-api-dagster-runs")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items(), "the runs' network policy misses their pods"


@pytest.mark.parametrize(
    ("job_name", "tags", "pool", "memory", "is_spot"),
    [
        ("nightly", {}, "general", "4Gi", False),
        ("weekly_training", {}, "batch", "16Gi", True),
        ("nightly", {SIZE_TAG: "large"}, "batch", "16Gi", True),
        ("weekly_training", {SIZE_TAG: "small"}, "general", "4Gi", False),
        ("evaluation", {SIZE_TAG: "gpu"}, "gpu", "16Gi", True),
    ],
)
def test_the_tag_then_the_job_then_the_default_choose_cpu_memory_and_nodes(
    launched: Callable[..., dict[str, Any]], job_name: str, tags: dict[str, str], pool: str, memory: str, is_spot: bool
) -> None:
    pod = pod_of(launched(job_name, **tags))
    assert pod["nodeSelector"] == {"bandicoot/pool": pool}
    assert pod["containers"][0]["resources"]["limits"]["memory"] == memory
    engine = [one["value"] for one in pod["containers"][0]["env"] if one["name"] == "BANDICOOT_MEMORY_LIMIT"]
    assert engine == ["2GB" if memory == "4Gi" else "10GB"], "the engine spills before the pod is killed"
    assert ("nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]) == (pool == "gpu")
    keys = {toleration["key"] for toleration in pod.get("tolerations", [])}
    spot = {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority", "bandicoot/spot"}
    assert (spot <= keys) == is_spot


def test_a_size_that_is_none_fails_the_run_with_the_names_of_those_that_are(
    launched: Callable[..., dict[str, Any]],
) -> None:
    with pytest.raises(InvalidSettingError, match="'huge'; the sizes are small, large, gpu"):
        launched("nightly", **{SIZE_TAG: "huge"})


def test_a_configuration_that_names_a_size_that_is_none_is_refused_at_the_start(
    dagster_values: dict[str, Any],
) -> None:
    settings = dagster_values["runLauncher"]["config"]["customRunLauncher"]["config"]
    with pytest.raises(InvalidSettingError, match="weekly_training is 'huge'"):
        SizedK8sRunLauncher(**{**settings, "job_sizes": {"weekly_training": "huge"}})


def test_who_starts_a_run_may_not_choose_its_account_or_volumes(launched: Callable[..., dict[str, Any]]) -> None:
    wanted = {"pod_spec_config": {"service_account_name": "bandicoot-launcher"}}
    with pytest.raises(Exception, match="service_account_name"):
        launched("nightly", **{"dagster-k8s/config": json.dumps(wanted)})


def test_sizes_are_given_to_jobs_that_there_are(dagster_values: dict[str, Any]) -> None:
    named = dagster_values["runLauncher"]["config"]["customRunLauncher"]["config"]["job_sizes"]
    tree = ast.parse((DEPLOY.parent / "bandicoot_dagster" / "jobs.py").read_text())
    jobs = {
        call.args[0].value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and call.args and isinstance(call.args[0], ast.Constant)
    }
    assert named.keys() <= jobs


# --- the guide


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
