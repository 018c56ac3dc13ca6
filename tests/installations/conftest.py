"""The programme on the embedded default, run once for all tests of this folder."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.installations.kinds import embedded_site
from tests.installations.site import Outcome, Site, run_programme


@dataclass(frozen=True)
class Ran:
    """An installation and what a programme came to on it."""

    site: Site
    outcome: Outcome


@pytest.fixture(scope="session")
def embedded_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """The embedded default with nothing configured but its home."""
    with embedded_site(tmp_path_factory.mktemp("embedded")) as site:
        yield Ran(site, run_programme(site))
