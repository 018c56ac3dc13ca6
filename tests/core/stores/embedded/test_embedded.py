"""The embedded server: a real PostgreSQL each time. Everything here holds for root and for an ordinary user."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import LiteralString

import adbc_driver_postgresql.dbapi
import psutil
import psycopg
import pytest
import sqlalchemy

from bandicoot_core.errors import InvalidInputError, UnreachableError
from bandicoot_core.stores.embedded import place as embedded_place
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.embedded.place import Account, claim_private_folder, socket_dir_for
from bandicoot_core.stores.embedded.processes import file_lock, is_alive, server_processes

START_AND_PRINT = """
import sys
from pathlib import Path
import psycopg
from bandicoot_core.stores.embedded import server as embedded
server = embedded.start(Path(sys.argv[1]))
with psycopg.connect(server.url) as connection:
    print(connection.execute("SELECT pg_postmaster_start_time()").fetchone()[0].isoformat(), flush=True)
"""
START_AND_WAIT_FOR_CTRL_C = (
    # A shell that runs the tests in the background has taught them to ignore Ctrl-C.
    "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    + START_AND_PRINT
    + "time.sleep(60)\n"
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    yield folder
    embedded.destroy(folder)


@pytest.fixture(scope="module")
def worn_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home whose server has been through a lot: each test starts it from whatever state the last one left."""
    folder = tmp_path_factory.mktemp("worn")
    yield folder
    embedded.destroy(folder)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded.EmbeddedServer]:
    folder = tmp_path_factory.mktemp("running")
    yield embedded.start(folder)
    embedded.destroy(folder)


def python(script: str, home: Path) -> subprocess.Popen[str]:
    """Another Python process with the same packages, in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-c", script, str(home)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, process_group=0)


def started_at(server: embedded.EmbeddedServer) -> datetime:
    return datetime.fromisoformat(ask(server, "SELECT pg_postmaster_start_time()::text"))


def postmaster_pid(home: Path) -> int:
    return int((embedded.data_dir_for(home) / "postmaster.pid").read_text().split()[0])


def kill_server(home: Path) -> None:
    pid = postmaster_pid(home)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


def wait_until(is_true: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def setting(server: embedded.EmbeddedServer, name: LiteralString) -> str:
    return ask(server, f"SHOW {name}")


def ask(server: embedded.EmbeddedServer, query: LiteralString) -> str:
    with psycopg.connect(server.url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen_addresses", ""),
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("data_checksums", "on"),
        ("shared_buffers", "256MB"),
        ("max_wal_size", "4GB"),
        ("max_connections", "100"),
        ("TimeZone", "UTC"),
        ("server_encoding", "UTF8"),
        ("lc_messages", "C"),
    ],
)
def test_a_started_server_runs_with_the_promised_settings(
    running: embedded.EmbeddedServer, name: LiteralString, value: str
) -> None:
    assert setting(running, name) == value


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_sqlalchemy_reaches_the_database_with_either_driver(running: embedded.EmbeddedServer, driver: str) -> None:
    with sqlalchemy.create_engine(running.sqlalchemy_url(driver)).connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT current_database()")) == "bandicoot"


def test_adbc_reaches_the_database(running: embedded.EmbeddedServer) -> None:
    with adbc_driver_postgresql.dbapi.connect(running.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("bandicoot",)


def test_only_the_servers_owner_can_enter_the_socket_folder_and_the_data(running: embedded.EmbeddedServer) -> None:
    for folder in (running.socket_dir, running.data_dir):
        found = folder.stat()
        assert stat.S_IMODE(found.st_mode) == 0o700
        assert found.st_uid != 0
        assert os.geteuid() in (0, found.st_uid)


def test_a_second_start_attaches_to_the_same_server(worn_home: Path) -> None:
    first = embedded.start(worn_home)
    first_started_at = started_at(first)
    assert embedded.start(worn_home) == first
    assert embedded.status(worn_home) == first
    assert started_at(first) == first_started_at


def test_the_server_outlives_the_process_that_started_it_and_its_ctrl_c(home: Path) -> None:
    starter = python(START_AND_WAIT_FOR_CTRL_C, home)
    assert starter.stdout is not None
    said = starter.stdout.readline().strip()
    os.killpg(starter.pid, signal.SIGINT)
    assert starter.wait(timeout=30) != 0
    server = embedded.status(home)
    assert server is not None
    assert started_at(server) == datetime.fromisoformat(said)


def test_ten_processes_that_start_at_once_share_one_server(home: Path) -> None:
    starters = [python(START_AND_PRINT, home) for _ in range(10)]
    said = {starter.communicate(timeout=90)[0].strip() for starter in starters}
    assert [starter.returncode for starter in starters] == [0] * 10
    server = embedded.status(home)
    assert server is not None
    assert said == {started_at(server).isoformat()}


def test_threads_of_one_process_share_one_server(home: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        servers = list(threads.map(embedded.start, [home] * 4))
    assert len(set(servers)) == 1


def test_committed_rows_survive_a_killed_server(worn_home: Path) -> None:
    server = embedded.start(worn_home)
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE survived AS SELECT generate_series(1, 1000) AS number")
    os.kill(postmaster_pid(worn_home), signal.SIGKILL)
    with psycopg.connect(embedded.start(worn_home).url) as connection:
        assert connection.execute("SELECT sum(number) FROM survived").fetchone() == (500500,)


@pytest.mark.parametrize("act", [embedded.start, embedded.stop])
def test_children_that_outlive_a_killed_server_are_ended(worn_home: Path, act: Callable[[Path], object]) -> None:
    connection = psycopg.connect(embedded.start(worn_home).url)
    orphan = connection.info.backend_pid

    def work_without_end() -> None:
        with pytest.raises(psycopg.OperationalError):
            connection.execute("DO $$ BEGIN LOOP END LOOP; END $$")  # without a disk, whose writes would outlast a kill

    worker = threading.Thread(target=work_without_end)
    worker.start()
    process = psutil.Process(orphan)
    wait_until(lambda: process.cpu_times().user > 0.05)
    kill_server(worn_home)
    assert is_alive(orphan)
    act(worn_home)
    assert not is_alive(orphan)
    worker.join()
    with psycopg.connect(embedded.start(worn_home).url) as fresh:
        assert fresh.execute("SELECT 1").fetchone() == (1,)


def test_stop_ends_the_server_once_and_keeps_its_data(worn_home: Path) -> None:
    server = embedded.start(worn_home)
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept ()")
    assert embedded.stop(worn_home) is True
    assert embedded.status(worn_home) is None
    assert server_processes(server.data_dir) == []
    assert embedded.stop(worn_home) is False
    with psycopg.connect(embedded.start(worn_home).url) as connection:
        assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_stop_cuts_open_sessions(worn_home: Path) -> None:
    with psycopg.connect(embedded.start(worn_home).url) as connection:
        begun_at = time.monotonic()
        assert embedded.stop(worn_home) is True
        assert time.monotonic() - begun_at < 10
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")


def test_looking_and_stopping_write_nothing_where_nothing_was_started(tmp_path: Path) -> None:
    home = tmp_path / "absent"
    assert embedded.status(home) is None
    assert embedded.stop(home) is False
    embedded.destroy(home)
    assert list(tmp_path.iterdir()) == []
    assert not embedded.data_dir_for(home).exists()


def test_destroy_leaves_only_the_lock_in_the_home_folder(home: Path) -> None:
    server = embedded.start(home)
    embedded.destroy(home)
    assert server_processes(server.data_dir) == []
    assert not server.data_dir.exists()
    assert not server.socket_dir.exists()
    assert [path.name for path in home.iterdir()] == ["postgres.lock"]
    if os.geteuid() == 0:
        assert not server.data_dir.parent.exists()


def test_no_folder_above_or_beside_the_data_changes_its_mode_or_owner(tmp_path: Path, home: Path) -> None:
    home.mkdir(mode=0o700)
    neighbour = tmp_path / "private.txt"
    neighbour.touch(mode=0o600)
    watched = [neighbour, home, *home.parents, Path(sys.prefix), *Path(sys.prefix).parents]

    def seen() -> list[tuple[Path, int, int, int]]:
        return [(path, path.stat().st_mode, path.stat().st_uid, path.stat().st_gid) for path in watched]

    before = seen()
    embedded.start(home)
    embedded.stop(home)
    assert seen() == before


@pytest.mark.parametrize("name", ["x" * 120, "a blank, a 'quote\", $(touch hit) and 100%"])
def test_any_home_path_gives_a_short_plain_socket_path(tmp_path: Path, name: str) -> None:
    home = tmp_path / name / "home"
    try:
        server = embedded.start(home)
        assert len(os.fsencode(server.socket_dir / ".s.PGSQL.5432")) <= 107
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SHOW data_directory").fetchone() == (str(server.data_dir),)
        with sqlalchemy.create_engine(server.sqlalchemy_url("psycopg")).connect() as connection:
            assert connection.scalar(sqlalchemy.text("SELECT 1")) == 1
    finally:
        embedded.destroy(home)
    assert not server.socket_dir.exists()
    assert not server.data_dir.exists()


def test_variables_of_the_caller_do_not_shape_the_server(worn_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.stop(worn_home)
    for name, value in {"PGPORT": "6000", "PGDATA": "/nowhere", "PGHOST": "elsewhere", "PGDATESTYLE": "German"}.items():
        monkeypatch.setenv(name, value)
    server = embedded.start(worn_home)
    monkeypatch.delenv("PGDATESTYLE")  # the client would ask for it too
    assert setting(server, "DateStyle") == "ISO, MDY"
    assert setting(server, "port") == "5432"


def test_a_first_start_killed_half_way_heals(home: Path) -> None:
    data_dir = embedded.data_dir_for(home)
    half_made = data_dir.with_name("postgres.new")
    starter = python(START_AND_PRINT, home)
    wait_until((half_made / "PG_VERSION").exists)
    starter.kill()
    starter.communicate()
    assert not data_dir.exists()
    server = embedded.start(home)
    assert setting(server, "data_checksums") == "on"
    assert not half_made.exists()


def test_a_server_whose_data_were_deleted_is_replaced(home: Path) -> None:
    server = embedded.start(home)
    old_pid = postmaster_pid(home)
    shutil.rmtree(server.data_dir)
    assert embedded.status(home) is None
    with psycopg.connect(embedded.start(home).url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not is_alive(old_pid)


def test_a_server_whose_socket_was_deleted_is_replaced(worn_home: Path) -> None:
    server = embedded.start(worn_home)
    old_pid = postmaster_pid(worn_home)
    (server.socket_dir / ".s.PGSQL.5432").unlink()
    assert setting(embedded.start(worn_home), "port") == "5432"
    assert not is_alive(old_pid)


def test_a_dead_servers_process_id_may_belong_to_something_else_by_now(worn_home: Path) -> None:
    server = embedded.start(worn_home)
    owner = server.data_dir.stat()
    kill_server(worn_home)
    wait_until(lambda: not server_processes(server.data_dir))
    as_root = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], **as_root) as stranger:  # type: ignore[call-overload] # keywords by case
        for path in (server.data_dir / "postmaster.pid", server.socket_dir / ".s.PGSQL.5432.lock"):
            _, _, rest = path.read_text().partition("\n")
            path.write_text(f"{stranger.pid}\n{rest}")
        assert embedded.stop(worn_home) is False
        assert setting(embedded.start(worn_home), "port") == "5432"
        assert stranger.poll() is None
        stranger.kill()


def test_a_record_copied_from_another_home_is_not_taken_for_a_server(
    running: embedded.EmbeddedServer, worn_home: Path
) -> None:
    server = embedded.start(worn_home)
    embedded.stop(worn_home)
    shutil.copyfile(running.data_dir / "postmaster.pid", server.data_dir / "postmaster.pid")
    assert embedded.status(worn_home) is None
    assert embedded.stop(worn_home) is False
    assert setting(running, "port") == "5432"


@pytest.mark.parametrize("kind", ["link", "file", "open to all"])
def test_a_socket_folder_prepared_by_somebody_else_is_refused(tmp_path: Path, home: Path, kind: str) -> None:
    home.mkdir()
    socket_dir = socket_dir_for(embedded.data_dir_for(home))
    socket_dir.parent.mkdir(parents=True, exist_ok=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if kind == "link":
        socket_dir.symlink_to(elsewhere)
    elif kind == "file":
        socket_dir.touch(mode=0o600)
    else:
        socket_dir.mkdir()
        socket_dir.chmod(0o777)
    with pytest.raises(InvalidInputError, match="private folder"):
        embedded.start(home)
    assert embedded.status(home) is None
    assert list(elsewhere.iterdir()) == []


def test_a_socket_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        folder, account = tmp_path / "theirs", Account(1234, 1234)
        folder.mkdir(mode=0o700)
        os.chown(folder, 4321, 4321)
    else:
        folder, account = Path("/usr"), Account(os.geteuid(), os.getegid())
    before = folder.stat()
    with pytest.raises(InvalidInputError, match=f"of user id {before.st_uid}"):
        claim_private_folder(folder, account)
    assert (folder.stat().st_mode, folder.stat().st_uid) == (before.st_mode, before.st_uid)


def test_a_server_that_ends_while_starting_is_reported_with_its_log(worn_home: Path) -> None:
    server = embedded.start(worn_home)
    embedded.stop(worn_home)
    configuration = server.data_dir / "postgresql.conf"
    sound = configuration.read_text()
    configuration.write_text(f"{sound}\nno_such_setting = 1\n")
    with pytest.raises(UnreachableError, match="no_such_setting"):
        embedded.start(worn_home)
    configuration.write_text(sound)


def test_data_of_another_postgresql_version_are_refused_and_kept(worn_home: Path) -> None:
    server = embedded.start(worn_home)
    embedded.stop(worn_home)
    (server.data_dir / "PG_VERSION").write_text("16\n")
    with pytest.raises(InvalidInputError, match="found 16, expected data of PostgreSQL 18"):
        embedded.start(worn_home)
    (server.data_dir / "PG_VERSION").write_text("18\n")
    assert setting(embedded.start(worn_home), "port") == "5432"


def test_a_lock_that_is_not_released_ends_in_an_error_that_names_it(home: Path) -> None:
    home.mkdir()
    with (
        file_lock(home / "postgres.lock", time.monotonic()),
        pytest.raises(UnreachableError, match=r"home/postgres\.lock"),
    ):
        embedded.start(home, timeout_seconds=0.2)
    assert not embedded.data_dir_for(home).exists()


def test_a_lock_file_that_is_a_link_is_not_followed(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    (home / "postgres.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(InvalidInputError, match="lock file"):
        embedded.start(home)
    assert not (tmp_path / "victim").exists()
    (home / "postgres.lock").unlink()


def test_without_useradd_the_error_says_how_to_create_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_place, "_ACCOUNT_NAME", "bandicoot-absent")
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(InvalidInputError, match=r"useradd --system .* bandicoot"):
        embedded_place._system_account()
