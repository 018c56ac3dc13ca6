"""A source beside a published schema, and the extractions between them and a lake."""

from collections.abc import Iterator

import pytest
from extraction_runs import Extraction
from ibis.backends.duckdb import Backend

from bandicoot_core.settings import Settings
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.source.source import Source
from tests.source_programme import SCHEMA, SourceProgramme


@pytest.fixture
def programme(published_url: str) -> SourceProgramme:
    return SourceProgramme(published_url)


@pytest.fixture
def extraction(programme: SourceProgramme, lake: Lake, engine: Backend) -> Iterator[Extraction]:
    """Half of the rows of a day may be bad here, since the days are small; everybody is in treatment."""
    with connect(programme.url) as connection:
        settings = Settings(max_invalid_share=0.5, control_share=0)
        yield Extraction(Source(programme.url, SCHEMA), connection, lake, engine, settings)
