"""An installation with a small demo programme, its history and a champion, and the ways tests drive it."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import psycopg
import pytest
from psycopg import sql

from bandicoot_core.settings import ListOptions, ModelOptions, Settings, load_list_options, load_model_options
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster.catch_up import catch_up
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from bandicoot_dagster.demo_source import fill_demo

CALL_DATE = date(2026, 11, 19)
NOON = datetime(2026, 11, 19, 6, 30, tzinfo=UTC)
N_CAREGIVERS = 1500


@dataclass
class Programme:
    """A small installation and the ways tests drive it."""

    installation: Installation
    model_options: ModelOptions
    clock: Callable[[], datetime]

    def list_options(self, **overrides: object) -> ListOptions:
        return load_list_options(**{"budget": 20, **overrides})

    def catch_up(
        self, call_date: date = CALL_DATE, *, say: Callable[[str], None] = lambda _line: None, **overrides: object
    ) -> None:
        catch_up(
            self.installation,
            call_date,
            list_options=self.list_options(**overrides),
            model_options=self.model_options,
            say=say,
            clock=self.clock,
        )

    def run(self, job: str, partition: str, run_config: dict[str, object] | None = None) -> dg.ExecuteInProcessResult:
        definitions = build_definitions(self.installation.settings, self.clock)
        with open_instance(self.installation) as instance:
            return definitions.resolve_job_def(job).execute_in_process(
                instance=instance, partition_key=partition, run_config=run_config or {}, raise_on_error=False
            )

    def published(self, call_date: date = CALL_DATE) -> list[tuple[object, ...]]:
        """The published rows of a day without the stamps of the run."""
        with self.installation.published() as connection:
            return connection.execute(
                "SELECT rank, caregiver_id, state, whittle_index, reason, propensity, model_version "
                "FROM bandicoot.call_list WHERE call_date = %s ORDER BY rank",
                (call_date,),
            ).fetchall()


@contextmanager
def small_programme(server: embedded.EmbeddedServer, home: Path, **list_options: object) -> Iterator[Programme]:
    """A fresh database and lake with a demo programme, caught up to the list of CALL_DATE; dropped on exit."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home / "dagster"))
        patch.setenv("BANDICOOT_DAGSTER_STORAGE", "")
        patch.setenv("DAGSTER_EVENT_BATCH_SIZE", "500")
        patch.setenv("BANDICOOT_SIMULATED_CAREGIVERS", "200")
        patch.setenv("BANDICOOT_SIMULATED_COHORTS", "2")
        patch.setenv("BANDICOOT_SIMULATED_PROGRAMMES", "1")
        url = server.url.replace("/bandicoot?", f"/{name}?")
        settings = Settings(home=home, database_url=url, lookback_days=42)
        installation = Installation(settings)
        installation.prepare()
        fill_demo(installation, n_caregivers=N_CAREGIVERS, seed=11, day=CALL_DATE, on_progress=lambda *_: None)
        options = load_model_options(training_weeks=10, n_clusters=6, n_draws=200)
        made = Programme(installation, options, clock=lambda: NOON)
        made.catch_up(**list_options)
        yield made
        installation.close()
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
