"""Dagster's own instance: where its files are, and its storage in PostgreSQL beside the published schema."""

import os
from pathlib import Path

import dagster as dg

from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.storage_errors import storage_errors

STORAGE_VARIABLE = "BANDICOOT_DAGSTER_STORAGE"

_INSTANCE_YAML = f"""\
# Written by bandicoot when absent; yours to edit. The storage URL comes from the environment, never from this file.
storage:
  postgres:
    postgres_url:
      env: {STORAGE_VARIABLE}

run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    max_concurrent_runs: 2

run_monitoring:
  enabled: true

retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days:
      skipped: 7
      success: 30
      failure: 90

telemetry:
  enabled: false
"""


def prepare_environment(installation: Installation) -> Path:
    """Write the instance's configuration when absent and set the environment that Dagster's processes read.

    Returns the folder that is DAGSTER_HOME. One that is already set stays.
    """
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(installation.settings.home.absolute() / "dagster")))
    home.mkdir(parents=True, exist_ok=True)
    instance_yaml = home / "dagster.yaml"
    if not instance_yaml.exists():
        arriving = home / f".dagster.yaml-{os.getpid()}"
        arriving.write_text(_INSTANCE_YAML)
        arriving.replace(instance_yaml)
    os.environ[STORAGE_VARIABLE] = installation.dagster_storage_url
    # Without it every event of a history backfill costs Dagster a connection of its own.
    os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", "500")
    return home


def open_instance(installation: Installation) -> dg.DagsterInstance:
    """The Dagster instance of an installation; the caller closes it (it is a context manager).

    UnreachableError when its storage does not answer.
    """
    prepare_environment(installation)
    with storage_errors("opening Dagster's instance"):
        return dg.DagsterInstance.get()
