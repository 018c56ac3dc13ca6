"""Serving Dagster's UI and daemon as child processes on the installation's storage."""

import subprocess
import sys

from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.dagster_home import prepare_environment

_CODE = "bandicoot_dagster.definitions"


def serve_ui(installation: Installation, *, host: str, port: int) -> int:
    """Run webserver, daemon and code server until interrupted; returns their exit code."""
    prepare_environment(installation)
    command = [sys.executable, "-m", "dagster", "dev", "-m", _CODE, "-h", host, "-p", str(port)]
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - the command is ours, without a shell
    except KeyboardInterrupt:
        return 0
