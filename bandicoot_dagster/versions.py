"""Data versions: what Dagster is told of content, so that it marks what was computed from other content as stale.

The version of a partition is the digest of its manifest: the same content has the same version, whoever wrote it and
when. A run that covers several partitions gives all of them one version, made of theirs, since Dagster knows one for
each run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from bandicoot_core.stores.manifest import Manifest, combined_digest

_DATA_VERSION_TAG = "dagster/data_version"


def data_version(*manifests: Manifest) -> dg.DataVersion:
    """The version of what these manifests describe."""
    if len(manifests) == 1:
        return dg.DataVersion(manifests[0].digest)
    return dg.DataVersion(combined_digest(manifests))


def report_earlier(
    context: dg.AssetExecutionContext, manifests: Sequence[Manifest], metadata: Mapping[str, Mapping[str, Any]]
) -> None:
    """Tell Dagster of partitions that the run has written beside its own, with metadata by partition."""
    for manifest in manifests:
        context.log_event(
            dg.AssetMaterialization(
                asset_key=context.asset_key,
                partition=manifest.partition,
                metadata=metadata[manifest.partition],
                tags={_DATA_VERSION_TAG: manifest.digest},
            )
        )
