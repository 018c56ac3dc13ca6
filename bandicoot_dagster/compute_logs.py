"""Where what the steps of runs print is kept: files under DAGSTER_HOME, or a bucket of Cloud Storage.

`dagster.yaml` fixes a class and cannot choose one by an environment variable; this class chooses, so that the same
file serves a laptop and a cluster. It keeps nothing itself: what it makes is one of Dagster's own two.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dagster._core.storage.compute_log_manager import ComputeLogManager
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from bandicoot_core.settings import load_settings

_UPLOAD_SECONDS = 30
"""Pause between uploads while a step still runs; a run's output is whole in the bucket when it ends."""


class ComputeLogs(ComputeLogManager, ConfigurableClass):
    """The `compute_logs` of `dagster.yaml`; never an instance, only what `from_config_value` chooses."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """Nothing: the setting `log_bucket` decides."""
        return {}

    @classmethod
    def from_config_value(  # type: ignore[override]  # it chooses, and makes none of its own
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> ComputeLogManager:
        """Dagster's manager for the bucket that is set, else for files beside the instance's configuration."""
        folder = str(Path(os.environ["DAGSTER_HOME"]) / "storage")
        bucket = load_settings().log_bucket
        if bucket is None:
            return LocalComputeLogManager(folder, inst_data=inst_data)
        from dagster_gcp.gcs.compute_log_manager import GCSComputeLogManager  # noqa: PLC0415 - slow, and seldom needed

        return GCSComputeLogManager(bucket, local_dir=folder, inst_data=inst_data, upload_interval=_UPLOAD_SECONDS)
