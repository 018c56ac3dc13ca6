"""A full disk in words, whoever met it first: Python, Parquet's writer, or the engine that spills to it."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from bandicoot_core.errors import StorageFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def room_expected(doing: str, where: str) -> Iterator[None]:
    """StorageFullError when a disk turns out full inside the block; `where` names the folders that were written."""
    try:
        yield
    except (OSError, duckdb.Error) as error:
        said = " ".join(str(error).split())
        if getattr(error, "errno", None) not in _FULL and "No space left on device" not in said:
            raise
        raise StorageFullError(
            f"{doing}: the disk is full ({said}); nothing was replaced, the partition is as it was before; make room "
            f"in {where}, then run again"
        ) from error
