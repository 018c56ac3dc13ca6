"""Running PostgreSQL's own programs for an embedded server: create a data directory, launch the server, its log.

All of the server's settings are here. When to do which, and whether a server answers, is decided in `embedded`.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bandicoot_core.errors import InvalidInputError, UnreachableError
from bandicoot_core.stores.embedded.place import (
    POSTGRESQL_MAJOR,
    SOCKET_PORT,
    Place,
    claim_private_folder,
    log_path_for,
    older_log_path_for,
    socket_dir_for,
)
from bandicoot_core.stores.embedded.processes import cluster_name, end_processes

SUPERUSER = "postgres"
DATABASE = "bandicoot"
# Given on the command line at every start, so that a data directory of an older release gets them too.
SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": str(SOCKET_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
    # Details and statements quote rows, and with them caregivers.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
# The caller's PG* variables, locale and time zone must not shape a server that outlives it.
_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_LOG_LINES = 15
_MAX_LOG_BYTES = 10_000_000


def arriving_path_for(data_dir: Path) -> Path:
    """Where a data directory is built before it gets its name."""
    return data_dir.with_name(f"{data_dir.name}.new")


def is_initialized(data_dir: Path) -> bool:
    """Whether a complete data directory of this PostgreSQL version is there.

    Raises:
        InvalidInputError: something else is there.
    """
    if not data_dir.exists() or not any(data_dir.iterdir()):
        return False
    version_file = data_dir / "PG_VERSION"
    found = version_file.read_text(encoding="ascii").strip() if version_file.exists() else "no PG_VERSION"
    if found != str(POSTGRESQL_MAJOR):
        raise InvalidInputError(
            f"{data_dir}: found {found}, expected data of PostgreSQL {POSTGRESQL_MAJOR}. Move the folder away to start "
            "with an empty database, or move the data over with pg_dump of the version that wrote them"
        )
    return True


def initialize(place: Place, deadline: float) -> None:
    """Create the data directory with its database, under its final name only when complete and on disk.

    Raises:
        UnreachableError: PostgreSQL's programs failed (usually no space) or were not done at the deadline.
    """
    arriving = arriving_path_for(place.data_dir)
    if arriving.exists():  # left by a killed process, whose initdb may still be writing
        end_processes(arriving)
        shutil.rmtree(arriving)
    claim_private_folder(arriving, place.account)
    where = ("-D", str(arriving))
    encoding = ("--encoding=UTF8", "--locale=C", "--data-checksums")
    _run(place, deadline, ["initdb", *where, f"--username={SUPERUSER}", "--auth=trust", *encoding])
    # In single-user mode: the database is there before the data directory has its name, so it never lacks.
    single = ["postgres", "--single", *where, "-c", "exit_on_error=on", SUPERUSER]
    _run(place, deadline, single, typed=f"CREATE DATABASE {DATABASE}\n")
    arriving.rename(place.data_dir)
    descriptor = os.open(place.data_dir.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _run(place: Place, deadline: float, command: Sequence[str], *, typed: str = "") -> None:
    """Run one of PostgreSQL's programs to its end, with words typed to it."""
    try:
        done = _spawn(
            place,
            [str(place.binaries / command[0]), *command[1:]],
            stderr=subprocess.STDOUT,
            typed=typed,
            timeout_seconds=max(deadline - time.monotonic(), 0.0),
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(
            f"{place.data_dir}: PostgreSQL's {command[0]} was not done in time; the disk or the machine is slow. "
            "Run again, with a longer timeout if it can be given"
        ) from error
    if done.returncode != 0:
        raise UnreachableError(
            f"{place.data_dir}: PostgreSQL's {command[0]} ended with {done.returncode}, expected 0. Mend what it says "
            f"(often a full disk), then run again:\n{_last_lines(done.stdout)}"
        )


def _spawn(
    place: Place, command: Sequence[str], *, stderr: int, typed: str = "", timeout_seconds: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command as the server's account, out of reach of the terminal's Ctrl-C."""
    is_root = os.geteuid() == 0
    return subprocess.run(  # noqa: S603 - every word is ours or a path, and no shell reads them # nosec B603
        command,
        input=typed,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout_seconds,
        cwd=place.data_dir.parent,
        env=_ENVIRONMENT,
        start_new_session=True,
        umask=0o077,
        user=place.account.uid if is_root else None,
        group=place.account.gid if is_root else None,
        extra_groups=[] if is_root else None,
    )


def launch(place: Place) -> int:
    """Launch the server in a session of its own and return its process id; it does not answer yet.

    No process of an earlier server of the data directory may be left. A shell stands between, so that the server is
    nobody's child: a long-lived caller would otherwise keep it as a zombie, which PostgreSQL takes for a running one.

    Raises:
        InvalidInputError: the socket's folder is not private.
    """
    socket_dir = socket_dir_for(place.data_dir)
    claim_private_folder(socket_dir, place.account)
    # Left by a killed server, whose process id may be another process's by now; the caller knows that none is left.
    (socket_dir / f".s.PGSQL.{SOCKET_PORT}.lock").unlink(missing_ok=True)
    settings = {
        **SERVER_SETTINGS,
        "unix_socket_directories": str(socket_dir),
        "cluster_name": cluster_name(place.data_dir),
    }
    flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    script = '"$0" "$@" </dev/null >&2 & echo $!'
    program = [str(place.binaries / "postgres"), "-D", str(place.data_dir), *flags]
    log = _open_log(place.data_dir)
    try:
        shell = _spawn(place, ["/bin/sh", "-c", script, *program], stderr=log)
    finally:
        os.close(log)
    return int(shell.stdout)


def _open_log(data_dir: Path) -> int:
    """Open the log for appending; one that grew large becomes the older log."""
    path = log_path_for(data_dir)
    if path.exists() and path.stat().st_size > _MAX_LOG_BYTES:
        path.replace(older_log_path_for(data_dir))
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def log_tail(data_dir: Path) -> str:
    """The last lines of the server's log, for an error message."""
    path = log_path_for(data_dir)
    if not path.exists():
        return f"There is no log at {path} yet"
    return f"The last lines of {path}:\n{_last_lines(path.read_text(encoding='utf-8', errors='replace'))}"


def _last_lines(text: str) -> str:
    return "\n".join(text.splitlines()[-_LOG_LINES:])
