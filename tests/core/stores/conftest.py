"""A connection to a fresh published schema, for the tests of the modules that read and write it."""

from collections.abc import Iterator

import psycopg
import pytest

from bandicoot_core.stores.connections import connect


@pytest.fixture
def published(published_url: str) -> Iterator[psycopg.Connection]:
    """A connection to a fresh database with the published schema."""
    with connect(published_url) as connection:
        yield connection
