"""The engine that executes table expressions: DuckDB in process, in memory, over Parquet.

Only connection settings belong here. The expressions are engine-neutral and live in engagement and policy.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ibis
from ibis.backends.duckdb import Backend

from bandicoot_core.stores.lake.scratch import scratch_folder, temporary_place


@contextmanager
def open_engine(*, memory_limit: str = "4GB", threads: int | None = None) -> Iterator[Backend]:
    """A DuckDB engine in memory that spills to a temporary folder beyond `memory_limit`; closed on exit.

    The session's time zone is UTC, so that casts between instants and dates do not depend on the machine.
    """
    with scratch_folder(temporary_place(), "spill") as spill_folder:
        options: dict[str, Any] = {"memory_limit": memory_limit, "temp_directory": str(spill_folder)}
        if threads is not None:
            options["threads"] = threads
        engine = ibis.duckdb.connect(**options)
        try:
            engine.raw_sql("SET TimeZone = 'UTC'")
            yield engine
        finally:
            engine.disconnect()
