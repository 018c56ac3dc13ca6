"""Files of events: which are read, and that every line comes once with its number, however much is read at once."""

import gzip
import json
import os
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bandicoot_core.errors import ConflictingWriteError, InvalidSettingError
from bandicoot_core.stores.events.files import EventFile, list_event_files, read_event_file
from bandicoot_core.stores.events.records import EventRecord
from bandicoot_core.stores.lake.object_store import open_root

NOW = datetime(2026, 11, 20, 6, 30, tzinfo=UTC)
OPENED = {
    "event_type": "sms_opened",
    "caregiver_id": "CG-1",
    "timestamp": "2026-11-20T12:00:00+05:30",
    "metadata": {"message_id": "M-1"},
}


def put(path: Path, content: bytes, *, age_seconds: float = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    changed = (NOW - timedelta(seconds=age_seconds)).timestamp()
    os.utime(path, (changed, changed))
    return path


def listed(folder: Path) -> list[EventFile]:
    return list_event_files(str(folder), settled_before=NOW - timedelta(seconds=5), timeout_seconds=10)


def records(path: Path, at_once: int = 1000) -> list[EventRecord]:
    [file] = [file for file in listed(path.parent) if file.uri == str(path)]
    chunks = list(read_event_file(file, records_at_once=at_once, timeout_seconds=10))
    assert all(len(chunk) == at_once for chunk in chunks[:-1])
    return [record for chunk in chunks for record in chunk]


def test_only_finished_files_of_events_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/c.csv.gz", "d.ndjson", "e.json"):
        put(tmp_path / name, b"{}\n")
    for name in (".x.jsonl", "_x/y.jsonl", "x.jsonl.tmp", "x.jsonl.part", "x.txt", "x.parquet"):
        put(tmp_path / name, b"{}\n")
    put(tmp_path / "fresh.jsonl", b"{}", age_seconds=1)
    assert [file.uri for file in listed(tmp_path)] == [
        str(tmp_path / name) for name in ("a/c.csv.gz", "b.jsonl", "d.ndjson", "e.json")
    ]
    assert listed(tmp_path / "absent") == []


def test_a_file_that_was_changed_has_another_version(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", b"{}\n")
    [before] = listed(tmp_path)
    assert listed(tmp_path) == [before]
    put(tmp_path / "a.jsonl", b"[]\n", age_seconds=59)
    assert listed(tmp_path)[0].version != before.version


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b"")), max_size=9),
    st.integers(1, 4),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.booleans(),
)
def test_every_line_comes_once_with_its_number(
    tmp_path: Path, lines: list[bytes], at_once: int, end: bytes, is_ended: bool, is_packed: bool
) -> None:
    content = end.join(lines) + (end if is_ended else b"")
    path = put(tmp_path / ("a.jsonl.gz" if is_packed else "a.jsonl"), gzip.compress(content) if is_packed else content)
    expected = [(f"line {number}", line) for number, line in enumerate(lines, 1) if line.strip()]
    if lines and lines[0].startswith(b"\xef\xbb\xbf"):
        return
    assert [(record.position, record.payload) for record in records(path, at_once)] == expected


def test_a_row_of_csv_is_the_event_it_stands_for(tmp_path: Path) -> None:
    text = (
        "﻿name,timestamp,caregiver_id,event_type,message_id\n"
        "Asha,2026-11-20T12:00:00+05:30,CG-1,sms_opened,M-1\n"
        '"Devi, Uma",2026-11-20T12:00:00+05:30,CG-2,vaccination_completed,\n'
        "\n"
        "too,few\n"
        '"open,2026-11-20T12:00:00+05:30,CG-1,sms_opened,M-1\n'
    )
    found = records(put(tmp_path / "a.csv", text.encode() + b"\xff,,,,\n"))
    assert [json.loads(record.payload) if record.payload else record.problem for record in found] == [
        OPENED,
        {"event_type": "vaccination_completed", "caregiver_id": "CG-2", "timestamp": "2026-11-20T12:00:00+05:30"},
        "found 2 fields, expected 5",
        "expected CSV in UTF-8 with every quote closed",
        "expected CSV in UTF-8 with every quote closed",
    ]
    assert [record.position for record in found] == [f"line {n}" for n in (2, 3, 5, 6, 7)]


def test_a_header_that_lacks_a_column_is_the_only_record(tmp_path: Path) -> None:
    [record] = records(put(tmp_path / "a.csv", b"caregiver_id,message_id\nCG-1,M-1\n"))
    assert record == EventRecord("line 1", None, "the header lacks event_type, timestamp")


def test_a_header_that_is_too_long_is_the_only_record(tmp_path: Path) -> None:
    [record] = records(put(tmp_path / "a.csv", b"x" * (2 << 20) + b"\nCG-1,M-1\nCG-2,M-2\n"))
    assert (record.position, record.payload) == ("line 1", None)


def test_a_line_that_is_too_long_is_one_record_and_the_rest_is_read(tmp_path: Path) -> None:
    found = records(put(tmp_path / "a.jsonl", b"x" * (3 << 20) + b"\n{}\n"))
    assert [(record.position, record.payload) for record in found] == [("line 1", None), ("line 2", b"{}")]


def test_a_file_that_is_gone_or_cut_off_is_said_so(tmp_path: Path) -> None:
    path = put(tmp_path / "a.jsonl", b"{}\n")
    [file] = listed(tmp_path)
    path.unlink()
    with pytest.raises(ConflictingWriteError, match="is gone"):
        list(read_event_file(file, records_at_once=1, timeout_seconds=10))
    cut = put(tmp_path / "b.jsonl.gz", gzip.compress(b"{}\n" * 1000)[:-8])
    with pytest.raises(ConflictingWriteError, match="is not whole"):
        records(cut)
    whole = bytearray(gzip.compress(b"".join(b"%d\n" % n for n in range(3000))))
    whole[300:302] = b"\xff\xff"
    with pytest.raises(ConflictingWriteError, match="is not whole"):
        records(put(tmp_path / "c.jsonl.gz", bytes(whole)))


def test_a_folder_may_be_named_by_its_uri(tmp_path: Path) -> None:
    put(tmp_path / "a.jsonl", b"{}\n")
    assert list_event_files(tmp_path.as_uri(), settled_before=NOW, timeout_seconds=10) == listed(tmp_path)


def test_what_is_wrong_with_the_folder_names_its_own_setting() -> None:
    with pytest.raises(InvalidSettingError, match=r"^BANDICOOT_EVENTS_FOLDER=gsx://b/in: "):
        list_event_files("gsx://b/in", settled_before=NOW, timeout_seconds=10)


def test_a_bucket_that_lets_nobody_in_is_told_as_the_folder_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(403, "denied by policy")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
    told = r"^the folder of events gs://events-test/in does not let this process in.*roles/storage\.objectViewer"
    try:
        with pytest.raises(InvalidSettingError, match=told):
            list_event_files("gs://events-test/in", settled_before=NOW, timeout_seconds=5)
    finally:
        server.shutdown()
        server.server_close()
        fsspec.filesystem("gs").clear_instance_cache()


@pytest.mark.parametrize(("scheme", "emulator"), [("gs", "cloud_storage_address"), ("az", "azure_connection")])
def test_a_bucket_is_read_like_a_folder(request: pytest.FixtureRequest, scheme: str, emulator: str) -> None:
    request.getfixturevalue(emulator)
    folder = f"{scheme}://events-test/in"
    store = open_root(folder, timeout_seconds=10).fs
    store.mkdir("events-test")
    line = json.dumps(OPENED).encode()
    store.pipe_file("events-test/in/a.jsonl", line + b"\n" + line)
    store.pipe_file("events-test/in/_b.jsonl", line)
    [file] = list_event_files(folder, settled_before=NOW, timeout_seconds=10)
    assert file.uri == f"{folder}/a.jsonl"
    [chunk] = read_event_file(file, records_at_once=10, timeout_seconds=10)
    assert [record.payload for record in chunk] == [line, line]
    store.pipe_file("events-test/in/a.jsonl", line)
    assert list_event_files(folder, settled_before=NOW, timeout_seconds=10)[0].version != file.version
    store.rm_file("events-test/in/a.jsonl")
    with pytest.raises(ConflictingWriteError, match=r"a\.jsonl is gone"):
        next(read_event_file(file, records_at_once=10, timeout_seconds=10))
