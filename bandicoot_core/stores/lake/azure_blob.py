"""What Azure Blob Storage needs beside what every object store does: how it is opened, and its errors told apart.

Who may in is said by Azure's own environment variables alone, never by a root or a setting: so no message, no log and
no manifest can show it. Nothing here needs the package that reaches the store; azure_file_system does.
"""

import os
from typing import Any

import fsspec
from upath import UPath

from bandicoot_core.errors import InvalidSettingError

PROTOCOLS = ("az", "abfs")
ENGINE_NAMES = {"az": "abfs"}
"""What the engine calls the file system that it is given; for az:// it fetches an extension when an object is gone."""
ROLES = {"roles/storage.objectViewer": "Storage Blob Data Reader"}
"""What Azure calls a role of Google's; every other is the contributor's."""

_CONNECTION, _ACCOUNT = "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME"
_BLOCK_BYTES = 8 << 20
_N_PARTS_AT_ONCE = 4


def is_azure(path: UPath) -> bool:
    """Whether a path lies in Azure Blob Storage."""
    return path.protocol in PROTOCOLS


def options(timeout_seconds: float) -> dict[str, Any]:
    """How its file system is opened, so that no request takes longer; InvalidSettingError when no account is named."""
    if not (os.environ.get(_CONNECTION) or os.environ.get(_ACCOUNT)):
        raise InvalidSettingError(
            f"az:// leads to no account: set {_CONNECTION}, or {_ACCOUNT} where the pod or machine has an identity"
        )
    return file_system_options(timeout_seconds)


def file_system_options(timeout_seconds: float) -> dict[str, Any]:
    """The same for who names the account elsewhere; from now on these protocols lead to our file system."""
    for protocol in PROTOCOLS:
        # By name: only who opens one needs the package.
        place = "bandicoot_core.stores.lake.azure_file_system.BlobFileSystem"
        fsspec.register_implementation(protocol, place, clobber=True, errtxt="No module named 'adlfs'")
    return {
        "connection_timeout": timeout_seconds,
        "read_timeout": timeout_seconds,
        # What a reader asks for beyond what it needs, and parts of a large file that are in memory together.
        "blocksize": _BLOCK_BYTES,
        "max_concurrency": _N_PARTS_AT_ONCE,
    }


def read_with_tag(path: UPath) -> tuple[str, str]:
    """The text of an object and its ETag, of one moment; FileNotFoundError when there is none."""
    content, tag = path.fs.read_with_tag(path.path)
    return content.decode(), tag


def write_if(path: UPath, text: str, tag: str | None) -> None:
    """Write an object in one request if it still has that ETag, or with None if there is none; else ChangedError."""
    path.fs.write_if(path.path, text.encode(), tag)


def remove_if(path: UPath, tag: str | None) -> None:
    """Remove an object if it still has that ETag; else ChangedError."""
    path.fs.remove_if(path.path, tag)


def is_refusal(error: Exception) -> bool:
    """Whether credentials are missing, or do not let this process in."""
    is_unknown = type(error).__name__ in ("ClientAuthenticationError", "CredentialUnavailableError")
    return _is_of_store(error) and (is_unknown or getattr(error, "status_code", None) in (401, 403))


def is_without_container(error: Exception) -> bool:
    """Whether the container is not there."""
    if isinstance(error, FileNotFoundError):
        return error.strerror == "No such container"
    return _is_of_store(error) and getattr(error, "error_code", None) == "ContainerNotFound"


def is_absence(error: Exception) -> bool:
    """Whether the store does not answer, or not in time, or with a fault of its own."""
    return _is_of_store(error) and not is_refusal(error) and not is_without_container(error)


def _is_of_store(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "azure"
