"""Runs as Kubernetes Jobs: the size that a tag, a job or the default names, by the real launcher."""

import ast
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import kubernetes.client
import pytest
from charts import (
    DEPLOY,
    NEEDED,
    hold_to_kubernetes,
    of_kind,
    rendered,
)
from dagster._config import process_config
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.launcher import LaunchRunContext
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from bandicoot_core.errors import InvalidSettingError
from bandicoot_dagster.kubernetes_launcher import SIZE_TAG, SizedK8sRunLauncher


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
