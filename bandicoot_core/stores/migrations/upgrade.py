"""Brings schema `bandicoot` to the newest revision, in one transaction, and refreshes its comments.

Importing this loads Alembic and SQLAlchemy; published.migrate does so only when there is something to upgrade.
"""

from pathlib import Path
from typing import LiteralString, cast

import alembic.command
import alembic.util.exc
import psycopg
import sqlalchemy
from alembic.config import Config
from psycopg import sql

from bandicoot_core.contracts import Column
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.connections import Lock, lock, url_parameters
from bandicoot_core.stores.migrations import HEAD_REVISION
from bandicoot_core.stores.published_tables import PUBLISHED_TABLES, PUBLISHED_VIEWS, SCHEMA


def alembic_config() -> Config:
    """Alembic's configuration, as objects instead of a file."""
    config = Config()
    # ConfigParser reads % as the start of a reference.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def sqlalchemy_url(url: str) -> sqlalchemy.URL:
    """A libpq URI for SQLAlchemy with psycopg 3; every parameter is kept, socket folders included.

    Raises InvalidSettingError when `url` is not a libpq URI.
    """
    parameters = {name: str(value) for name, value in url_parameters(url).items()}
    user, password = parameters.pop("user", None), parameters.pop("password", None)
    database = parameters.pop("dbname", None)
    # Hosts and ports go through the query: the authority of a SQLAlchemy URL takes neither folders nor lists.
    return sqlalchemy.URL.create(
        "postgresql+psycopg", username=user, password=password, database=database, query=parameters
    )


def upgrade_to_head(url: str) -> None:
    """Apply what is missing; processes that come at the same time wait for one another.

    Raises InvalidInputError when the schema is at a revision that this release does not have.
    """
    engine = sqlalchemy.create_engine(sqlalchemy_url(url), poolclass=sqlalchemy.NullPool)
    config = alembic_config()
    with engine.begin() as connection:
        session = cast(psycopg.Connection, connection.connection.driver_connection)
        lock(session, Lock.MIGRATION)
        _ensure_schema(session)
        config.attributes["connection"] = connection
        try:
            alembic.command.upgrade(config, "head")
        except alembic.util.exc.CommandError as error:
            raise InvalidInputError(
                f"schema {SCHEMA} cannot be brought to revision {HEAD_REVISION}: {error}; a newer release of Bandicoot "
                "has probably migrated this database: install that release, or point BANDICOOT_DATABASE_URL elsewhere"
            ) from error
        _comment_all(session)


def _ensure_schema(session: psycopg.Connection) -> None:
    # IF NOT EXISTS asks for the right to create schemas even where an administrator has created this one already.
    if session.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchone() == (None,):
        session.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))


def _comment_all(session: psycopg.Connection) -> None:
    """Comment every table, view and column with its contract's description."""
    for kind, contracts in (("TABLE", PUBLISHED_TABLES), ("VIEW", PUBLISHED_VIEWS)):
        for name, contract in contracts.items():
            _comment(session, kind, (SCHEMA, name), contract.description)
            for column in contract.columns:
                _comment(session, "COLUMN", (SCHEMA, name, column.name), describe_column(column))


def describe_column(column: Column) -> str:
    """The comment of a column: what it means, and its unit."""
    return f"{column.description} [{column.unit}]" if column.unit else column.description


def _comment(session: psycopg.Connection, kind: LiteralString, name: tuple[str, ...], text: str) -> None:
    session.execute(sql.SQL("COMMENT ON {} {} IS {}").format(sql.SQL(kind), sql.Identifier(*name), sql.Literal(text)))
