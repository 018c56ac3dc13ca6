"""Files of events in a folder or bucket: which there are, and their messages one line after the other.

JSON lines are given as they are; a row of CSV is given as the JSON it stands for, so that one reader knows what an
event is. Memory is bounded by the records given at once and the longest line, whatever the size of a file.
"""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, cast

from upath import UPath

from bandicoot_core.errors import ConflictingWriteError
from bandicoot_core.stores.events.records import EventRecord
from bandicoot_core.stores.lake.object_store import is_local, open_root, reaching

_JSON = (".jsonl", ".ndjson", ".json")
_CSV = ".csv"
_SUFFIXES = tuple(f"{suffix}{packed}" for suffix in (*_JSON, _CSV) for packed in ("", ".gz"))
_UNFINISHED = (".tmp", ".part")
_COLUMNS = ("event_type", "caregiver_id", "timestamp")
_MESSAGE_COLUMNS = ("message_id", "metadata.message_id")
_MAX_LINE_BYTES = 1 << 20
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class EventFile:
    """One file: where it lies, and a text that changes when its content may have."""

    uri: str
    version: str
    n_bytes: int


def list_event_files(folder: str, *, settled_before: datetime, timeout_seconds: float) -> list[EventFile]:
    """The files of events in a folder and those below it, ordered by place.

    Left alone: names that begin with `.` or `_`, unfinished ones (.tmp, .part), and files on a disk that were changed
    at `settled_before` (an aware instant) or later, since they may still be being written; an object in a bucket is
    whole when it is there. Raises UnreachableError and InvalidSettingError like the lake.
    """
    root = open_root(folder, timeout_seconds=timeout_seconds)
    if is_local(root):
        found = _local_files(Path(str(root)), settled_before)
    else:
        with reaching(root):
            infos = root.fs.find(root.path, detail=True)
        found = [
            EventFile(f"{root.protocol}://{path}", str(info.get("generation") or info.get("etag")), int(info["size"]))
            for path, info in infos.items()
            if _is_wanted(path[len(root.path) :].strip("/"))
        ]
    return sorted(found, key=lambda file: file.uri)


def read_event_file(file: EventFile, *, records_at_once: int, timeout_seconds: float) -> Iterator[list[EventRecord]]:
    """The messages of a file in their order, so many at once; blank lines are none.

    Positions are `line N`, from 1. A line that is too long, and a row of CSV that does not fit its header, is a record
    without a payload; a header without a needed column is the only record. Raises ConflictingWriteError when the file
    is gone or its packing is broken off, which a later look finds right again.
    """
    records: list[EventRecord] = []
    with _opened(file, timeout_seconds) as content:
        is_csv = file.uri.removesuffix(".gz").endswith(_CSV)
        for record in _csv_records(content) if is_csv else _json_records(content):
            records.append(record)
            if len(records) == records_at_once:
                yield records
                records = []
    if records:
        yield records


def _local_files(root: Path, settled_before: datetime) -> list[EventFile]:
    found = []
    for path in root.rglob("*") if root.exists() else ():
        if not _is_wanted(path.relative_to(root).as_posix()):
            continue
        try:
            stat = path.stat()
        except FileNotFoundError:  # moved away meanwhile
            continue
        if path.is_file() and stat.st_mtime < settled_before.timestamp():
            version = f"{stat.st_ino}-{stat.st_size}-{stat.st_mtime_ns}"
            found.append(EventFile(str(path.absolute()), version, stat.st_size))
    return found


def _is_wanted(place: str) -> bool:
    parts = place.split("/")
    return (
        place.endswith(_SUFFIXES)
        and not place.endswith(_UNFINISHED)
        and not any(part.startswith((".", "_")) for part in parts)
    )


@contextmanager
def _opened(file: EventFile, timeout_seconds: float) -> Iterator[IO[bytes]]:
    path: UPath = open_root(file.uri, timeout_seconds=timeout_seconds)
    try:
        with reaching(path), path.open("rb") as stored:
            if file.uri.endswith(".gz"):
                with gzip.open(stored, "rb") as unpacked:
                    yield cast("IO[bytes]", unpacked)
            else:
                # A bucket's file cannot bound the length of a line it reads.
                yield io.BufferedReader(cast("io.RawIOBase", stored), _BUFFER_BYTES)
    except FileNotFoundError as error:
        raise ConflictingWriteError(f"{file.uri} is gone; what was in it and not taken in yet is not here") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise ConflictingWriteError(
            f"{file.uri} is not whole ({error}); write it again, or under another name until it is"
        ) from error


def _lines(content: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines without their ends; None for one that is longer than may be."""
    number = 0
    while line := content.readline(_MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) > _MAX_LINE_BYTES and not line.endswith(b"\n"):
            while rest := content.readline(_MAX_LINE_BYTES):
                if rest.endswith(b"\n"):
                    break
            yield number, None
        else:
            yield number, line.rstrip(b"\r\n")


def _json_records(content: IO[bytes]) -> Iterator[EventRecord]:
    for number, line in _lines(content):
        if line is None:
            yield _too_long(number)
        elif line.strip():
            yield EventRecord(f"line {number}", line)


def _csv_records(content: IO[bytes]) -> Iterator[EventRecord]:
    header: list[str] | None = None
    for number, line in _lines(content):
        if line is None:
            yield _too_long(number)
            continue
        if not line.strip():
            continue
        # A line is a row: no value of an event has a line break, and one stray quote must not swallow the rest.
        cells = _cells(line)
        if header is None:
            header = cells or []
            missing = [name for name in _COLUMNS if name not in header]
            if missing:
                yield EventRecord("line 1", None, f"the header lacks {', '.join(missing)}")
                return
        elif cells is None:
            yield EventRecord(f"line {number}", None, "expected CSV in UTF-8 with every quote closed")
        elif len(cells) != len(header):
            yield EventRecord(f"line {number}", None, f"found {len(cells)} fields, expected {len(header)}")
        else:
            yield EventRecord(f"line {number}", _as_json(dict(zip(header, cells, strict=True))))


def _cells(line: bytes) -> list[str] | None:
    try:
        rows = list(csv.reader(io.StringIO(line.decode()), strict=True))
    except (UnicodeDecodeError, csv.Error):
        return None
    return rows[0] if len(rows) == 1 else None


def _as_json(row: dict[str, str]) -> bytes:
    event: dict[str, object] = {name: row[name] for name in _COLUMNS if row[name]}
    message_id = next((row[name] for name in _MESSAGE_COLUMNS if row.get(name)), None)
    if message_id is not None:
        event["metadata"] = {"message_id": message_id}
    return json.dumps(event).encode()


def _too_long(number: int) -> EventRecord:
    return EventRecord(f"line {number}", None, f"longer than {_MAX_LINE_BYTES} bytes")
