"""What is said when Google Cloud Storage can't be reached, lets nobody in, or the package for it is not installed."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ibis.backends.duckdb import Backend
from replacing_process import WEEK, counts, write_counts
from upath import UPath

from bandicoot_core.contracts import PASSIVE_COUNTS
from bandicoot_core.errors import InvalidSettingError, UnreachableError
from bandicoot_core.stores.lake import reader as lake_reader
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.object_store import open_root
from tests.servers.gcs import BUCKET, gate_before


@contextmanager
def answering(status: int, message: str, *, delay_seconds: float = 0) -> Iterator[str]:
    """The address of a server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            time.sleep(delay_seconds)
            content = f'{{"error": {{"code": {status}, "message": "{message}"}}}}'.encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(BrokenPipeError):  # who asked has not waited
                self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_HEAD = do_PUT = _answer  # noqa: N815 - names the server looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def lake_at(address: str, timeout_seconds: float = 20) -> Lake:
    options = {"endpoint_url": address, "token": "anon", "requests_timeout": timeout_seconds}
    return Lake(UPath(f"gs://{BUCKET}/root", use_listings_cache=False, **options))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setitem(sys.modules, "gcsfs", None)
    known = sys.modules[fsspec.get_filesystem_class.__module__]._registry
    for protocol in ("gs", "gcs"):
        monkeypatch.delitem(known, protocol, raising=False)
    with pytest.raises(InvalidSettingError, match=r"BANDICOOT_LAKE_ROOT=gs://.*pip install 'bandicoot\[gcs\]'"):
        open_root("gs://somewhere/lake", timeout_seconds=5)


def test_an_unknown_kind_of_place_is_a_setting_out_of_bounds() -> None:
    with pytest.raises(InvalidSettingError, match=r"BANDICOOT_LAKE_ROOT=gsx://b/lake.*use a folder, gs://"):
        open_root("gsx://b/lake", timeout_seconds=5)


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "Anonymous caller does not have storage.objects.list access"), (403, "denied by policy")],
)
def test_who_is_not_let_in_is_told_what_the_bucket_wants(status: int, message: str) -> None:
    with answering(status, message) as address:
        lake = lake_at(address)
        for ask in (
            lambda: lake.partitions("sms_events"),
            lambda: lake.manifest("passive_counts", WEEK),
            lambda: write_counts(lake, 3),
        ):
            with pytest.raises(InvalidSettingError, match=r"does not let this process in.*roles/storage\.objectUser"):
                ask()


def test_a_store_that_does_not_answer_in_time_is_unreachable_and_the_wait_is_bounded() -> None:
    with answering(200, "late", delay_seconds=5) as address:
        started = time.monotonic()
        with pytest.raises(UnreachableError, match=r"does not answer.*BANDICOOT_LAKE_TIMEOUT_SECONDS"):
            lake_at(address, 0.5).partitions("sms_events")
        assert time.monotonic() - started < 4


def test_a_partition_written_by_another_process_is_seen_at_once(cloud_storage_address: str) -> None:
    root = f"gs://{BUCKET}/{id(cloud_storage_address)}-{time.time_ns()}"
    reader = Lake(root)
    assert reader.partitions("passive_counts") == []
    assert reader.manifest("passive_counts", WEEK) is None
    options = {"endpoint_url": cloud_storage_address, "token": "anon", "use_listings_cache": False}
    writer = Lake(UPath(root, **options))
    assert writer.root.fs is not reader.root.fs
    for n_rows in (3, 4):
        write_counts(writer, n_rows)
        assert reader.partitions("passive_counts") == [WEEK]
        assert reader.assets() == ["passive_counts"]
        assert reader.require("passive_counts", WEEK).n_rows() == n_rows
    writer.remove("passive_counts", WEEK)
    assert reader.partitions("passive_counts") == []
    write_counts(writer, 3)
    writer.clear()
    assert reader.root.fs.find(reader.root.path) == []


def test_a_large_object_is_read_by_the_engine_itself(
    cloud_storage_address: str, engine: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_reader, "_SMALL_BYTES", 0)
    lake = Lake(f"gs://{BUCKET}/large-{time.time_ns()}")
    write_counts(lake, 300)
    with lake.reader(engine) as reader:
        scanned = reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK])
        assert scanned.n_rr.sum().to_pyarrow().as_py() == sum(range(300))


def test_a_day_more_costs_two_requests_more_and_no_listing(cloud_storage_address: str, engine: Backend) -> None:
    """One listing for partitions, one for all sizes, and for each partition its manifest and its file."""
    with gate_before(cloud_storage_address) as gate:
        options = {"endpoint_url": gate.address, "token": "anon", "use_listings_cache": False}
        lake = Lake(UPath(f"gs://{BUCKET}/many-{time.time_ns()}", **options))
        days = [f"2026-11-{day:02d}" for day in range(1, 13)]
        for day in days:
            lake.write("passive_counts", day, {"data": (PASSIVE_COUNTS, counts(5))})
        gate.requests.clear()
        assert lake.partitions("passive_counts") == days
        assert len(gate.requests) == 1
        with lake.reader(engine) as reader:
            assert reader.scan(PASSIVE_COUNTS, "passive_counts", days).count().to_pyarrow().as_py() == 60
        assert len(gate.requests) <= 1 + 1 + 2 * len(days)
