"""The site that is lost and brought back, and the times it took."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.recovery.site import Site, open_site
from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.servers.processes import private_folder
from tests.servers.redis import running_redis

_SECONDS: dict[str, float] = {}


@pytest.fixture(scope="module")
def site(debian_server: DebianPostgres) -> Iterator[Site]:
    """One installation for all runbooks; each leaves it as it found it."""
    with (
        tempfile.TemporaryDirectory(prefix="bandicoot-recovery-") as home,
        private_folder("backups") as backups,
        debian_postgres() as server,
        running_redis() as redis,
        open_site(Path(home), backups, server, debian_server, redis) as site,
    ):
        site.seconds = _SECONDS
        yield site


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How long each runbook took."""
    for title, seconds in _SECONDS.items():
        terminalreporter.write_line(f"recovery: {title}: {seconds:.1f} s")
