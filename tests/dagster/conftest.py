"""An installation with a small demo programme, its history and a champion, made once for a module."""

from collections.abc import Iterator

import pytest

from bandicoot_core.stores.embedded import server as embedded
from tests.small_programme import Programme, small_programme


@pytest.fixture(scope="module")
def programme(server: embedded.EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programme]:
    """A fresh database and lake with a demo programme, caught up to the list of CALL_DATE."""
    with small_programme(server, tmp_path_factory.mktemp("installation")) as made:
        yield made
