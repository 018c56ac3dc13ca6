"""A real PostgreSQL server without any configuration: start or attach, stop, look, remove.

The server's programs come from a Python wheel; its data lies under a home folder (see `embedded_place`). It listens
only on a Unix socket in a private folder, so whoever can enter that folder, its owner and root, needs no password.
It outlives the process that started it, until `stop`. What is kept in the database does not belong here.
"""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from bandicoot_core.errors import InvalidInputError, UnreachableError
from bandicoot_core.stores.embedded.launch import (
    DATABASE,
    SUPERUSER,
    arriving_path_for,
    initialize,
    is_initialized,
    launch,
    log_tail,
)
from bandicoot_core.stores.embedded.place import (
    SOCKET_PORT,
    Place,
    data_dir_for,
    log_path_for,
    older_log_path_for,
    prepare_place,
    socket_dir_for,
)
from bandicoot_core.stores.embedded.processes import (
    FAST_SHUTDOWN_SECONDS,
    end_processes,
    file_lock,
    is_alive,
    is_pid_taken,
    server_processes,
)

__all__ = ["EmbeddedServer", "data_dir_for", "destroy", "start", "status", "stop"]

_LOCK_NAME = "postgres.lock"
_POLL_SECONDS = 0.02
_SETTLE_POLL_SECONDS = 0.1
_APPEARANCE_SECONDS = 2.0
_IMPOSSIBLE_PID = 2**31 - 1


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server; `url` is for libpq (psycopg, ADBC): as superuser, to `database`, without a password."""

    data_dir: Path
    socket_dir: Path
    database: str
    url: str

    def sqlalchemy_url(self, driver: str) -> str:
        """The URL for SQLAlchemy with a driver, such as `psycopg` or `psycopg2`."""
        return self.url.replace("postgresql://", f"postgresql+{driver}://", 1)


@dataclass(frozen=True)
class _Record:
    """What a server says of itself in `postmaster.pid`; later lines may not be there yet."""

    pid: int
    data_dir: Path | None
    socket_dir: Path | None
    phase: str


def start(home: Path, *, timeout_seconds: float = 60) -> EmbeddedServer:
    """Start the home folder's server, or attach to it; any number of processes may do so at once.

    The first start creates the data and database `bandicoot`. A start that was killed half-way, a server that was
    killed and a machine that lost power heal here.

    Raises:
        UnreachableError: the server did not answer in time, or ended; the message has the end of its log.
        InvalidInputError: the folder, its owner or the machine does not allow a server; the message says which.
    """
    running = status(home)
    if running is not None:
        return running
    deadline = time.monotonic() + timeout_seconds
    try:
        home.expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"{home}: cannot be created ({error.strerror}); expected a folder that this user may write to. Mend its "
            "parent, or set BANDICOOT_HOME to another folder"
        ) from error
    with _exclusive(home, deadline):
        running = _settle(home, deadline)
        if running is not None:
            return running
        place = prepare_place(home, deadline)
        if not is_initialized(place.data_dir):
            initialize(place, deadline)
        return _wait_until_ready(home, place, launch(place), deadline)


def status(home: Path) -> EmbeddedServer | None:
    """The home folder's server if it runs and answers, else None; nothing is started or written.

    Raises:
        InvalidInputError: the data belong to another user.
    """
    data_dir = data_dir_for(home)
    record = _read_record(data_dir)
    # A record of another data directory came here with a copied home folder.
    if record is None or record.phase != "ready" or record.data_dir != data_dir or record.socket_dir is None:
        return None
    conninfo = make_conninfo(
        host=str(record.socket_dir), port=SOCKET_PORT, user=SUPERUSER, dbname=SUPERUSER, connect_timeout=2
    )
    if PGconn.ping(conninfo.encode()) != Ping.OK:
        return None
    # The port stands there so that a PGPORT in the environment does not change it.
    url = f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(record.socket_dir), safe='')}&port={SOCKET_PORT}"
    return EmbeddedServer(data_dir, record.socket_dir, DATABASE, url)


def stop(home: Path) -> bool:
    """Stop the home folder's server and whatever is left of an earlier one; sessions are cut, commits are kept.

    Returns:
        Whether anything was running.

    Raises:
        UnreachableError: it could not be ended, or runs where this process cannot see it (another container).
    """
    with _exclusive(home, time.monotonic() + FAST_SHUTDOWN_SECONDS):
        return _end(home)


def destroy(home: Path) -> None:
    """Stop the server and remove its data, log and socket folder for good; the home folder itself stays.

    Raises:
        UnreachableError: as `stop`; then nothing is removed.
    """
    data_dir = data_dir_for(home)
    with _exclusive(home, time.monotonic() + FAST_SHUTDOWN_SECONDS):
        _end(home)
        # Root's parent folder holds nothing but this server; an ordinary user's is the home folder.
        owned = [data_dir.parent] if os.geteuid() == 0 else [data_dir, arriving_path_for(data_dir)]
        for folder in owned:
            if folder.exists():
                shutil.rmtree(folder)
        for path in (log_path_for(data_dir), older_log_path_for(data_dir)):
            path.unlink(missing_ok=True)
        _remove_socket_dir(socket_dir_for(data_dir))


@contextmanager
def _exclusive(home: Path, deadline: float) -> Iterator[None]:
    """Keep other starts and stops of this home out; a home that does not exist has none to keep out."""
    folder = home.expanduser().resolve()
    if not folder.is_dir():
        yield
        return
    with file_lock(folder / _LOCK_NAME, deadline):
        yield


def _read_record(data_dir: Path) -> _Record | None:
    path = data_dir / "postmaster.pid"
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise InvalidInputError(
            f"{path}: belongs to another user, expected the one who runs this. Run as that user, or set "
            "BANDICOOT_HOME to another folder"
        ) from error
    if not lines or not lines[0].strip().isdigit():
        return None
    # Lines: process id, data directory, start time, port, socket folder, address, shared memory, phase.
    return _Record(
        pid=int(lines[0]),
        data_dir=Path(lines[1]) if len(lines) > 1 else None,
        socket_dir=Path(lines[4]) if len(lines) > 4 and lines[4] else None,
        phase=lines[7].strip() if len(lines) > 7 else "",
    )


def _settle(home: Path, deadline: float) -> EmbeddedServer | None:
    """Bring what earlier processes left behind to rest: the server answers, or no process of it is left.

    A server that is starting, recovering or stopping is waited for. Children of a killed postmaster, a server whose
    data were deleted or moved under it, and one whose socket is gone are ended: two servers on one data directory
    would destroy it.
    """
    data_dir = data_dir_for(home)
    first_seen_at = time.monotonic()
    while True:
        running = status(home)
        if running is not None:
            return running
        pids = {process.pid for process in server_processes(data_dir)}
        if not pids:
            _disown_reused_pid(data_dir)
            return None
        record = _read_record(data_dir)
        if record is None or record.pid not in pids:
            # One just launched by a killed process needs a moment to write its record, an orphan to end by itself.
            is_lost = time.monotonic() - first_seen_at >= _APPEARANCE_SECONDS
        else:
            is_lost = record.phase == "ready" and not _has_socket(record)
        if is_lost:
            end_processes(data_dir)
        elif time.monotonic() >= deadline:
            raise UnreachableError(
                f"{data_dir}: PostgreSQL runs there (processes {sorted(pids)}) but did not answer in time. If it is "
                f"recovering from a crash, wait and run again; else run `bandicoot stop` first. {log_tail(data_dir)}"
            )
        else:
            time.sleep(_SETTLE_POLL_SECONDS)


def _has_socket(record: _Record) -> bool:
    return record.socket_dir is not None and (record.socket_dir / f".s.PGSQL.{SOCKET_PORT}").exists()


def _disown_reused_pid(data_dir: Path) -> None:
    """Let PostgreSQL start although a dead server's process id now belongs to something else.

    That is common after a container restart, and where zombies are not reaped. Only the id is replaced: PostgreSQL
    goes on to check, by the shared memory named in the same record, that nothing of the old server is left.
    """
    record = _read_record(data_dir)
    if record is None or not is_pid_taken(record.pid):
        return
    path = data_dir / "postmaster.pid"
    _, _, rest = path.read_bytes().partition(b"\n")
    owner = data_dir.stat()
    # Written outside and moved in: as root, never through a link that the server's account may have put there.
    arriving = data_dir.with_name("postmaster.pid.new")
    arriving.write_bytes(b"%d\n" % _IMPOSSIBLE_PID + rest)
    arriving.chmod(0o600)
    os.chown(arriving, owner.st_uid, owner.st_gid)
    arriving.replace(path)


def _wait_until_ready(home: Path, place: Place, pid: int, deadline: float) -> EmbeddedServer:
    while True:
        running = status(home)
        if running is not None:
            return running
        if not is_alive(pid):
            raise UnreachableError(
                f"{place.data_dir}: PostgreSQL ended while it started; expected it to answer. Mend what its log says, "
                f"then run again. {log_tail(place.data_dir)}"
            )
        if time.monotonic() >= deadline:
            raise UnreachableError(
                f"{place.data_dir}: PostgreSQL (process {pid}) was launched but did not answer in time; it goes on "
                f"starting. Wait and run again. {log_tail(place.data_dir)}"
            )
        time.sleep(_POLL_SECONDS)


def _end(home: Path) -> bool:
    data_dir = data_dir_for(home)
    was_running = end_processes(data_dir)
    if status(home) is not None:
        raise UnreachableError(
            f"{data_dir}: its PostgreSQL answers, but its processes are not visible from here; expected them on this "
            "machine. Stop it from the container or by the user that started it"
        )
    return was_running


def _remove_socket_dir(folder: Path) -> None:
    """Remove the server's socket folder if there is one of ours; anything else in it makes this fail, untouched."""
    if not folder.is_dir() or folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        return
    for name in (f".s.PGSQL.{SOCKET_PORT}", f".s.PGSQL.{SOCKET_PORT}.lock"):
        (folder / name).unlink(missing_ok=True)
    folder.rmdir()
