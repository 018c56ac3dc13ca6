"""A fresh database for a demo, and a small programme to put into it."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest
from demo_database import DemoDatabase, create_call_outcomes

from bandicoot_core.demo import Programme


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[DemoDatabase]:
    """A fresh database that has bandicoot.call_outcomes and nothing else."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        create_call_outcomes(connection)
        yield DemoDatabase(database_url, connection, tmp_path / "truth")


@pytest.fixture
def programme() -> Programme:
    """A small programme that ends on a Thursday, so that its last week is partial."""
    return Programme(n_caregivers=400, seed=11, n_weeks=16, as_of_date=date(2026, 11, 19))
