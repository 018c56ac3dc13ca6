"""What the checks of deploy/ share: where things are, tools that this machine may lack, and what was not checked."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).resolve().parent.parent
REPOSITORY = DEPLOY.parent
for place in (REPOSITORY, DEPLOY / "checks"):
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))
pytest_plugins = ["planned"]


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    """Path of a program; the test fails with how to get it when this machine lacks it.

    A program that pip installed beside this Python counts before one in PATH.
    """

    def found(name: str, how_to_get: str) -> str:
        beside = Path(sys.executable).parent / name
        path = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
        if path is None:
            pytest.fail(f"not checked: this machine has no {name}. {how_to_get}", pytrace=False)
        return path

    return found


_UNCHECKED: list[str] = []


@pytest.fixture(scope="session")
def not_checked() -> Callable[[str], None]:
    """Notes what this machine cannot have, to be said at the end."""
    return _UNCHECKED.append


@pytest.fixture(scope="module")
def dagster_values() -> dict[str, Any]:
    """What Dagster's chart is told."""
    import yaml

    found: dict[str, Any] = yaml.safe_load((DEPLOY / "helm" / "dagster-values.yaml").read_text())
    return found


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Says at the end what was not checked, in words: nothing is passed over silently."""
    yield
    reports = [*terminalreporter.stats.get("failed", []), *terminalreporter.stats.get("error", [])]
    lines = [line for report in reports for line in str(report.longrepr).splitlines()]
    missed = sorted(
        {line for line in lines if "not checked:" in line} | {f"not checked: {each}" for each in _UNCHECKED}
    )
    if missed:
        terminalreporter.section("not checked")
        for line in missed:
            terminalreporter.write_line(line.strip().removeprefix("E").strip())
