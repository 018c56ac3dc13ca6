"""Azurite: Azure's own emulator of Blob Storage, in a folder of its own; it holds conditions on writes itself."""

import base64
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from azure.storage.blob import BlobServiceClient

from tests.servers.processes import free_port, kill, launch, private_folder, program, wait_until

CONTAINER = "lake"
_ACCOUNT = "bandicoot"


@contextmanager
def azurite() -> Iterator[str]:
    """The connection string of a fresh emulator with an empty container CONTAINER; ended on exit."""
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    port = free_port()
    with private_folder("azurite") as folder:
        log = folder / "log"
        command = [program("node"), program("azurite-blob"), "--blobHost", "127.0.0.1", "--blobPort", str(port)]
        # The version check: the packages may speak a newer one than it has heard of.
        command += ["--location", str(folder), "--silent", "--disableTelemetry", "--skipApiVersionCheck"]
        process = launch(command, folder, log, {"AZURITE_ACCOUNTS": f"{_ACCOUNT}:{key}"})
        try:
            wait_until(lambda: _listens(port), process, log)
            connection = connection_string(f"http://127.0.0.1:{port}", key)
            with BlobServiceClient.from_connection_string(connection) as client:
                client.create_container(CONTAINER)
            yield connection
        finally:
            kill(process)


def connection_string(address: str, key: str = "a2V5") -> str:
    """How an address that speaks Blob Storage's protocol is named, with the key of its account."""
    parts = {"DefaultEndpointsProtocol": "http", "AccountName": _ACCOUNT, "AccountKey": key}
    parts["BlobEndpoint"] = f"{address}/{_ACCOUNT}"
    return ";".join(f"{name}={value}" for name, value in parts.items())


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
