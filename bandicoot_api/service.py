"""What requests share: stores, options, clock, guards and what is remembered between them."""

import gc
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from starlette.requests import HTTPConnection

from bandicoot_api.answers import Answers, Together
from bandicoot_api.clients import Clients
from bandicoot_api.exact_limits import ExactLimits
from bandicoot_api.lanes import Lane
from bandicoot_api.memory import Memory, memory_limit
from bandicoot_api.metrics import Metrics
from bandicoot_api.newest_list import NewestList
from bandicoot_api.rate_limits import Limit, RateLimits
from bandicoot_api.watch import Watch
from bandicoot_core.calendar import day_of
from bandicoot_core.settings import ListOptions, ServiceOptions, Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.live_ranking import LiveRules

if TYPE_CHECKING:
    from bandicoot_api.dagster_runs import DagsterRuns

Clock = Callable[[], datetime]

_LOOKOUT_CONNECTIONS = 2
"""One to look whether PostgreSQL answers, one to read the keys."""
_WAITING = 256
"""Requests that may wait for a connection to PostgreSQL."""
_WAITING_EVENTS = 16
"""Bodies with events that may wait: each may be large."""


@dataclass(frozen=True)
class Made:
    """The JSON text of an answer, where it came from, and the version of the data it was made from."""

    body: bytes
    source: Literal["memory", "redis", "computed"]
    version: str


def within_requests(settings: Settings, options: ServiceOptions) -> Settings:
    """The settings with waits that end before a request does: what it began must not go on without it."""
    limit = options.api_timeout_seconds
    return settings.model_copy(
        update={
            "writer_wait_seconds": min(settings.writer_wait_seconds, limit / 2),
            "lock_timeout_seconds": min(settings.lock_timeout_seconds, limit / 2),
            "statement_timeout_seconds": min(settings.statement_timeout_seconds, limit),
        }
    )


@dataclass
class Service:
    """One process of the service."""

    stores: Installation
    options: ServiceOptions
    list_options: ListOptions
    clock: Clock
    metrics: Metrics
    memory: Memory
    clients: Clients
    watch: Watch
    rate_limits: RateLimits
    exact_limits: ExactLimits
    answers: Answers
    together: Together[Hashable, Made]
    rankings: Together[Hashable, Made]
    """Answers of tier standard that are being made, apart from all others: they are what costs."""
    newest_list: NewestList
    database_lane: Lane
    """For work on PostgreSQL: as many threads as connections, so that none waits for a connection."""
    events_lane: Lane
    """For taking in events, which waits for other writers."""
    lookout: Installation
    """The same stores with connections of its own, for who has to find out whether PostgreSQL answers."""
    runs: "DagsterRuns | None"
    mapper: tuple[str, Any] | None = None
    """The features-only mapper of a model, once it was asked for: its version, and scikit-learn's pipeline."""

    @property
    def reads(self) -> Limit:
        """How often a key may read."""
        return Limit("read", self.options.api_reads_per_minute, 60)

    @property
    def bulk(self) -> Limit:
        """How often a key may send many rows."""
        return Limit("bulk", self.options.api_bulk_per_minute, 60)

    @property
    def trainings(self) -> Limit:
        """How often a key may start a run."""
        return Limit("training", self.options.api_trainings_per_hour, 3600)

    @property
    def max_body(self) -> int:
        """Bytes of a body where one row is expected."""
        return self.options.api_max_body_kb * 1024

    @property
    def max_bulk(self) -> int:
        """Bytes of a body where many rows are expected."""
        return self.options.api_max_bulk_mb * 1024 * 1024

    def make_room(self) -> None:
        """Let go of what can be made again."""
        self.answers.clear()
        gc.collect()

    def close(self) -> None:
        """End threads and connections."""
        self.database_lane.close()
        self.events_lane.close()
        self.lookout.close()
        self.stores.close()


def open_service(stores: Installation, options: ServiceOptions, list_options: ListOptions, *, clock: Clock) -> Service:
    """A service over an installation; nothing is asked of any server yet."""
    rules = LiveRules(day_of(clock()), list_options.cool_down_days, list_options.pending_days, list_options.index_level)
    metrics = Metrics()
    lookout = Installation(stores.settings.model_copy(update={"pool_size": _LOOKOUT_CONNECTIONS}))
    n_connections = stores.settings.pool_size

    def lane(name: str, n_threads: int, n_waiting: int) -> Lane:
        refused = metrics.refused.labels("admission")
        return Lane(name, n_threads=n_threads, n_waiting=n_waiting, on_refused=refused.inc)

    database_lane = lane("database", n_connections, _WAITING)
    return Service(
        stores=stores,
        options=options,
        list_options=list_options,
        clock=clock,
        metrics=metrics,
        memory=Memory(memory_limit(options.api_memory_mb)),
        clients=Clients(
            lookout,
            clock=clock,
            refresh_seconds=options.api_keys_seconds,
            database_seconds=options.api_database_seconds,
        ),
        watch=Watch(
            lookout,
            rules,
            check_seconds=options.api_check_seconds,
            database_seconds=options.api_database_seconds,
            clock=clock,
        ),
        rate_limits=RateLimits(stores.cache),
        exact_limits=ExactLimits(stores.cache),
        answers=Answers(
            options.api_answers_mb * 1024 * 1024, seconds=stores.settings.redis_recommendation_hours * 3600
        ),
        together=Together(),
        rankings=Together(),
        newest_list=NewestList(stores, database_lane),
        database_lane=database_lane,
        events_lane=lane("events", max(1, n_connections // 2), _WAITING_EVENTS),
        lookout=lookout,
        runs=_runs(options),
    )


def service_of(connection: HTTPConnection) -> Service:
    """The service that a request reached."""
    service = connection.app.state.service
    assert isinstance(service, Service)  # noqa: S101 - set by create_app
    return service


def _runs(options: ServiceOptions) -> "DagsterRuns | None":
    if options.api_dagster_url is None:
        return None
    from bandicoot_api.dagster_runs import DagsterRuns  # noqa: PLC0415 - only where it is configured

    return DagsterRuns(options.api_dagster_url, timeout_seconds=options.api_timeout_seconds / 2)
