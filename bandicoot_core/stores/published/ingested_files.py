"""Which files of events were taken in, in which version; so each is read once, and again only when it has changed."""

from collections.abc import Mapping
from datetime import datetime

import psycopg

from bandicoot_core.stores.postgres.connections import reading, repeated
from bandicoot_core.stores.published.contract_checks import require_instant

_VERSIONS = "SELECT uri, version FROM bandicoot.ingested_files"

_NOTE = """
    INSERT INTO bandicoot.ingested_files (uri, version, n_records, n_new, n_dead, ingested_at)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (uri) DO UPDATE SET version = excluded.version, n_records = excluded.n_records,
        n_new = excluded.n_new, n_dead = excluded.n_dead, ingested_at = excluded.ingested_at
"""


def ingested_versions(connection: psycopg.Connection) -> Mapping[str, str]:
    """The version in which each file was taken in, by its place."""
    with reading(connection, "looking which files were taken in"):
        return dict(connection.execute(_VERSIONS).fetchall())


def note_ingested(
    connection: psycopg.Connection,
    uri: str,
    version: str,
    *,
    n_records: int,
    n_new: int,
    n_dead: int,
    ingested_at: datetime,
) -> None:
    """Note that a file was taken in whole. Call it after everything in it is where it belongs."""
    values = (uri, version, n_records, n_new, n_dead, require_instant(ingested_at, "ingested_at"))
    repeated(connection, "noting a file of events", lambda: connection.execute(_NOTE, values))
