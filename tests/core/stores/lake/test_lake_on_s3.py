"""A lake in S3: what is written is read, of two writers one wins whole, and errors say what to do."""

import sys
import threading
import uuid
from collections.abc import Callable, Iterator

import pytest
from ibis.backends.duckdb import Backend
from replacing_process import WEEK, write_counts
from test_lake_on_gcs import answering
from test_lake_replacement import is_whole
from upath import UPath

from bandicoot_core.contracts import PASSIVE_COUNTS
from bandicoot_core.errors import ConflictingWriteError, InvalidSettingError, UnreachableError
from bandicoot_core.stores.lake import amazon
from bandicoot_core.stores.lake import reader as lake_reader
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import MANIFEST_NAME
from bandicoot_core.stores.lake.object_store import open_root
from tests.servers.s3 import BUCKET, options, s3


@pytest.fixture(scope="module")
def s3_address() -> Iterator[str]:
    with s3() as address:
        yield address


@pytest.fixture
def lake_of(s3_address: str) -> Callable[[], Lake]:
    """Makes lakes that reach one folder, which is the test's own, each as another process would."""
    root = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    return lambda: Lake(
        UPath(root, use_listings_cache=False, skip_instance_cache=True, **amazon.options(20), **options(s3_address))
    )


def test_what_is_written_is_read_listed_and_removed(lake_of: Callable[[], Lake], engine: Backend) -> None:
    lake, other = lake_of(), lake_of()
    assert lake.partitions("passive_counts") == []
    for n_rows in (3, 4, 5):
        write_counts(lake, n_rows)
        assert is_whole(other) == n_rows
    assert other.assets() == ["passive_counts"]
    with other.reader(engine) as reader:
        assert reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK]).count().to_pyarrow().as_py() == 5
    # This generation's files and those of the one before; what was before them is gone.
    names = [path.rpartition("/")[2] for path in lake.root.fs.find(lake.root.path)]
    assert len(names) == 5
    other.remove("passive_counts", WEEK)
    assert lake.partitions("passive_counts") == []


def test_a_large_object_is_read_by_the_engine_itself(
    lake_of: Callable[[], Lake], engine: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lake_reader, "_SMALL_BYTES", 0)
    lake = lake_of()
    write_counts(lake, 300)
    with lake.reader(engine) as reader:
        scanned = reader.scan(PASSIVE_COUNTS, "passive_counts", [WEEK])
        assert scanned.n_rr.sum().to_pyarrow().as_py() == sum(range(300))


def test_the_manifest_is_written_on_the_condition_that_it_is_the_one_found_before(
    lake_of: Callable[[], Lake], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = lake_of()
    asked: list[tuple[str, object]] = []
    call = lake.root.fs.call_s3

    def recorded(method: str, **arguments: object) -> object:
        asked.append((method, arguments.get("IfMatch") or arguments.get("IfNoneMatch")))
        return call(method, **arguments)

    monkeypatch.setattr(lake.root.fs, "call_s3", recorded)
    write_counts(lake, 1)
    tag = lake.root.fs.info((lake.folder("passive_counts", WEEK) / MANIFEST_NAME).path)["ETag"]
    write_counts(lake, 2)
    write_counts(lake, 3)
    written = [condition for method, condition in asked if method == "put_object"]
    assert written[:2] == ["*", tag]
    removed = [condition for method, condition in asked if method == "delete_object"]
    assert removed
    assert all(removed)


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


def test_a_manifest_that_arrived_at_the_first_try_is_no_conflict_at_the_second(lake_of: Callable[[], Lake]) -> None:
    from bandicoot_core.stores.lake.object_store import StoredText, read_stored, replace_stored

    path = lake_of().root / "once.json"
    replace_stored(path, "mine", StoredText(None, None))
    replace_stored(path, "mine", StoredText(None, None))
    assert read_stored(path).text == "mine"
    with pytest.raises(ConflictingWriteError):
        replace_stored(path, "another's", StoredText(None, None))
    assert read_stored(path).text == "mine"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    monkeypatch.setitem(sys.modules, "s3fs", None)
    known = sys.modules[fsspec.get_filesystem_class.__module__]._registry
    for protocol in amazon.PROTOCOLS:
        monkeypatch.delitem(known, protocol, raising=False)
    with pytest.raises(InvalidSettingError, match=r"BANDICOOT_LAKE_ROOT=s3://.*pip install 'bandicoot\[s3\]'"):
        open_root("s3://somewhere/lake", timeout_seconds=5)


def lake_at(address: str, timeout_seconds: float) -> Lake:
    reached = {"use_listings_cache": False, **amazon.options(timeout_seconds), **options(address)}
    reached["config_kwargs"] |= {"retries": {"total_max_attempts": 1}}
    return Lake(UPath(f"s3://{BUCKET}/root", **reached))


def test_who_is_not_let_in_is_told_what_the_bucket_wants() -> None:
    with answering(403, "no") as address:
        lake = lake_at(address, 20)
        for ask in (
            lambda: lake.partitions("sms_events"),
            lambda: lake.manifest("passive_counts", WEEK),
            lambda: write_counts(lake, 3),
        ):
            with pytest.raises(InvalidSettingError, match=r"does not let this process in.*s3:PutObject"):
                ask()


def test_a_store_that_is_not_there_or_late_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match="does not answer"):
        lake_at("http://127.0.0.1:1", 1).partitions("sms_events")
    with (
        answering(200, "late", delay_seconds=5) as address,
        pytest.raises(UnreachableError, match=r"does not answer.*BANDICOOT_LAKE_TIMEOUT_SECONDS"),
    ):
        lake_at(address, 0.3).partitions("sms_events")
