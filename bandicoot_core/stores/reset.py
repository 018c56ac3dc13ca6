"""Clearing what was derived from a programme, before another one takes its place. Only the demo does this."""

import psycopg
from psycopg import sql

from bandicoot_core.stores.postgres.connections import whole_transaction
from bandicoot_core.stores.published.tables import PUBLISHED_TABLES, SCHEMA, SUPPRESSION_SECRET


def clear_published(connection: psycopg.Connection) -> None:
    """Empty every table of schema `bandicoot` in one transaction; keys start from 1 again.

    Who was forgotten is forgotten with the programme; the secret belongs to the installation and stays.
    """
    names = [name for name in PUBLISHED_TABLES if name != SUPPRESSION_SECRET.name]
    tables = sql.SQL(", ").join(sql.Identifier(SCHEMA, name) for name in names)
    with whole_transaction(connection, "clearing the published schema", is_bulk=True):
        connection.execute(sql.SQL("TRUNCATE {} RESTART IDENTITY").format(tables))
