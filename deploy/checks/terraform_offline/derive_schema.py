"""Derives `google_schema.json` from the npm package @cdktf/provider-google, whose `.jsii` describes provider 6.50.0.

    npm pack @cdktf/provider-google@16.12.1 && tar xzf cdktf-provider-google-*.tgz package/.jsii
    python -m deploy.checks.terraform_offline.derive_schema package/.jsii

Needed only when a resource type is used for the first time, or for another version of the provider. What the package
does not tell: whether a list is a set (all are lists here), and which values a text may have.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

RESOURCES = (
    "artifact_registry_repository",
    "artifact_registry_repository_iam_member",
    "billing_budget",
    "cloud_run_v2_job",
    "cloud_run_v2_job_iam_member",
    "cloud_run_v2_service",
    "cloud_run_v2_service_iam_member",
    "compute_address",
    "compute_firewall",
    "compute_global_address",
    "compute_instance",
    "compute_instance_iam_member",
    "compute_network",
    "compute_router",
    "compute_router_nat",
    "compute_subnetwork",
    "iam_workload_identity_pool",
    "iam_workload_identity_pool_provider",
    "iap_tunnel_instance_iam_member",
    "logging_metric",
    "monitoring_alert_policy",
    "monitoring_dashboard",
    "monitoring_notification_channel",
    "monitoring_uptime_check_config",
    "project_iam_member",
    "project_service",
    "pubsub_subscription",
    "pubsub_subscription_iam_member",
    "pubsub_topic",
    "pubsub_topic_iam_member",
    "redis_instance",
    "secret_manager_secret",
    "secret_manager_secret_iam_member",
    "service_account",
    "service_account_iam_member",
    "service_networking_connection",
    "sql_database",
    "sql_database_instance",
    "storage_bucket",
    "storage_bucket_iam_member",
    "storage_notification",
)
DATA = ("project", "sql_database_instance", "storage_project_service_account")

_PLAIN = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
_WRAPPED = {
    "cdktf.StringMap": ["map", "string"],
    "cdktf.BooleanMap": ["map", "bool"],
    "cdktf.NumberMap": ["map", "number"],
    "cdktf.StringMapList": ["list", ["map", "string"]],
}
_TIMES = "timeouts"


class Package:
    """The types of the package, as blocks and attributes of Terraform."""

    def __init__(self, types: dict[str, Any]) -> None:
        self.types = types

    def resource(self, name: str, *, is_data: bool = False) -> dict[str, Any]:
        """The block of a resource type or data source, by its name without `google_`."""
        words = ("data_google_" if is_data else "") + name
        camel = "".join(word.capitalize() for word in words.split("_"))
        module = camel[0].lower() + camel[1:]
        found = f"@cdktf/provider-google.{module}.{camel}"
        return self.block(f"{found}Config", found)

    def block(self, config: str, outputs: str) -> dict[str, Any]:
        """What may be written in a block (the interface) and what is only known after (the getters of the class)."""
        attributes: dict[str, Any] = {}
        blocks: dict[str, Any] = {}
        is_top = config.endswith("Config") and not outputs.endswith("OutputReference")
        for entry in self.types[config].get("properties", ()):
            name = _anchor(entry)
            if name is None:
                continue
            kind, is_list = self._kind(entry["type"])
            is_needed = not entry.get("optional", False)
            if kind.startswith("@cdktf") and (f"{name} block" in entry["docs"].get("summary", "") or name == _TIMES):
                inner = self.block(kind, f"{kind}OutputReference")
                blocks[name] = {"many": is_list, "needed": is_needed, "single": name == _TIMES, "block": inner}
            else:
                attributes[name] = {
                    "type": self._attribute(kind, is_list=is_list),
                    "needed": is_needed,
                    "known_after": is_top and not is_needed and name in ("id", "project", "region", "zone", "location"),
                    "may_be_written": True,
                }
        for entry in self.types.get(outputs, {}).get("properties", ()):
            name = _snake(entry["name"])
            if (
                name in attributes
                or name in blocks
                or entry["name"].endswith("Input")
                or entry.get("static")
                or entry["name"] in ("internalValue", "fqn", "cdktfProperties")
                or not entry.get("immutable")
            ):
                continue
            kind, is_list = self._kind(entry["type"])
            attributes[name] = {
                "type": self._attribute(kind, is_list=is_list),
                "needed": False,
                "known_after": True,
                "may_be_written": False,
            }
        return {"attributes": attributes, "blocks": blocks}

    def _kind(self, told: dict[str, Any]) -> tuple[str, bool]:
        """The name of a type, and whether there may be many of it."""
        if "primitive" in told:
            return told["primitive"], False
        if "fqn" in told:
            # What is computed and either true or false is declared as something that will be resolved.
            return ("boolean" if told["fqn"] == "cdktf.IResolvable" else told["fqn"]), False
        if "collection" in told:
            kind, _ = self._kind(told["collection"]["elementtype"])
            is_map = told["collection"]["kind"] == "map"
            return (f"map {kind}" if is_map else kind), not is_map
        for choice in told["union"]["types"]:
            if choice.get("fqn") != "cdktf.IResolvable":
                return self._kind(choice)
        return "any", False

    def _attribute(self, kind: str, *, is_list: bool) -> Any:
        if kind.startswith("map "):
            return ["map", _PLAIN.get(kind.removeprefix("map "), "string")]
        if kind in _PLAIN:
            return ["list", _PLAIN[kind]] if is_list else _PLAIN[kind]
        if kind in _WRAPPED:
            return _WRAPPED[kind]
        if kind.endswith("List"):
            return ["list", ["object", self._object(kind.removesuffix("List") + "OutputReference")]]
        if kind.startswith("@cdktf"):
            written = {name: a["type"] for name, a in self.block(kind, f"{kind}OutputReference")["attributes"].items()}
            return ["list", ["object", written]] if is_list else ["object", written]
        return "dynamic"

    def _object(self, outputs: str) -> dict[str, Any]:
        config = outputs.removesuffix("OutputReference")
        return {name: a["type"] for name, a in self.block(config, outputs)["attributes"].items()}


def _anchor(entry: dict[str, Any]) -> str | None:
    """The name that Terraform's documentation gives a property; None for what belongs to every resource."""
    told = entry.get("docs", {})
    found = re.search(r"\{@link https://\S+#(\w+) ", told.get("summary", "") + told.get("remarks", ""))
    return found[1] if found else None


def _snake(camel: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", camel).lower()


# What every resource class has beside its own.
_EVERY = {"cdktf_stack", "terraform_meta_attributes", "terraform_resource_type", "friendly_unique_id", "raw_overrides"}


def main() -> None:
    """Writes the schema beside this file."""
    package = Package(json.loads(Path(sys.argv[1]).read_text())["types"])
    schema = {
        "provider": package.block(
            "@cdktf/provider-google.provider.GoogleProviderConfig", "@cdktf/provider-google.provider.None"
        ),
        "resources": {f"google_{name}": package.resource(name) for name in RESOURCES},
        "data": {f"google_{name}": package.resource(name, is_data=True) for name in DATA},
    }
    schema["provider"]["attributes"] = {
        name: entry for name, entry in schema["provider"]["attributes"].items() if not name.endswith("_endpoint")
    }
    for kind in ("resources", "data"):
        for block in schema[kind].values():
            block["attributes"] = {name: a for name, a in block["attributes"].items() if name not in _EVERY}
    written = Path(__file__).with_name("google_schema.json")
    written.write_text(json.dumps(schema, separators=(",", ":"), sort_keys=True) + "\n")
    print(f"{len(schema['resources'])} resource types, {len(schema['data'])} data sources: {written}")


if __name__ == "__main__":
    main()
