"""Opening the root of a lake, and what an object store needs besides: conditions on writes, errors in our words.

Everything that differs between a local disk and an object store is here or in atomic_folder.
"""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upath import UPath

from bandicoot_core.errors import BandicootError, ConflictingWriteError, InvalidSettingError, UnreachableError
from bandicoot_core.stores.lake import amazon, azure_blob
from bandicoot_core.stores.lake.changed import ChangedError

_GOOGLE = ("gs", "gcs")
_EXTRAS = {
    **dict.fromkeys(_GOOGLE, "gcs"),
    **dict.fromkeys(amazon.PROTOCOLS, "s3"),
    **dict.fromkeys(azure_blob.PROTOCOLS, "azure"),
}
ENGINE_NAMES = amazon.ENGINE_NAMES | azure_blob.ENGINE_NAMES
"""What the engine calls the file systems that it knows by another name."""
N_REQUESTS_AT_ONCE = 16
"""Requests of one process that wait for an object store at the same time."""


@dataclass(frozen=True)
class StoredText:
    """A small object and the generation (in S3 and Azure: ETag) it was read in; both None when there is none."""

    text: str | None
    generation: str | None


def open_root(root: str, *, timeout_seconds: float, setting: str = "BANDICOOT_LAKE_ROOT") -> UPath:
    """The path of a lake's root, or of another folder that a setting names, on its file system.

    `timeout_seconds` bounds each request to an object store. InvalidSettingError when the file system is unknown, or
    the package that reaches it is not installed.
    """
    if "://" not in root:
        return UPath(root)
    protocol = root.partition("://")[0]
    # Listings are never kept: another process may have written since, and a reader has to see it.
    options: dict[str, Any] = {} if protocol in ("file", "local") else {"use_listings_cache": False}
    if protocol in _GOOGLE:
        # A lake is an ordinary bucket: without this, gcsfs asks another API, with rights of its own, what kind it is.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        options["requests_timeout"] = timeout_seconds
    if protocol in amazon.PROTOCOLS:
        options |= amazon.options(timeout_seconds)
    if protocol in azure_blob.PROTOCOLS:
        options |= azure_blob.options(timeout_seconds)
    try:
        with reaching(root):
            path = UPath(root, **options)
            _ = path.fs
    except ImportError as error:
        known = _EXTRAS.get(protocol)
        extra = f"pip install 'bandicoot[{known}]'" if known else f"install what fsspec needs: {error}"
        raise InvalidSettingError(
            f"{setting}={root}: the package that reaches {protocol}:// is not installed; {extra}"
        ) from error
    except ValueError as error:
        raise InvalidSettingError(
            f"{setting}={root}: {error}; use a folder, gs://bucket/folder, s3://bucket/folder or az://container/folder"
        ) from error
    return path


def is_local(path: UPath) -> bool:
    """Whether a path lies on the local file system."""
    return path.protocol in ("", "file", "local")


def is_google(path: UPath) -> bool:
    """Whether a path lies in Google Cloud Storage."""
    return path.protocol in _GOOGLE


def read_small(paths: Sequence[UPath]) -> list[bytes | None]:
    """The contents of small files, None for those that do not exist; of an object store many at once."""
    if not paths:
        return []
    if is_local(paths[0]):
        return [Path(str(path)).read_bytes() if path.exists() else None for path in paths]
    found = paths[0].fs.cat([path.path for path in paths], on_error="return", batch_size=N_REQUESTS_AT_ONCE)
    contents: list[bytes | None] = []
    for path in paths:
        content = found[path.path]
        if isinstance(content, Exception) and not isinstance(content, FileNotFoundError):
            raise content
        contents.append(content if isinstance(content, bytes) else None)
    return contents


def read_stored(path: UPath) -> StoredText:
    """The text of a small object with its generation, which a conditional write then names."""
    try:
        if amazon.is_amazon(path):
            return StoredText(*amazon.read_with_tag(path))
        if azure_blob.is_azure(path):
            return StoredText(*azure_blob.read_with_tag(path))
        if not is_google(path):
            return StoredText(path.read_text(), None)
        bucket, key, _ = path.fs.split_path(path.path)
        found = path.fs.call("GET", "b/{}/o/{}", bucket, key, json_out=True)
        generation = str(found["generation"])
        _, content = path.fs.call("GET", "b/{}/o/{}", bucket, key, alt="media", generation=generation)
        return StoredText(content.decode(), generation)
    except FileNotFoundError:
        return StoredText(None, None)


def replace_stored(path: UPath, text: str, before: StoredText) -> None:
    """Write a small object in one request; ConflictingWriteError when it is not what it was `before`.

    Google Cloud Storage holds the condition (if_generation_match), S3 and Azure do (If-Match); another store writes
    without one.
    """
    if amazon.is_amazon(path) or azure_blob.is_azure(path):
        write_if = amazon.write_if if amazon.is_amazon(path) else azure_blob.write_if
        try:
            write_if(path, text, before.generation)
        except ChangedError as error:
            _require_own(path, text, error)
        return
    if not is_google(path):
        path.write_text(text)
        return
    fs = path.fs
    bucket, key, _ = fs.split_path(path.path)
    try:
        fs.call(
            "POST",
            fs.base.replace("/storage/v1/", f"/upload/storage/v1/b/{bucket}/o"),
            uploadType="media",
            name=key,
            ifGenerationMatch=before.generation or "0",
            data=text.encode(),
            headers={"Content-Type": "application/octet-stream"},
        )
    except FileExistsError as error:
        _require_own(path, text, error)


def _require_own(path: UPath, text: str, error: Exception) -> None:
    """A repeated request may find that its first attempt has arrived after all; otherwise another writer was there."""
    if read_stored(path).text != text:
        raise ConflictingWriteError(
            f"{path} was replaced by another writer while this one was at work; what the other wrote stands: run "
            "again if it should not"
        ) from error


def remove_stored(path: UPath, generation: str | None) -> None:
    """Remove an object unless it has been written again since it had that generation; nothing when it is gone."""
    try:
        if is_google(path):
            bucket, key, _ = path.fs.split_path(path.path)
            path.fs.call("DELETE", "b/{}/o/{}", bucket, key, ifGenerationMatch=generation)
        elif amazon.is_amazon(path):
            amazon.remove_if(path, generation)
        elif azure_blob.is_azure(path):
            azure_blob.remove_if(path, generation)
        else:
            path.fs.rm_file(path.path)
    except (FileNotFoundError, FileExistsError, ChangedError):
        return  # gone already, or written again by another writer, whose it is now


@contextmanager
def reaching(root: object, *, place: str = "the lake", role: str = "roles/storage.objectUser") -> Iterator[None]:
    """Errors of an object store become UnreachableError or InvalidSettingError, which say what to do.

    `place` is what lies at `root`, in words, and `role` what a service account needs there.
    """
    try:
        yield
    except BandicootError:
        raise
    except Exception as error:
        foreseen = _foreseen(f"{place} {root}", role, error)
        if foreseen is None:
            raise
        raise foreseen from error


def _foreseen(where: str, role: str, error: Exception) -> BandicootError | None:
    if amazon.is_refusal(error):
        return InvalidSettingError(
            f"{where} does not let this process in: {_first_line(error)}; give it credentials (a role of the pod or "
            "machine, or AWS_PROFILE) that may s3:ListBucket the bucket, and s3:GetObject, s3:PutObject and "
            "s3:DeleteObject in it"
        )
    if azure_blob.is_refusal(error):
        return InvalidSettingError(
            f"{where} does not let this process in: {_first_line(error)}; give it credentials "
            "(AZURE_STORAGE_CONNECTION_STRING, or an identity of the pod or machine beside AZURE_STORAGE_ACCOUNT_NAME) "
            f"with the role {azure_blob.ROLES.get(role, 'Storage Blob Data Contributor')} on the container"
        )
    if azure_blob.is_without_container(error):
        return InvalidSettingError(f"{where}: there is no such container; make it, or name one that is there")
    kind = type(error).__module__.partition(".")[0]
    code = str(getattr(error, "code", "") or "")
    is_refused = str(error).startswith("Forbidden") or code in ("401", "403")
    is_without_network = type(error).__name__ == "TransportError"
    if is_refused or (kind == "google" and not is_without_network):
        return InvalidSettingError(
            f"{where} does not let this process in: {_first_line(error)}; give it credentials "
            "(GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login` or a service account) with the "
            f"role {role} on the bucket"
        )
    if (
        isinstance(error, asyncio.TimeoutError)
        or kind in ("aiohttp", "google", "requests")
        or (kind == "gcsfs" and code)
        or amazon.is_absence(error)
        or azure_blob.is_absence(error)
    ):
        return UnreachableError(
            f"{where} does not answer: {type(error).__name__} {_first_line(error)}".rstrip()
            + "; what was there stands: run again when it is back, or raise BANDICOOT_LAKE_TIMEOUT_SECONDS"
        )
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:300]
