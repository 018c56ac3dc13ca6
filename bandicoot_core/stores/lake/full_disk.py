"""A full disk said in our words: which folder, how much is free there, and what to do."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from bandicoot_core.errors import StorageFullError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def explaining_full_disk(what: str, folder: Path) -> Iterator[None]:
    """An error of a full disk inside becomes StorageFullError.

    folder: where `what` is being written on local disk.
    """
    try:
        yield
    except (OSError, duckdb.Error) as error:
        if not _is_full(error):
            raise
        free = shutil.disk_usage(folder).free
        raise StorageFullError(
            f"{what}: no space left on the disk ({error}); {folder} has {free:,} bytes free. What was there before "
            "stays as it was; make room (`bandicoot lake expire` removes old partitions), then run again"
        ) from error


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL or "No space left" in str(error)
    text = str(error)
    return "No space left" in text or "max_temp_directory_size" in text or "Disk quota exceeded" in text
