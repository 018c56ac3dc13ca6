"""Images and containers for the checks: a base made of Debian's packages, buildah to build, podman to run.

Everything is below one folder and goes with it, so that a machine's own images and containers are left alone. runc, and
vfs where the kernel gives no overlay, work inside a container or a small virtual machine as well.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER = 10001
BASE_PACKAGES = ("ca-certificates", "python-is-python3", "python3", "python3-pip", "python3-venv")
_PIP_PATHS = ("cert", "constraint", "extra-index-url", "find-links")


def run(command: Sequence[str], *, timeout: float = 900, environment: Mapping[str, str] | None = None) -> str:
    """A program's standard output; AssertionError with what it said when it fails."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(environment or {})}, check=False
    )
    assert done.returncode == 0, (
        f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout


@dataclass(frozen=True)
class Containers:
    """Images and containers below one folder."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What makes buildah, also when a script calls it, build into this folder."""
        configuration = self.folder / "storage.conf"
        if not configuration.exists():
            storage, volatile = self.folder / "storage", self.folder / "run"
            configuration.write_text(
                f'[storage]\ndriver = "{_driver(self.folder)}"\ngraphroot = "{storage}"\nrunroot = "{volatile}"\n',
                encoding="utf-8",
            )
        return {
            "CONTAINERS_STORAGE_CONF": str(configuration),
            "BUILDAH_ISOLATION": "chroot",
            "TMPDIR": str(self.folder),
        }

    def podman(self, *arguments: str, timeout: float = 600) -> str:
        """Standard output of podman."""
        options = ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
        return run(["podman", *options, *arguments], timeout=timeout, environment=self.environment)

    def import_base(self, name: str, archive: Path) -> None:
        """An image of a root file system, made by mmdebstrap unless the archive is there."""
        if not archive.exists():
            archive.parent.mkdir(parents=True, exist_ok=True)
            arriving = archive.with_name(f"arriving-{os.getpid()}.tar")
            sources = [str(path) for path in Path("/etc/apt").glob("sources.list*/*.sources")]
            include = f"--include={','.join(BASE_PACKAGES)}"
            run(["mmdebstrap", "--variant=minbase", include, "bookworm", str(arriving), *sources])
            arriving.replace(archive)
        self.podman("import", "--quiet", str(archive), name)

    def size_mb(self, image: str) -> float:
        """Size of an image, uncompressed."""
        return int(self.podman("image", "inspect", "--format", "{{.Size}}", image)) / 1e6

    def inspect(self, image: str) -> dict[str, Any]:
        """What is known of an image."""
        found: dict[str, Any] = json.loads(self.podman("image", "inspect", image))[0]
        return found

    @contextmanager
    def started(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> Iterator["Container"]:
        """A container as production has it: read-only, without rights, on the host's network; removed on exit."""
        guarded = ["--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:notmpcopyup,mode=1777"]  # noqa: S108 - the container's
        guarded += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--network", "host"]
        guarded += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--log-driver", "k8s-file"]
        given = [word for name, value in (environment or {}).items() for word in ("--env", f"{name}={value}")]
        name = self.podman("create", *guarded, *given, *options, image, *command).strip()
        try:
            began = time.monotonic()
            self.podman("start", name)
            yield Container(self, name, began)
        finally:
            self.podman("rm", "--force", "--time", "10", name)


@dataclass(frozen=True)
class Container:
    """A container that was started."""

    containers: Containers
    name: str
    began: float
    """When it was started, by time.monotonic()."""

    def wait(self, timeout: float) -> int:
        """Its exit code, when it has ended."""
        return int(self.containers.podman("wait", self.name, timeout=timeout))

    def log(self) -> str:
        """What it has printed so far, on both its outputs."""
        options = ["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "logs", self.name]
        environment = {**os.environ, **self.containers.environment}
        done = subprocess.run(options, capture_output=True, text=True, timeout=60, env=environment, check=False)
        return done.stdout + done.stderr

    def exec(self, *command: str) -> str:
        """Standard output of a program inside."""
        return self.containers.podman("exec", self.name, *command)

    def seconds_until(self, is_ready: Callable[[], bool], timeout: float = 120) -> float:
        """How long after its start something holds; AssertionError with the log when it does not, or it has ended."""
        looked = 0.0
        while not is_ready():
            now = time.monotonic()
            assert now - self.began < timeout, f"not ready after {timeout:g} s:\n{self.log()[-3000:]}"
            if now - looked > 5:
                looked = now
                state = self.containers.podman("inspect", "--format", "{{.State.Status}}", self.name).strip()
                assert state == "running", f"the container is {state}:\n{self.log()[-3000:]}"
            time.sleep(0.05)
        return time.monotonic() - self.began


def pip_settings(folder: Path) -> tuple[Path, list[str]]:
    """This machine's settings of pip as a pip.conf for a build, and the builder's options that mount what they name."""
    listed = run([sys.executable, "-m", "pip", "config", "list"])
    values: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        values[name.rsplit(".", 1)[-1]] = str(ast.literal_eval(value))
    named = [Path(word.removeprefix("file://")) for name in _PIP_PATHS for word in values.get(name, "").split()]
    # The pages of an index lead to files beside their folder.
    indices = {Path(word.removeprefix("file://")) for word in values.get("extra-index-url", "").split()}
    found = sorted({path.parent if path in indices else path for path in named if path.is_absolute() and path.exists()})
    conf = folder / "pip.conf"
    lines = [f"{name} = {' '.join(value.split())}" for name, value in values.items()]
    conf.write_text("\n".join(["[global]", *lines, ""]), encoding="utf-8")
    return conf, [word for path in found for word in ("--volume", f"{path}:{path}:ro")]


def _driver(folder: Path) -> str:
    """How layers are stored: as overlays where they can be mounted here, else as copies (vfs), which takes long."""
    tried = {name: folder / "overlay" / name for name in ("lower", "upper", "work", "merged")}
    for path in tried.values():
        path.mkdir(parents=True)
    options = ",".join(f"{name}dir={tried[name]}" for name in ("lower", "upper", "work"))
    mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(tried["merged"])]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        return "vfs"
    run(["umount", str(tried["merged"])])
    return "overlay"


def owned_folder(path: Path) -> Path:
    """A folder that belongs to the image's user."""
    path.mkdir(parents=True)
    os.chown(path, USER, USER)
    return path


def lacking(programs: Sequence[str]) -> list[str]:
    """The programs that this machine lacks."""
    return [name for name in programs if shutil.which(name) is None]
