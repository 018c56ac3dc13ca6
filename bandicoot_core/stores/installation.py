"""One installation: which servers and folders the settings stand for, opened on demand.

This is the only place that turns settings into connections, for the pipeline, the service, the command line and the
tests alike. With no database configured it starts, or attaches to, the embedded server. What takes long to import is
imported when it is first used: the service answers within a second or two of its start, and needs no engine for that.
"""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
from psycopg import sql

from bandicoot_core.settings import Settings
from bandicoot_core.stores.cache.cache import Cache, open_cache
from bandicoot_core.stores.cache.current_reader import CurrentReader
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.postgres.connections import Limits, url_parameters, whole_transaction
from bandicoot_core.stores.postgres.pool import Pool
from bandicoot_core.stores.published.call_lists import migrate
from bandicoot_core.stores.published.writers import sole_writer
from bandicoot_core.stores.server_errors import foreseen_errors

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

    from bandicoot_core.stores.channels import Channel
    from bandicoot_core.stores.events.subscription import Subscription
    from bandicoot_core.stores.lake.lake import Lake
    from bandicoot_core.stores.source.source import Source

DAGSTER_SCHEMA = "dagster"


class Installation:
    """The stores behind one set of settings. Everything is opened on demand; `close` gives connections back."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @property
    def is_embedded(self) -> bool:
        """Whether the embedded server holds the published schema."""
        return self.settings.database_url is None

    @property
    def is_source_embedded(self) -> bool:
        """Whether the embedded server also holds the source, which is then the demo programme's."""
        return self.is_embedded and self.settings.source_url is None

    @cached_property
    def database_url(self) -> str:
        """URL of the published schema's database; the embedded server is started when it is not running."""
        if self.settings.database_url is not None:
            return self.settings.database_url.get_secret_value()
        return embedded.start(self.settings.home).url

    @property
    def published_place(self) -> str:
        """Where the published schema is, to be shown to people: host, port and database; no user, no password."""
        found = url_parameters(self.database_url)
        host, database = found.get("host") or found.get("hostaddr") or "localhost", found.get("dbname") or ""
        return f"postgresql://{quote(str(host), safe=',.-')}:{found.get('port') or 5432}/{database}"

    @property
    def source_url(self) -> str:
        """URL of the programme's database."""
        if self.settings.source_url is not None:
            return self.settings.source_url.get_secret_value()
        return self.database_url

    @property
    def dagster_storage_url(self) -> str:
        """SQLAlchemy URL (psycopg2) of Dagster's storage, by default a schema of its own beside the published one."""
        if self.settings.dagster_storage_url is not None:
            return self.settings.dagster_storage_url.get_secret_value()
        make_url = importlib.import_module("sqlalchemy.engine").make_url
        url = make_url(self.database_url).set(drivername="postgresql+psycopg2")
        url = url.update_query_dict({"options": f"-csearch_path={DAGSTER_SCHEMA}"})
        return url.render_as_string(hide_password=False)

    @property
    def limits(self) -> Limits:
        """How long things may take in the published schema."""
        return Limits(
            statement_seconds=self.settings.statement_timeout_seconds,
            bulk_seconds=self.settings.bulk_timeout_seconds,
            lock_seconds=self.settings.lock_timeout_seconds,
        )

    @cached_property
    def _pool(self) -> Pool:
        return Pool(self.database_url, limits=self.limits, max_size=self.settings.pool_size)

    @cached_property
    def lake(self) -> "Lake":
        """The lake."""
        lakes = importlib.import_module("bandicoot_core.stores.lake.lake")
        return lakes.Lake(self.settings.lake_path, timeout_seconds=self.settings.lake_timeout_seconds)

    @cached_property
    def cache(self) -> Cache | None:
        """Redis; None when none is configured."""
        return open_cache(self.settings)

    @cached_property
    def current(self) -> CurrentReader:
        """What consumers read about the present: from the cache where it is right, else from the published schema."""
        return CurrentReader(self.cache, self.published)

    def event_subscription(self) -> "Subscription | None":
        """The subscription that events arrive in, to be closed by the caller; None when none is configured."""
        if self.settings.events_subscription is None:
            return None
        events = importlib.import_module("bandicoot_core.stores.events.subscription")
        return events.Subscription(
            self.settings.events_subscription, timeout_seconds=self.settings.events_timeout_seconds
        )

    def channels(self) -> "list[Channel]":
        """The channels on which alarms are told; none when none is configured."""
        return importlib.import_module("bandicoot_core.stores.channels").open_channels(self.settings)

    def prepare(self) -> None:
        """Bring the published schema to its newest version and make room for Dagster's storage; cheap when done.

        OutdatedSchemaError when the schema is at another revision and the user may not change that.
        """
        migrate(self.database_url, limits=self.limits)
        if self.settings.dagster_storage_url is None:
            with self.published() as connection, whole_transaction(connection, "making room for Dagster's storage"):
                # IF NOT EXISTS asks for the right to create schemas even where there is nothing to create.
                if connection.execute("SELECT to_regnamespace(%s)", (DAGSTER_SCHEMA,)).fetchone() == (None,):
                    connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(DAGSTER_SCHEMA)))

    @contextmanager
    def published(self) -> Iterator[psycopg.Connection]:
        """A connection to the published schema in autocommit mode, for the block; the next block may get it again.

        Raises UnreachableError when the server does not answer, BusyError when `pool_size` are in use for long.
        """
        with self._pool.connection() as connection, foreseen_errors(connection, "working on schema bandicoot"):
            yield connection

    def close(self) -> None:
        """End the connections that are kept open; the next use opens new ones."""
        if (pool := self.__dict__.pop("_pool", None)) is not None:
            pool.close()

    @contextmanager
    def sole_writer(
        self, asset: str, partitions: Sequence[str], *, holder: str, is_whole_asset: bool = False
    ) -> Iterator[None]:
        """Be the only writer of some partitions inside the block; PartitionHeldError when another does not end.

        With `is_whole_asset` nobody else writes any partition of the asset.
        """
        with sole_writer(
            self.database_url,
            asset,
            partitions,
            holder=holder,
            wait_seconds=self.settings.writer_wait_seconds,
            is_whole_asset=is_whole_asset,
        ):
            yield

    @contextmanager
    def engine(self) -> "Iterator[Backend]":
        """A fresh engine within the configured memory and threads."""
        engines = importlib.import_module("bandicoot_core.stores.engine")
        with engines.open_engine(memory_limit=self.settings.memory_limit, threads=self.settings.threads) as engine:
            yield engine

    def source(self) -> "Source":
        """The programme's source."""
        return importlib.import_module("bandicoot_core.stores.source.source").Source(
            self.source_url, self.settings.source_schema
        )
