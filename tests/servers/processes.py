"""What every server of the tests needs: an account to run as, a folder and a port of its own, a start and an end.

Nothing here knows what kind of server it is.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

_ORPHAN_SECONDS = 10.0
_POLL_SECONDS = 0.02


def account() -> pwd.struct_passwd:
    """Who runs the servers: `postgres` when the tests run as root, which PostgreSQL refuses, else the tests' user."""
    return pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def free_port() -> int:
    """A port of the loopback that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(name: str, *folders: str) -> str:
    """The path of a server's program; the folders (globs, the newest first) are looked through before PATH."""
    for folder in folders:
        for found in sorted(Path("/").glob(f"{folder.lstrip('/')}/{name}"), reverse=True):
            return str(found)
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if path is None:
        raise FileNotFoundError(f"{name} is not installed; run tests/install_servers.sh")
    return path


@contextmanager
def private_folder(name: str) -> Iterator[Path]:
    """A temporary folder that belongs to the servers' account; its path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix=f"bandicoot-{name}-") as folder:
        give_away(Path(folder))
        yield Path(folder)


def give_away(path: Path, mode: int | None = None) -> None:
    """Make the servers' account the owner of a file or folder."""
    if mode is not None:
        path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, account().pw_uid, account().pw_gid)


def run(command: Sequence[str], cwd: Path) -> None:
    """Run a program to its end as the servers' account; RuntimeError with what it said when it fails."""
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **_identity()
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stdout}")


def launch(
    command: Sequence[str], cwd: Path, log: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server as the servers' account, out of reach of the terminal's Ctrl-C; it may not answer yet.

    `environment` is added to the little that every server is given.
    """
    with log.open("ab") as written:
        return subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **_identity(environment),
        )


def wait_until(
    is_ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, *, timeout_seconds: float = 60
) -> None:
    """Wait for a launched server; RuntimeError with the end of its log when it ends or stays silent."""
    deadline = time.monotonic() + timeout_seconds
    while not is_ready():
        if process.poll() is not None or time.monotonic() >= deadline:
            state = "does not answer" if process.returncode is None else f"ended with {process.returncode}"
            raise RuntimeError(f"{process.args!r} {state}: {log.read_text(errors='replace')[-3000:]}")
        time.sleep(_POLL_SECONDS)


def kill(process: subprocess.Popen[bytes]) -> None:
    """kill -9, and wait until its children, who notice by themselves, have ended too."""
    children = _children(process)
    process.kill()
    process.wait()
    _, left = psutil.wait_procs(children, timeout=_ORPHAN_SECONDS)
    for child in left:
        child.kill()
    psutil.wait_procs(left, timeout=_ORPHAN_SECONDS)


def end(process: subprocess.Popen[bytes], signal_number: signal.Signals, *, timeout_seconds: float = 30) -> None:
    """Ask a server to end by its own signal and wait for it; one that does not in time, or was stopped, is killed."""
    if process.poll() is None:
        process.send_signal(signal_number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            kill(process)


def _children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _identity(added: Mapping[str, str] | None = None) -> dict[str, object]:
    """Arguments of subprocess that make a program run as the servers' account, with nothing else of ours."""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **(added or {})}
    if os.geteuid() != 0:
        return {"env": environment}
    return {"env": environment, "user": account().pw_uid, "group": account().pw_gid, "extra_groups": []}
