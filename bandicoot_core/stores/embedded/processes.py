"""Other processes around an embedded server: keep them out with a file lock, find those of a server, end them.

Nothing here knows how a server is set up or started (`embedded`) nor where its files are (`embedded_place`).
"""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import psutil

from bandicoot_core.errors import InvalidInputError, UnreachableError

FAST_SHUTDOWN_SECONDS = 60.0
_ORPHAN_SECONDS = 2.0
_FORCED_SECONDS = 5.0
_POLL_SECONDS = 0.05  # a look at all processes takes 10 ms
_PROGRAMS = ("postgres", "initdb")


@contextmanager
def file_lock(path: Path, deadline: float) -> Iterator[None]:
    """Hold an exclusive lock on a file (created when absent) against processes and threads.

    `deadline` is on the scale of `time.monotonic()`. The kernel releases the lock of a killed process.

    Raises:
        UnreachableError: the lock was not free before the deadline.
        InvalidInputError: the file cannot be opened.
    """
    descriptor = _open_lock(path)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise UnreachableError(
                        f"{path}: another process has held the lock for the whole waiting time; it is starting or "
                        f"stopping the same embedded PostgreSQL. Wait for it, or end it (`fuser {path}` names it), "
                        "then run again"
                    ) from None
                time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            # Unlock by name: a child forked by another thread may still hold a copy of the descriptor.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    flags = os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            return os.open(path, flags | os.O_RDWR, 0o644)
        except PermissionError:  # made by root in this user's home: a reader may lock it as well
            return os.open(path, flags | os.O_RDONLY, 0o644)
    except OSError as error:
        raise InvalidInputError(
            f"{path}: cannot be opened as a lock file ({error.strerror}); expected a regular file in a folder that "
            "this user may write to. Mend its owner or mode, or set BANDICOOT_HOME to another folder"
        ) from error


def cluster_name(data_dir: Path) -> str:
    """The name that every process of the data directory's server carries in its title."""
    return f"bandicoot-{sha256(os.fsencode(data_dir)).hexdigest()[:16]}"


def server_processes(data_dir: Path) -> list[psutil.Process]:
    """The live PostgreSQL processes that work on a data directory, visible from here; zombies are not alive.

    Includes children that outlived a killed postmaster, and servers whose data directory was deleted or moved.
    """
    found = []
    for process in psutil.process_iter():
        # A process that ended meanwhile, or one of another user whose details are closed, is none of ours.
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if (
                process.name() in _PROGRAMS
                and process.status() != psutil.STATUS_ZOMBIE
                and (_is_titled(process, data_dir) or _is_inside(process, data_dir))
            ):
                found.append(process)
    return found


def _is_titled(process: psutil.Process, data_dir: Path) -> bool:
    """Whether the command line names the data directory (a postmaster) or its cluster (a child)."""
    command = process.cmdline()
    if command and command[0].startswith("postgres:"):
        return command[0].startswith(f"postgres: {cluster_name(data_dir)}: ")
    return any(pair == ("-D", str(data_dir)) for pair in pairwise(command))


def _is_inside(process: psutil.Process, data_dir: Path) -> bool:
    """Whether the process works in the data directory.

    Follows a renamed folder. Not readable for root in a container without CAP_SYS_PTRACE, hence the titles.
    """
    return process.cwd() == str(data_dir)


def end_processes(data_dir: Path) -> bool:
    """End every process of a data directory: fast shutdown first, force only for what does not go.

    Children without a postmaster end by themselves within moments; they are given that time before they are told.
    Ending by force loses nothing that was committed: the next start replays the log.

    Returns:
        Whether there was any.

    Raises:
        UnreachableError: a process survived even SIGKILL (it hangs in the kernel, usually on a disk).
    """
    processes = server_processes(data_dir)
    if not processes:
        return False
    postmasters = [process for process in processes if _is_postmaster(process)]
    _send(postmasters, signal.SIGINT)
    if not _wait_until_gone(data_dir, processes, FAST_SHUTDOWN_SECONDS if postmasters else _ORPHAN_SECONDS):
        for forced in (signal.SIGQUIT, signal.SIGKILL):
            left = server_processes(data_dir)
            _send(left, forced)
            if _wait_until_gone(data_dir, [*processes, *left], _FORCED_SECONDS):
                return True
        pids = ", ".join(str(process.pid) for process in server_processes(data_dir))
        raise UnreachableError(
            f"{data_dir}: PostgreSQL processes {pids} did not end even after SIGKILL; they hang in the kernel, "
            "usually on a disk that does not answer. Check the disk, then run again"
        )
    return True


def _is_postmaster(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):  # gone meanwhile: neither
        command = process.cmdline()
        return bool(command) and not command[0].startswith("postgres:")
    return False


def _send(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it has just gone, which is what was wanted
            process.send_signal(number)


def _wait_until_gone(data_dir: Path, known: list[psutil.Process], seconds: float) -> bool:
    """Whether nothing works on the data directory any more, and the known processes have ended, before the time is up.

    A process on its way out has lost its title and working directory while it still runs: only its id tells.
    """
    deadline = time.monotonic() + seconds
    while any(process.is_running() and is_alive(process.pid) for process in known) or server_processes(data_dir):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not (where PID 1 reaps nothing, a killed server stays one)."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_pid_taken(pid: int) -> bool:
    """Whether a process id is in use, be it by a zombie."""
    return psutil.pid_exists(pid)
