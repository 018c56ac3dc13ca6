"""The kinds of installation that the same programme runs on: which server, which lake, with a cache or without."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from bandicoot_core.settings import Settings
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.roles import CALLER, READER, WRITER, apply_roles
from tests.installations.site import Site
from tests.servers.debian_postgres import DebianPostgres

PASSWORD = "of a role: /@%"
SOURCE_SCHEMA = "suvita_production"
LOOKBACK_DAYS = 14


@dataclass(frozen=True)
class Kind:
    """One combination of stores."""

    server: Literal["embedded", "server", "pooled server"]
    lake: Literal["disk", "bucket"]
    has_cache: bool

    def __str__(self) -> str:
        return f"{self.server}, lake on {self.lake}, {'with' if self.has_cache else 'without'} cache"


KINDS = (
    Kind("embedded", "disk", has_cache=False),
    Kind("server", "bucket", has_cache=True),
    Kind("pooled server", "disk", has_cache=True),
    Kind("pooled server", "disk", has_cache=False),
)
"""The first is the default, whose lists the others have to equal. The emulated bucket is slow, so it comes once."""


@contextmanager
def embedded_site(home: Path, **settings: Any) -> Iterator[Site]:
    """The embedded server, whose one user does everything."""
    with dagster_home(home):
        try:
            installation = Installation(Settings(home=home, lookback_days=LOOKBACK_DAYS, **settings))
            installation.prepare()
            yield Site(installation, installation, installation.database_url, installation.database_url)
            installation.close()
        finally:
            embedded.destroy(home)


@contextmanager
def server_site(home: Path, server: DebianPostgres, through: Callable[[str], str], **settings: Any) -> Iterator[Site]:
    """A database of a server with a user for each part; all but the owner reach it as `through` leads their URLs.

    The owner prepares the schema, applies the roles and fills the source. The pipeline is a writer, which reads the
    source as somebody who may only read it, and keeps Dagster's storage as a third user, in a schema of its own.
    """
    owner_url = server.create_database()
    database = str(conninfo_to_dict(owner_url)["dbname"])
    users = {user: f"{user} of {database}" for user in ("pipeline", "source reader", "dagster", "app", "call centre")}
    urls = {user: through(server.url(database, user=name, password=PASSWORD)) for user, name in users.items()}
    owner = Installation(Settings(home=home, lookback_days=LOOKBACK_DAYS, database_url=owner_url, **settings))
    pipeline = Installation(
        Settings(
            home=home,
            lookback_days=LOOKBACK_DAYS,
            database_url=urls["pipeline"],
            source_url=urls["source reader"],
            dagster_storage_url=urls["dagster"].replace("postgresql://", "postgresql+psycopg2://"),
            **settings,
        )
    )
    with dagster_home(home):
        try:
            owner.prepare()
            _admit(server, owner_url, users)
            yield Site(pipeline, owner, urls["app"], urls["call centre"])
        finally:
            pipeline.close()
            owner.close()
            server.drop_database(database)
            with psycopg.connect(server.url(), autocommit=True) as connection:
                for name in users.values():
                    connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def _admit(server: DebianPostgres, owner_url: str, users: dict[str, str]) -> None:
    """Make the users, with what an administrator grants each; the source may not exist yet."""
    with psycopg.connect(owner_url, autocommit=True) as connection:
        apply_roles(connection)
        for user, role in (("pipeline", WRITER), ("app", READER), ("call centre", CALLER)):
            server.create_role(users[user], password=PASSWORD, attributes=f"IN ROLE {role}")
        server.create_role(users["source reader"], password=PASSWORD)
        server.create_role(users["dagster"], password=PASSWORD)
        for statement in (
            "CREATE SCHEMA IF NOT EXISTS {source}",
            "GRANT USAGE ON SCHEMA {source} TO {source_reader}",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {source} GRANT SELECT ON TABLES TO {source_reader}",
            "ALTER ROLE {source_reader} SET default_transaction_read_only = on",
            "CREATE SCHEMA dagster_storage AUTHORIZATION {dagster}",
            "ALTER ROLE {dagster} SET search_path = dagster_storage",
        ):
            names = {"source": SOURCE_SCHEMA, "source_reader": users["source reader"], "dagster": users["dagster"]}
            connection.execute(
                sql.SQL(statement).format(**{name: sql.Identifier(value) for name, value in names.items()})
            )


@contextmanager
def dagster_home(home: Path) -> Iterator[None]:
    """Dagster's own variables for one installation, back to what they were on exit."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home / "dagster"))
        patch.setenv("BANDICOOT_DAGSTER_STORAGE", "")
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
        yield
