"""What S3 needs beside what every object store does: conditions on writes by ETag, and its errors told apart.

An ETag is of a content, not of a writing: who writes the same content again does not change it. So a file that another
writer has written again in the meantime, the same to the byte, is not seen as such; the locks of the published schema
keep two runs from writing one partition at the same time.
"""

from typing import Any

from fsspec.asyn import sync
from upath import UPath

from bandicoot_core.stores.lake.changed import ChangedError

PROTOCOLS = ("s3", "s3a")
ENGINE_NAMES = {"s3": "s3a"}
"""What the engine calls the file system that it is given; for s3:// it would fetch an extension of its own instead."""
_NOT_AS_IT_WAS = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


def is_amazon(path: UPath) -> bool:
    """Whether a path lies in S3, or in a store that speaks its protocol."""
    return path.protocol in PROTOCOLS


def options(timeout_seconds: float) -> dict[str, Any]:
    """How its file system is opened, so that no request takes longer."""
    return {"config_kwargs": {"connect_timeout": timeout_seconds, "read_timeout": timeout_seconds}}


def read_with_tag(path: UPath) -> tuple[str, str]:
    """The text of an object and its ETag, of one moment; FileNotFoundError when there is none."""

    async def read() -> tuple[str, str]:
        found = await path.fs._call_s3("get_object", **_address(path))
        async with found["Body"] as body:
            return (await body.read()).decode(), found["ETag"]

    return sync(path.fs.loop, read)


def write_if(path: UPath, text: str, tag: str | None) -> None:
    """Write an object in one request if it still has that ETag, or with None if there is none; else ChangedError."""
    condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
    _conditional(path, "put_object", Body=text.encode(), **condition)


def remove_if(path: UPath, tag: str | None) -> None:
    """Remove an object if it still has that ETag; else ChangedError."""
    _conditional(path, "delete_object", **({} if tag is None else {"IfMatch": tag}))


def is_refusal(error: Exception) -> bool:
    """Whether credentials are missing, or do not let this process in."""
    kind = type(error).__module__.partition(".")[0]
    if kind in ("botocore", "aiobotocore"):
        return "Credentials" in type(error).__name__ or _code(error) in ("401", "403")
    return isinstance(error, PermissionError) and _is_of_store(error.__cause__)


def is_absence(error: Exception) -> bool:
    """Whether the store does not answer, or not in time, or with a fault of its own."""
    kind = type(error).__module__.partition(".")[0]
    if kind in ("botocore", "aiobotocore"):
        return not is_refusal(error)
    return isinstance(error, OSError) and _is_of_store(error.__cause__) and _status(error.__cause__) >= 500


def _conditional(path: UPath, method: str, **arguments: Any) -> None:
    try:
        path.fs.call_s3(method, **_address(path), **arguments)
    except OSError as error:
        if _code(error.__cause__) in _NOT_AS_IT_WAS:
            raise ChangedError(str(path)) from error
        raise
    finally:
        path.fs.invalidate_cache(path.path)


def _address(path: UPath) -> dict[str, str]:
    bucket, key, _ = path.fs.split_path(path.path)
    return {"Bucket": bucket, "Key": key}


def _is_of_store(error: BaseException | None) -> bool:
    return type(error).__module__.partition(".")[0] in ("botocore", "aiobotocore")


def _code(error: BaseException | None) -> str:
    return str((getattr(error, "response", None) or {}).get("Error", {}).get("Code", ""))


def _status(error: BaseException | None) -> int:
    return int((getattr(error, "response", None) or {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
