"""The chart of the service: what it renders is valid, confined, and holds what matters."""

import json
import re
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml
from charts import BARE, CHART, DEPLOY, EVERYTHING, NEEDED, hold_to_kubernetes, known_settings, of_kind, pods, rendered


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
