"""The recipes of docs/operations.md, taken out of the text as they stand, and run."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.child_run import ChildRun
from tests.faults.site_under_fault import CALL_DATE

GUIDE = Path(__file__).parents[2] / "docs" / "operations.md"


@dataclass(frozen=True)
class Recipe:
    """What a person sees, types, and then sees."""

    title: str
    symptom: str | None
    commands: tuple[str, ...]
    result: str


def recipes() -> list[Recipe]:
    """Every recipe with commands in the section `When something breaks`."""
    section = GUIDE.read_text().partition("\n## When something breaks\n")[2].partition("\n## ")[0]
    found = []
    for part in section.split("\n### ")[1:]:
        title, _, text = part.partition("\n")
        blocks = re.findall(r"```(text|sh)\n(.*?)```", text, flags=re.DOTALL)
        commands = [content for language, content in blocks if language == "sh"]
        if commands:
            said = [content.strip() for language, content in blocks if language == "text"]
            found.append(Recipe(title, said[0] if len(said) == 2 else None, tuple(commands[0].splitlines()), said[-1]))
    return found


def says(output: str, expected: str) -> bool:
    """Whether an output holds a text of the guide, whose … stands for anything."""
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in expected.split("…"))
    return re.search(pattern, " ".join(output.split()), flags=re.DOTALL) is not None


def run_command(command: str, environment: Mapping[str, str], folder: Path) -> tuple[int, str]:
    """Exit code and output of a line of a recipe; `bandicoot run` makes the list of the site's day."""
    if not command.startswith("bandicoot "):
        result = subprocess.run(
            ["/bin/sh", "-c", command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return result.returncode, result.stdout + result.stderr
    arguments = command.split()[1:]
    if arguments == ["run"]:
        arguments += ["--as-of", CALL_DATE.isoformat()]
    output = folder / "output"
    outcome = ChildRun(lambda: _in_this_process(arguments, environment, output)).finish(limit_seconds=240)
    assert outcome.is_success, f"{outcome.message}\n{outcome.trace}"
    *lines, code = output.read_text().splitlines()
    return int(code), "\n".join(lines)


def _in_this_process(arguments: list[str], environment: Mapping[str, str], output: Path) -> None:
    from bandicoot_dagster.cli import main

    os.environ.update(environment)
    tempfile.tempdir = None  # found out once in a process, before this one was forked
    with output.open("w") as stream:
        sys.stdout = sys.stderr = stream
        code = main.main(args=arguments, prog_name="bandicoot", standalone_mode=False)
        stream.write(f"\n{code or 0}")
