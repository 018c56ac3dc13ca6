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
from bandicoot_api.memory import Memory, memory_limit
from bandicoot_api.metrics import Metrics
from bandicoot_api.newest_list import NewestList
from bandicoot_api.rate_limits import Limit, RateLimits
from bandicoot_api.watch import Watch
from bandicoot_core.calendar import day_of
from bandicoot_core.settings import ListOptions, ServiceOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.live_ranking import LiveRules

if TYPE_CHECKING:
    from bandicoot_api.dagster_runs import DagsterRuns

Clock = Callable[[], datetime]


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
    together: Together[Hashable, tuple[bytes, Literal["memory", "redis", "computed"], str]]
    newest_list: NewestList
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


def open_service(stores: Installation, options: ServiceOptions, list_options: ListOptions, *, clock: Clock) -> Service:
    """A service over an installation; nothing is asked of any server yet."""
    rules = LiveRules(day_of(clock()), list_options.cool_down_days, list_options.pending_days, list_options.index_level)
    return Service(
        stores=stores,
        options=options,
        list_options=list_options,
        clock=clock,
        metrics=Metrics(),
        memory=Memory(memory_limit(options.api_memory_mb)),
        clients=Clients(
            stores,
            clock=clock,
            refresh_seconds=options.api_keys_seconds,
            database_seconds=options.api_database_seconds,
        ),
        watch=Watch(
            stores,
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
        newest_list=NewestList(stores),
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
