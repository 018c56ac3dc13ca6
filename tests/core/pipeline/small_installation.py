"""A few dozen caregivers through the whole pipeline without Dagster: from the source's rows to a published list."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from bandicoot_core.calendar import days_between, end_of_day, last_closed_week, last_day_of_week, weeks_ending_with
from bandicoot_core.contracts import CALL_LIST, CAREGIVER_STATES
from bandicoot_core.pipeline.call_list import materialize_call_list, materialize_published_call_list
from bandicoot_core.pipeline.daily_staleness import renew_stale_states
from bandicoot_core.pipeline.engagement import (
    materialize_caregiver_states,
    materialize_engagement_history,
    materialize_passive_counts,
)
from bandicoot_core.pipeline.extraction import extract_caregivers
from bandicoot_core.pipeline.promotion import Decision, decide_model_version
from bandicoot_core.pipeline.rereading import DaysRead, read_calls, read_sms_events, read_vaccinations
from bandicoot_core.pipeline.training import (
    materialize_cluster_assignments,
    materialize_clusters,
    materialize_features_only_mapper,
    materialize_transition_models,
    materialize_whittle_indices,
)
from bandicoot_core.settings import ListOptions, ModelOptions, Settings, load_list_options, load_model_options
from bandicoot_core.stores.embedded.server import EmbeddedServer
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.keys import read_keys
from tests.conftest import fresh_database
from tests.source_programme import SourceProgramme, ist

N_WEEKS = 6
OPTIONS = load_model_options(training_weeks=N_WEEKS, n_clusters=1, n_draws=100, min_cluster_share=0, max_index_shift=9)

CALL_DATE = date(2026, 11, 19)
EVERYBODY = [f"CG-{n}" for n in range(6)]


@dataclass
class SmallInstallation:
    """Source, published schema and lake of a few caregivers, and the steps of a night in short words."""

    programme: SourceProgramme
    home: Path
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def stores(self) -> Installation:
        """The stores with the settings as they are now; nobody is in control."""
        usual = {"home": self.home, "database_url": self.programme.url, "control_share": 0, "lookback_days": 42}
        return Installation(Settings(**{**usual, "max_invalid_share": 0.5, **self.settings}))

    def enrol(self, caregiver_ids: Sequence[str], *, enrolled_at: str = "2026-01-05 10:00") -> None:
        for caregiver_id in caregiver_ids:
            self.programme.caregiver(caregiver_id, enrolled_at=ist(enrolled_at))

    def live_through(self, caregiver_ids: Sequence[str], call_date: date) -> Decision:
        """Weeks of messages and calls, and everything made of them up to the states of the day before `call_date`.

        On each Monday everybody gets a message, and opens it in three weeks of six. In each of the first weeks a
        third of them is called, so that the cool-down of all is over.
        """
        week = last_closed_week(call_date)
        weeks = weeks_ending_with(week, N_WEEKS)
        with psycopg.connect(self.programme.url) as connection, connection.cursor() as cursor:
            for k, monday in enumerate(sunday + timedelta(days=1) for sunday in weeks):
                opens = {n: (k + n) // 3 % 2 == 0 for n in range(len(caregiver_ids))}
                cursor.executemany(
                    "INSERT INTO suvita_production.sms_logs (message_id, caregiver_id, sent_at, opened_at, status) "
                    "VALUES (%s, %s, %s, %s, 'delivered')",
                    [
                        (
                            f"M-{monday}-{n}-{name[:20]}",
                            name,
                            ist(f"{monday} 09:00"),
                            ist(f"{monday} 12:00") if opens[n] else None,
                        )
                        for n, name in enumerate(caregiver_ids)
                    ],
                )
                cursor.executemany(
                    "INSERT INTO bandicoot.call_outcomes VALUES (%s, %s, %s, %s, 'reached', 'history')",
                    [
                        (f"H-{n}", name, monday, ist(f"{monday} 17:00"))
                        for n, name in enumerate(caregiver_ids)
                        if n % 3 == k
                    ],
                )
        self.read(*days_between(weeks[0], call_date - timedelta(days=1)))
        for day in days_between(last_day_of_week(week), call_date - timedelta(days=1)):
            materialize_caregiver_states(self.stores, day)
        decision = self.train(week)
        assert decision.is_promoted, decision.summary
        return decision

    def read(self, *days: date) -> dict[str, DaysRead]:
        """The source partitions of some days, and what is read again with them."""
        self.read_registry(*days)
        return self.read_events(*days)

    def read_registry(self, *days: date) -> None:
        stores = self.stores
        with stores.published() as connection, stores.engine() as engine:
            extract_caregivers(
                stores.source(),
                connection,
                stores.lake,
                engine,
                days=days,
                settings=stores.settings,
                seen_at=end_of_day(max(days)),
            )

    def read_events(self, *days: date) -> dict[str, DaysRead]:
        stores = self.stores
        return {
            "sms_events": read_sms_events(stores, days),
            "vaccinations": read_vaccinations(stores, days),
            "calls": read_calls(stores, days),
        }

    def close(self, day: date) -> list[str]:
        """A night: read the day, renew what is stale, compute its states; the days whose states were renewed."""
        self.read(day)
        renewed = [manifest.partition for manifest, _ in renew_stale_states(self.stores, before=day)]
        materialize_caregiver_states(self.stores, day)
        return renewed

    def train(self, week: date, options: ModelOptions = OPTIONS) -> Decision:
        stores = self.stores
        materialize_engagement_history(stores, week, options)
        materialize_passive_counts(stores, week)
        for materialize in (
            materialize_clusters,
            materialize_features_only_mapper,
            materialize_cluster_assignments,
            materialize_transition_models,
            materialize_whittle_indices,
        ):
            materialize(stores, week, options)
        return decide_model_version(stores, week, options, run_id="train", decided_at=_noon(week))

    def make_list(self, call_date: date, **options: Any) -> list[str]:
        """The list of a day, published; the ids on it in calling order."""
        chosen: ListOptions = load_list_options(**{"budget": 10, "min_engagement": 0, "max_engagement": 1, **options})
        materialize_call_list(self.stores, call_date, chosen)
        materialize_published_call_list(self.stores, call_date, run_id="publish", published_at=_noon(call_date))
        return self.published(call_date)

    def published(self, call_date: date) -> list[str]:
        with self.stores.published() as connection:
            rows = connection.execute(
                "SELECT caregiver_id FROM bandicoot.call_list WHERE call_date = %s ORDER BY rank", (call_date,)
            ).fetchall()
        return [row[0] for row in rows]

    def states(self, day: date) -> dict[str, dict[str, Any]]:
        """The states at the end of a day by caregiver_id."""
        stores = self.stores
        with stores.published() as connection:
            keys = read_keys(connection, experiment=stores.settings.experiment).to_pylist()
        id_of = {row["caregiver_key"]: row["caregiver_id"] for row in keys}
        rows = stores.lake.read(CAREGIVER_STATES, "caregiver_states", day.isoformat()).to_pylist()
        return {id_of[row["caregiver_key"]]: row for row in rows}

    def list_rows(self, call_date: date) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.stores.lake.read(CALL_LIST, "call_list", call_date.isoformat()).to_pylist()
        return rows


def _noon(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 6, 30, tzinfo=UTC)


@contextmanager
def lived_through(server: EmbeddedServer, template: str, home: Path) -> Iterator[str]:
    """The database of an installation on the morning of CALL_DATE, to be copied: it is not made in a moment."""
    with fresh_database(server, template) as url:
        made = SmallInstallation(SourceProgramme(url), home)
        made.enrol(EVERYBODY)
        made.live_through(EVERYBODY, CALL_DATE)
        made.make_list(CALL_DATE)
        name = url.rpartition("/")[2].partition("?")[0]
        with psycopg.connect(server.url, autocommit=True) as connection:
            # A database with open connections cannot be copied.
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yield name


@contextmanager
def copied(server: EmbeddedServer, template: str, home: Path, copy: Path) -> Iterator[SmallInstallation]:
    """A copy of an installation: its database and, in the folder `copy`, its lake."""
    shutil.copytree(home, copy, dirs_exist_ok=True)
    with fresh_database(server, template) as url:
        yield SmallInstallation(SourceProgramme(url, is_new=False), copy)
