"""Serving Dagster's UI and daemon on the installation's storage."""

import os
import socket
import sys
from typing import NoReturn

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.dagster_home import prepare_environment
from bandicoot_dagster.logs import logs_are_json

_CODE = "bandicoot_dagster.definitions"


def serve_ui(installation: Installation, *, host: str, port: int) -> NoReturn:
    """Become the process that runs webserver, daemon and code server until it is interrupted or terminated.

    A parent that only waits would die of a SIGTERM without its children: they would go on serving.

    Raises InvalidInputError when the address cannot be served on.
    """
    _refuse_taken_address(host, port)
    prepare_environment(installation)
    sys.stdout.flush()
    sys.stderr.flush()
    # Dagster warns that it would have people use another command, in a line that is no part of the log.
    quiet = ["-W", "ignore:Function `dev_command` is superseded"]
    log_format = ["--log-format", "json"] if logs_are_json() else []
    served = ["dagster", "dev", "-m", _CODE, "-h", host, "-p", str(port), *log_format]
    command = [sys.executable, *quiet, "-m", *served]
    os.execv(sys.executable, command)  # noqa: S606 - the command is ours, without a shell # nosec B606


def _refuse_taken_address(host: str, port: int) -> None:
    """Ask before Dagster does: its webserver would fail while its daemon runs on."""
    try:
        family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InvalidInputError(
            f"the UI cannot be served on {host}:{port} ({error.strerror}); end what serves there, or choose another "
            "address with --host and --port"
        ) from error
