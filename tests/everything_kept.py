"""All that an installation keeps, to hold that nothing of it has changed."""

from pathlib import Path
from typing import Any

import psycopg


def everything(lake: Path, database_url: str) -> dict[str, Any]:
    """Every byte of a lake on disk and every row of schema `bandicoot`, with at least a file and a list."""
    files = {str(path): path.read_bytes() for path in sorted(lake.rglob("*")) if path.is_file()}
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = 'bandicoot' AND table_type = 'BASE TABLE'"
        ).fetchall()
        rows = {
            name: connection.execute(f'SELECT t::text FROM bandicoot."{name}" AS t ORDER BY 1').fetchall()
            for (name,) in tables
        }
    assert files
    assert rows["call_list"]
    return {**files, **rows}
