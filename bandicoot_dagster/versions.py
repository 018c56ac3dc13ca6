"""Data versions: what Dagster is told of content, so that it marks what was computed from other content as stale.

The version of a partition is the digest of its manifest: the same content has the same version, whoever wrote it and
when. A run that covers several partitions gives all of them one version, made of theirs, since Dagster knows one for
each run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from bandicoot_core.stores.lake.manifest import Manifest, combined_digest

# Tags that Dagster gives to the materializations of a run itself, and reads again to find what is stale.
_DATA_VERSION = "dagster/data_version"
_IS_GIVEN = "dagster/data_version_is_user_provided"
_CODE_VERSION = "dagster/code_version"
_INPUT_VERSION = "dagster/input_data_version"
_INPUT_EVENT = "dagster/input_event_pointer"
_NEVER_OBSERVED, _NO_EVENT = "INITIAL", "NULL"


def data_version(*manifests: Manifest) -> dg.DataVersion:
    """The version of what these manifests describe."""
    if len(manifests) == 1:
        return dg.DataVersion(manifests[0].digest)
    return dg.DataVersion(combined_digest(manifests))


def version_tags(manifest: Manifest) -> dict[str, str]:
    """Tags with which a materialization says what its version is, where no step does."""
    return {_DATA_VERSION: manifest.digest, _IS_GIVEN: "true"}


def report_earlier(
    context: dg.AssetExecutionContext, manifests: Sequence[Manifest], metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    """Tell Dagster of partitions that the run has written beside its own, with metadata by partition."""
    if not manifests:
        return
    inputs = _inputs_so_far(context)
    for manifest in manifests:
        context.log_event(
            dg.AssetMaterialization(
                asset_key=context.asset_key,
                partition=manifest.partition,
                metadata=metadata[manifest.partition],
                tags={**inputs, **version_tags(manifest)},
            )
        )


def _inputs_so_far(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Tags that say: everything upstream that Dagster knows of by now is in it, and nothing later."""
    upstream = sorted(context.assets_def.asset_deps[context.asset_key])
    entries = [record.asset_entry for record in context.instance.get_asset_records(upstream)]
    newest = {entry.asset_key: entry.last_materialization_storage_id for entry in entries}
    tags = {_CODE_VERSION: str((context.assets_def.code_versions_by_key or {}).get(context.asset_key))}
    for key in upstream:
        tags[f"{_INPUT_VERSION}/{key.to_user_string()}"] = _NEVER_OBSERVED
        tags[f"{_INPUT_EVENT}/{key.to_user_string()}"] = str(newest.get(key) or _NO_EVENT)
    return tags
