"""Helm's charts as they are rendered, and what Kubernetes itself says of the objects."""

import ast
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import yaml

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


def rendered(values: dict[str, Any], chart: Path = CHART) -> list[dict[str, Any]]:
    with helm_python.Chart.load(str(chart)) as loaded:
        loaded.validate_schema(values)
        manifests = loaded.render(values, name="bandicoot", namespace="bandicoot")
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
