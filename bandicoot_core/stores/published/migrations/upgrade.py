"""Brings schema `bandicoot` to a revision, in one transaction, and refreshes its comments and the roles' rights.

Importing this loads Alembic and SQLAlchemy; published.migrate does so only when there is something to upgrade.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import LiteralString, cast

import alembic.command
import alembic.util.exc
import psycopg
import sqlalchemy
import sqlalchemy.exc
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql

from bandicoot_core.contracts import Column
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.stores.postgres.connections import Limits, Lock, limit, lock, session_parameters, url_parameters
from bandicoot_core.stores.postgres.errors import explain
from bandicoot_core.stores.published.migrations import HEAD_REVISION
from bandicoot_core.stores.published.roles import apply_rights
from bandicoot_core.stores.published.tables import PUBLISHED_TABLES, PUBLISHED_VIEWS, SCHEMA

NOTHING = "base"
"""The revision before the first: no tables."""

_LOCK_SECONDS = 10.0
"""How long a migration waits for a table. Its readers queue behind a migration that waits, so it gives up soon."""


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


def revisions() -> list[str]:
    """Every revision of this release, the oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()][::-1]


def upgrade(url: str, revision: str = "head", *, limits: Limits | None = None) -> None:
    """Bring the schema up to a revision; processes that come at the same time wait for one another.

    Raises InvalidInputError when the revision, or the schema's own, is not one of this release; BusyError when
    somebody else uses the tables; UnreachableError when the server is lost. Nothing has changed then.
    """
    require_revision(revision, also="head")
    _migrate(url, lambda config: alembic.command.upgrade(config, revision), f"upgrading schema {SCHEMA}", limits)


def downgrade(url: str, revision: str, *, limits: Limits | None = None) -> None:
    """Bring the schema back to a revision, for an older release; what was written stays in the database.

    Raises InvalidInputError when that is impossible without losing data, and else as `upgrade`.
    """
    require_revision(revision, also=NOTHING)
    _migrate(url, lambda config: alembic.command.downgrade(config, revision), f"downgrading schema {SCHEMA}", limits)


def require_revision(revision: str, *, also: str) -> None:
    """InvalidInputError unless the revision is one of this release, or the word `also`."""
    if revision != also and revision not in (known := revisions()):
        raise InvalidInputError(f"revision {revision} is not known; choose one of {', '.join((*known, also))}")


def _migrate(url: str, command: Callable[[Config], None], doing: str, limits: Limits | None) -> None:
    arguments = {name: value for name, value in session_parameters(url).items() if name != "autocommit"}
    engine = sqlalchemy.create_engine(sqlalchemy_url(url), poolclass=sqlalchemy.NullPool, connect_args=arguments)
    config = alembic_config()
    with _explained(doing), engine.begin() as connection:
        session = cast(psycopg.Connection, connection.connection.driver_connection)
        if limits is not None:
            limit(session, statement_timeout=limits.bulk_seconds, lock_timeout=limits.bulk_seconds)
        lock(session, Lock.MIGRATION)
        limit(session, lock_timeout=_LOCK_SECONDS)
        _ensure_schema(session)
        config.attributes["connection"] = connection
        try:
            command(config)
        except alembic.util.exc.CommandError as error:
            raise InvalidInputError(
                f"{doing} is not possible: {error}; this release knows revision {HEAD_REVISION} as the newest. If a "
                "newer release has migrated this database, install that release, or point BANDICOOT_DATABASE_URL "
                "elsewhere"
            ) from error
        if session.execute("SELECT version_num FROM bandicoot.alembic_version").fetchall() == [(HEAD_REVISION,)]:
            _comment_all(session)
        apply_rights(session)


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except (psycopg.Error, sqlalchemy.exc.DBAPIError) as error:
        found = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
        if not isinstance(found, psycopg.Error):
            raise
        # Only the server gives a code: without one the connection itself failed.
        explained = explain(found, doing, is_lost=found.sqlstate is None)
        if explained is None:
            raise
        raise explained from error


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
