"""Dagster's own instance: where its files are, and its storage in PostgreSQL beside the published schema."""

import os
from importlib import resources
from pathlib import Path

import dagster as dg

from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.storage_errors import storage_errors

STORAGE_VARIABLE = "BANDICOOT_DAGSTER_STORAGE"


def prepare_environment(installation: Installation) -> Path:
    """Write the instance's configuration when absent and set the environment that Dagster's processes read.

    Returns the folder that is DAGSTER_HOME. One that is already set stays.
    """
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(installation.settings.home.absolute() / "dagster")))
    home.mkdir(parents=True, exist_ok=True)
    instance_yaml = home / "dagster.yaml"
    if not instance_yaml.exists():
        arriving = home / f".dagster.yaml-{os.getpid()}"
        arriving.write_text(resources.files("bandicoot_dagster").joinpath("dagster.yaml").read_text())
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
