"""One engine for all examples of a session: tables are named anew by each test that needs one."""

from collections.abc import Iterator

import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.stores.engine import open_engine


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[Backend]:
    with open_engine(memory_limit="1GB") as engine:
        yield engine
