"""Installations of each kind: what is embedded, a server with roles and a pooler, a bucket, a cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bandicoot_core.settings import Settings
from bandicoot_core.stores import embedded
from bandicoot_core.stores.installation import Installation
from tests.installations.site import Outcome, Site, run_programme

LOOKBACK_DAYS = 28


@dataclass(frozen=True)
class Ran:
    """An installation and what a programme came to on it."""

    site: Site
    outcome: Outcome


@pytest.fixture(scope="session")
def embedded_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """The programme on the embedded default, with nothing configured but the home."""
    home = tmp_path_factory.mktemp("embedded")
    with pytest.MonkeyPatch.context() as patch, dagster_home(home, patch):
        try:
            installation = Installation(Settings(home=home, lookback_days=LOOKBACK_DAYS))
            installation.prepare()
            site = Site(installation, installation, installation.database_url, installation.database_url)
            yield Ran(site, run_programme(site))
        finally:
            embedded.destroy(home)


@contextmanager
def dagster_home(home: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Dagster's own variables for one installation, back to what they were on exit."""
    patch.setenv("DAGSTER_HOME", str(home / "dagster"))
    patch.setenv("BANDICOOT_DAGSTER_STORAGE", "")
    patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
    yield
