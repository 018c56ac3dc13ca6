"""A small programme on an installation of any kind: filled, caught up, called, and caught up again the day after.

What the programme does is the same everywhere; where its stores are is the business of the installations' module.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import psycopg

from bandicoot_core.contracts import PUBLISHED_CALL_LIST
from bandicoot_core.demo import stored_programme
from bandicoot_core.settings import load_list_options, load_model_options
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.catch_up import catch_up
from bandicoot_dagster.demo_source import extend_demo, fill_demo

CALL_DATE = date(2026, 11, 15)
N_CAREGIVERS = 800
BUDGET = 20
SEED = 11
OF_THE_RUN = ("run_id", "published_at")
"""Columns of the list that differ between two runs of the same day."""


@dataclass(frozen=True)
class Site:
    """An installation as its users have it: the pipeline, who may fill the source, and the consumers' URLs."""

    pipeline: Installation
    owner: Installation
    reader_url: str
    caller_url: str

    def fill(self) -> None:
        """The source up to the day before CALL_DATE."""
        fill_demo(self.owner, n_caregivers=N_CAREGIVERS, seed=SEED, day=CALL_DATE, on_progress=_ignore)

    def continue_to(self, call_date: date) -> None:
        """The source up to the day before a later list."""
        with self.owner.published() as connection:
            stored = stored_programme(connection)
        assert stored is not None
        extend_demo(self.owner, stored, call_date, on_progress=_ignore)

    def catch_up(self, call_date: date) -> None:
        """Everything up to the published list of a day."""
        catch_up(
            self.pipeline,
            call_date,
            list_options=load_list_options(budget=BUDGET),
            model_options=load_model_options(training_weeks=4, min_passive_weeks=2, n_clusters=4, n_draws=200),
            say=_ignore,
            clock=clock_of(call_date),
        )

    def current_list(self) -> list[tuple[object, ...]]:
        """The list as a reader sees it through the view, without what differs between two runs."""
        names = [name for name in PUBLISHED_CALL_LIST.column_names if name not in OF_THE_RUN]
        with psycopg.connect(self.reader_url, prepare_threshold=None) as connection:
            query = f"SELECT {', '.join(names)} FROM bandicoot.current_call_list ORDER BY rank"
            return connection.execute(query).fetchall()

    def call(self, caregiver_ids: Sequence[object], call_date: date) -> None:
        """Outcomes as a call centre writes them, twice: the second time changes nothing."""
        with psycopg.connect(self.caller_url, autocommit=True, prepare_threshold=None) as connection:
            for _ in range(2):
                for caregiver_id in caregiver_ids:
                    connection.execute(
                        "INSERT INTO bandicoot.call_outcomes "
                        "(call_id, caregiver_id, call_date, attempted_at, outcome, recorded_by) "
                        "VALUES (%s, %s, %s, %s, 'reached', 'centre 7') ON CONFLICT (call_id) DO NOTHING",
                        (f"call of {caregiver_id}", caregiver_id, call_date, clock_of(call_date)()),
                    )


@dataclass(frozen=True)
class Outcome:
    """What a programme came to: the list of CALL_DATE, who was called, and the list of the day after."""

    first: list[tuple[object, ...]]
    called: list[object]
    second: list[tuple[object, ...]]

    def ids(self, rows: list[tuple[object, ...]]) -> list[object]:
        """Whom a list names."""
        place = [name for name in PUBLISHED_CALL_LIST.column_names if name not in OF_THE_RUN].index("caregiver_id")
        return [row[place] for row in rows]


def run_programme(site: Site) -> Outcome:
    """Two days of a programme: the first list, calls to every second caregiver on it, the second list."""
    site.fill()
    site.catch_up(CALL_DATE)
    first = site.current_list()
    outcome = Outcome(first, [], [])
    called = outcome.ids(first)[::2]
    site.call(called, CALL_DATE)
    site.continue_to(CALL_DATE + timedelta(days=1))
    site.catch_up(CALL_DATE + timedelta(days=1))
    return Outcome(first, called, site.current_list())


def clock_of(call_date: date) -> Callable[[], datetime]:
    """A clock that stands at noon of a day in India."""
    return lambda: datetime(call_date.year, call_date.month, call_date.day, 6, 30, tzinfo=UTC)


def _ignore(*_: object) -> None: ...
