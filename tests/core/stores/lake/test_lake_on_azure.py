"""A lake in Azure Blob Storage: what is written is read, of two writers one wins whole, and errors say what to do."""

import logging
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from azure.core.exceptions import ServiceResponseError
from ibis.backends.duckdb import Backend
from replacing_process import WEEK, counts, write_counts
from test_lake_on_gcs import answering
from test_lake_replacement import is_whole
from upath import UPath

from bandicoot_core.contracts import PASSIVE_COUNTS
from bandicoot_core.errors import ConflictingWriteError, InvalidSettingError, UnreachableError
from bandicoot_core.stores.lake import azure_blob
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import MANIFEST_NAME
from bandicoot_core.stores.lake.object_store import StoredText, open_root, read_stored, remove_stored, replace_stored
from tests.servers.azurite import CONTAINER, connection_string


@pytest.fixture
def lake_of(azure_connection: str) -> Callable[[], Lake]:
    """Makes lakes that reach one folder, which is the test's own, each as another process would."""
    root = f"az://{CONTAINER}/{uuid.uuid4().hex}"
    return lambda: Lake(UPath(root, use_listings_cache=False, skip_instance_cache=True, **azure_blob.options(20)))


def lake_at(address: str, timeout_seconds: float = 20, *, container: str = CONTAINER) -> Lake:
    """A lake at an address with a key of its own."""
    reached = {"use_listings_cache": False, **azure_blob.file_system_options(timeout_seconds)}
    return Lake(UPath(f"az://{container}/root", connection_string=connection_string(address), **reached))


def test_what_is_written_is_read_listed_and_removed(lake_of: Callable[[], Lake], engine: Backend) -> None:
    lake, other = lake_of(), lake_of()
    assert lake.root.fs is not other.root.fs
    assert lake.partitions("passive_counts") == []
    for n_rows in (3, 4, 5):
        write_counts(lake, n_rows)
        assert is_whole(other) == n_rows
    assert other.assets() == ["passive_counts"]
    with other.reader(engine) as reader:
        assert reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK]).count().to_pyarrow().as_py() == 5
    # This generation's files and those of the one before; what was before them is gone.
    assert len(lake.root.fs.find(lake.root.path)) == 5
    other.remove("passive_counts", WEEK)
    assert lake.partitions("passive_counts") == []
    assert lake.root.fs.find(lake.root.path) == []


def test_files_over_8_mib_are_read_by_the_engine_itself_and_verified(
    lake_of: Callable[[], Lake], engine: Backend
) -> None:
    lake, other = lake_of(), lake_of()
    n_rows, drawn = 1_200_000, random.Random(3)  # noqa: S311 - what does not compress
    columns = {
        name: pa.Array.from_buffers(pa.int16(), n_rows, [None, pa.py_buffer(drawn.randbytes(2 * n_rows))])
        for name in PASSIVE_COUNTS.column_names
    }
    files = {"mapper.skops": drawn.randbytes(9 << 20)}
    written = lake.write("passive_counts", WEEK, {"data": (PASSIVE_COUNTS, pa.table(columns))}, files=files)
    assert min(entry.n_bytes for entry in written.entries.values()) > 8 << 20
    with other.reader(engine) as reader:
        found = reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK])
        assert found.n_uu.sum().to_pyarrow().as_py() == pc.sum(columns["n_uu"]).as_py()
        rows = found.to_pyarrow().cast(PASSIVE_COUNTS.arrow_schema())
    assert rows.equals(lake.read(PASSIVE_COUNTS, "passive_counts", WEEK))
    assert other.read_bytes("passive_counts", WEEK, "mapper.skops") == files["mapper.skops"]
    assert other.verify("passive_counts", WEEK) == []


def test_of_two_writers_one_wins_whole_and_the_other_is_told(
    lake_of: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    for n_before in (0, 1):
        lake, other = lake_of(), lake_of()
        lake.clear()
        if n_before:
            write_counts(lake, n_before)
        upload = lake.root.fs.put_file
        has_written: list[bool] = []

        def upload_after_the_other(*args: object, **given: object) -> object:
            if not has_written:  # noqa: B023 - used within this turn of the loop
                has_written.append(True)  # noqa: B023
                write_counts(other, 2)  # noqa: B023
            return upload(*args, **given)  # noqa: B023

        monkeypatch.setattr(lake.root.fs, "put_file", upload_after_the_other)
        with pytest.raises(ConflictingWriteError, match="replaced by another writer"):
            write_counts(lake, 3)
        assert is_whole(other) == 2
        monkeypatch.undo()
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", lake.root.fs.connection_string)
        write_counts(lake, 3)
        assert is_whole(other) == 3


def test_many_writers_at_once_leave_one_of_their_partitions_whole(lake_of: Callable[[], Lake]) -> None:
    lakes = [lake_of() for _ in range(3)]
    write_counts(lakes[0], 1)

    def write_some(mine: Lake, first: int) -> None:
        for n_rows in range(first, first + 2):
            try:
                write_counts(mine, n_rows)
            except ConflictingWriteError:
                continue

    writers = [threading.Thread(target=write_some, args=pair) for pair in zip(lakes, (10, 20, 30), strict=True)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert is_whole(lake_of()) >= 10


def test_an_object_is_replaced_and_removed_only_as_it_was_read(lake_of: Callable[[], Lake]) -> None:
    path = lake_of().root / MANIFEST_NAME
    absent = read_stored(path)
    assert absent == StoredText(None, None)
    replace_stored(path, "first", absent)
    first = read_stored(path)
    with pytest.raises(ConflictingWriteError):
        replace_stored(path, "by who saw none", absent)
    replace_stored(path, "second", first)
    second = read_stored(path)
    with pytest.raises(ConflictingWriteError):
        replace_stored(path, "by who saw the first", first)
    # Its first attempt has arrived after all.
    replace_stored(path, "second", first)
    remove_stored(path, first.generation)
    assert read_stored(path) == second
    remove_stored(path, second.generation)
    assert read_stored(path) == absent
    remove_stored(path, second.generation)
    with pytest.raises(ConflictingWriteError):
        replace_stored(path, "by who saw what is gone", second)


def test_small_objects_are_read_many_at_once_and_absent_ones_are_none(
    lake_of: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of()
    days = [f"2026-11-{day:02d}" for day in range(1, 9)]
    for day in days[1:]:
        lake.write("passive_counts", day, {"data": (PASSIVE_COUNTS, counts(2))})
    n_under_way, most = 0, 0
    cat_file = lake.root.fs._cat_file

    async def counted(*args: object, **given: object) -> bytes:
        nonlocal n_under_way, most
        n_under_way += 1
        most = max(most, n_under_way)
        try:
            return await cat_file(*args, **given)
        finally:
            n_under_way -= 1

    monkeypatch.setattr(lake.root.fs, "_cat_file", counted)
    found = lake.manifests("passive_counts", days)
    assert [manifest and manifest.partition for manifest in found] == [None, *days[1:]]
    assert most == len(days)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, azure_connection: str) -> None:
    import fsspec

    for module in ("adlfs", "adlfs.spec"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "bandicoot_core.stores.lake.azure_file_system", raising=False)
    known = sys.modules[fsspec.get_filesystem_class.__module__]._registry
    for protocol in azure_blob.PROTOCOLS:
        monkeypatch.delitem(known, protocol, raising=False)
    with pytest.raises(InvalidSettingError, match=r"BANDICOOT_LAKE_ROOT=az://.*pip install 'bandicoot\[azure\]'"):
        open_root("az://somewhere/lake", timeout_seconds=5)


def test_without_an_account_the_variables_are_named_and_a_broken_one_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    named = "AZURE_STORAGE_CONNECTION_STRING.*AZURE_STORAGE_ACCOUNT_NAME"
    with pytest.raises(InvalidSettingError, match=named):
        open_root("az://somewhere/lake", timeout_seconds=5)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=s3cret")
    with pytest.raises(InvalidSettingError, match=named) as caught:
        open_root("az://somewhere/lake", timeout_seconds=6)
    assert "s3cret" not in str(caught.value)


def test_a_process_without_an_identity_is_told_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_STORAGE_CONNECTION_STRING"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "bandicoot")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    lake = Lake("az://somewhere/lake", timeout_seconds=7)
    with pytest.raises(InvalidSettingError, match=r"does not let this process in.*AZURE_STORAGE_ACCOUNT_NAME"):
        lake.partitions("sms_events")


def test_a_container_that_is_not_there_is_told_by_readers_and_writers(
    azure_connection: str, caplog: pytest.LogCaptureFixture
) -> None:
    lake = Lake("az://no-such-container/lake")
    for ask in (lambda: lake.partitions("sms_events"), lambda: write_counts(lake, 3)):
        with pytest.raises(InvalidSettingError, match=r"az://no-such-container/lake: there is no such container; make"):
            ask()


def test_a_wrong_key_is_refused_and_no_key_is_logged(azure_connection: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = azure_connection.partition("AccountKey=")[2].partition(";")[0]
    address = azure_connection.partition("BlobEndpoint=")[2].rpartition("/")[0]
    write_counts(Lake(f"az://{CONTAINER}/{uuid.uuid4().hex}"), 3)
    lake = lake_at(address)
    for ask in (
        lambda: lake.partitions("sms_events"),
        lambda: lake.manifest("passive_counts", WEEK),
        lambda: write_counts(lake, 3),
    ):
        with pytest.raises(
            InvalidSettingError, match=r"does not let this process in.*Storage Blob Data Contributor"
        ) as caught:
            ask()
        assert "a2V5" not in str(caught.value)
    assert key not in caplog.text
    assert "azure.core" not in caplog.text


def test_who_may_not_is_told_what_the_container_wants() -> None:
    with answering(403, "no") as address:
        lake = lake_at(address)
        for ask in (
            lambda: lake.partitions("sms_events"),
            lambda: lake.manifest("passive_counts", WEEK),
            lambda: write_counts(lake, 3),
        ):
            with pytest.raises(InvalidSettingError, match=r"does not let this process in.*Storage Blob Data"):
                ask()


def test_a_store_that_is_not_there_or_late_is_unreachable_and_the_wait_is_bounded() -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        lake_at("http://127.0.0.1:1", 1).partitions("sms_events")
    with answering(200, "late", delay_seconds=30) as address:
        lake = lake_at(address, 0.3)
        for ask in (lambda: lake.partitions("sms_events"), lambda: write_counts(lake, 3)):
            started = time.monotonic()
            with pytest.raises(UnreachableError, match=r"does not answer.*BANDICOOT_LAKE_TIMEOUT_SECONDS") as caught:
                ask()
            assert isinstance(caught.value.__cause__, ServiceResponseError)
            assert time.monotonic() - started < 20
