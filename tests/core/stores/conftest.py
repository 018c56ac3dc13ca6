"""Fixtures of the stores' tests: a fresh published schema, and a lake on local disk or in Google Cloud Storage."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bandicoot_core.stores.connections import connect
from bandicoot_core.stores.lake import Lake
from tests.servers.gcs import BUCKET


@pytest.fixture
def published(published_url: str) -> Iterator[psycopg.Connection]:
    """A connection to a fresh database with the published schema."""
    with connect(published_url) as connection:
        yield connection


@pytest.fixture(params=["disk", "gcs"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake; every test that takes it runs on a local disk and on the storage emulator."""
    if request.param == "disk":
        return Lake(str(tmp_path / "lake"))
    request.getfixturevalue("cloud_storage_address")
    return Lake(f"gs://{BUCKET}/{uuid.uuid4().hex}")


@pytest.fixture
def disk_lake(tmp_path: Path) -> Lake:
    """An empty lake on local disk, for tests about the disk itself."""
    return Lake(str(tmp_path / "lake"))
