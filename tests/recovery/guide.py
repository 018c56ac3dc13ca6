"""The commands of docs/recovery.md, taken out of the text as they stand, and run line by line.

Programs of PostgreSQL, and what moves its files, run in a shell as the servers' account; what touches the lake, as
whoever runs the tests. A line that begins with `bandicoot` runs in a forked process, whose imports are done.
"""

import os
import re
import shlex
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tests.faults.child_run import ChildRun
from tests.servers.processes import account

GUIDE = Path(__file__).parents[2] / "docs" / "recovery.md"
BACKUPS = "/var/backups/bandicoot"
"""Where the guide keeps backups."""

_LIMIT_SECONDS = 240


def blocks(title: str, language: str) -> list[str]:
    """The code blocks of one kind in a section, in order."""
    section = GUIDE.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def run_block(block: str, environment: Mapping[str, str], *, backups: Path) -> dict[str, float]:
    """Run the lines of a block; the seconds that each took. AssertionError with what a line said when it fails."""
    seconds = {}
    for line in re.sub(r"\\\n\s*", "", block.replace(BACKUPS, str(backups))).splitlines():
        started = time.monotonic()
        run = run_bandicoot if line.startswith("bandicoot ") else _run_in_shell
        code, said = run(line, environment)
        assert code == 0, f"{line}\nended with {code}: {said}"
        seconds[line] = time.monotonic() - started
    return seconds


def run_bandicoot(line: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """Exit code and output of one of the project's own commands; variables in it are the environment's."""
    arguments = [string.Template(word).substitute(environment) for word in shlex.split(line)[1:]]
    if arguments == ["run"]:
        arguments += ["--as-of", environment["TODAY"]]
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        outcome = ChildRun(lambda: _in_this_process(arguments, environment, output)).finish(
            limit_seconds=_LIMIT_SECONDS
        )
        assert outcome.is_success, f"{line}\n{outcome.message}\n{outcome.trace}"
        *lines, code = output.read_text().splitlines()
    return int(code), "\n".join(lines)


def _run_in_shell(line: str, environment: Mapping[str, str]) -> tuple[int, str]:
    (programs,) = Path("/usr/lib/postgresql").glob("*/bin")
    is_servers = os.geteuid() == 0 and "BANDICOOT_HOME" not in line
    identity = {"user": account().pw_uid, "group": account().pw_gid, "extra_groups": []} if is_servers else {}
    # pg_ctl leaves a server behind, which would keep a pipe open.
    with tempfile.TemporaryFile() as said:
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd="/",
            env={"PATH": f"{programs}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", **environment},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            timeout=_LIMIT_SECONDS,
            check=False,
            **identity,
        )
        said.seek(0)
        return done.returncode, said.read().decode()


def _in_this_process(arguments: list[str], environment: Mapping[str, str], output: Path) -> None:
    from bandicoot_dagster.cli import main

    os.environ.update(environment)
    tempfile.tempdir = None  # found out once in a process, before this one was forked
    with output.open("w") as stream:
        sys.stdout = sys.stderr = stream
        code = main.main(args=arguments, prog_name="bandicoot", standalone_mode=False)
        stream.write(f"\n{code or 0}")
