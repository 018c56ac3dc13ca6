"""What the service is asked about: a published list and everybody's state, keys, and the hands of a nightly run.

The large one is a demo programme that `bandicoot demo` and `bandicoot run` have made; it is kept between runs, and
brought to today's list by `bandicoot run` when it is older.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from bandicoot_core.calendar import day_of
from bandicoot_core.pipeline.recommendations import recommend_now
from bandicoot_core.settings import Settings, load_list_options
from bandicoot_core.stores.cache.current_answers import Standing, standing
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.api_keys import create_key
from bandicoot_core.stores.published.call_lists import (
    UNSTAMPED_CALL_LIST,
    last_publication,
    publish_call_list,
    read_call_list,
)
from bandicoot_core.stores.published.live_ranking import LiveRules
from benchmarks.load.traffic import COLUMNS, Question
from benchmarks.measure import default_settings, run_command, say

LISTED = 2000
"""Rows of the list: more than anybody may ask for."""
_KEYS_PREFIX = "load "
_CALLS_PREFIX = "load-"


def prepare(home: Path, n_caregivers: int) -> None:
    """Make a home with a demo programme of that size and today's list, or bring the one that is there to today."""
    today = day_of(datetime.now(UTC))
    command = [sys.executable, "-c", "from bandicoot_dagster.cli import main; main()"]
    environment = default_settings(home=str(home), budget=str(LISTED))
    started = time.monotonic()
    if not (home / "made").exists():
        say(f"making a demo programme of {n_caregivers:,} caregivers in {home}, once")
        run_command([*command, "demo", "--caregivers", str(n_caregivers)], environment)
        (home / "made").touch()
    stores = Installation(Settings(home=home))
    try:
        stores.prepare()
        with stores.published() as connection:
            newest = last_publication(connection)
    finally:
        stores.close()
    if newest is None or newest.call_date < today:
        say(f"making the list of {today}")
        run_command([*command, "run"], environment)
    say(f"the home is ready after {time.monotonic() - started:.0f} s")


@dataclass(frozen=True)
class Publication:
    """A published list as a reader of PostgreSQL sees it."""

    name: str
    committed_at: float
    """By the machine's monotonic clock; for the list that was there before, minus infinity."""
    rows: list[tuple[Any, ...]]
    """COLUMNS, in calling order."""
    rankings: dict[Question, list[tuple[Any, ...]]]
    """What a ranking as of then gave, by question."""


class Hands:
    """What an operator and the nightly run do to an installation while it is being read."""

    def __init__(self, stores: Installation) -> None:
        self.stores = stores
        with stores.published() as connection:
            self._first = _unstamped(read_call_list(connection))

    def keys(self, tier: str, n_keys: int, *scopes: str) -> list[str]:
        """The texts of new keys, each of a client of its own: one may have only two."""
        now = datetime.now(UTC)
        with self.stores.published() as connection:
            return [
                create_key(
                    connection, f"{_KEYS_PREFIX}{tier} {now:%H%M%S} {n}", scopes=scopes, tier=tier, created_at=now
                )[0]
                for n in range(n_keys)
            ]

    def districts(self) -> list[str]:
        """Districts of the newest list, those with most of its rows first."""
        with self.stores.published() as connection:
            found = connection.execute(
                "SELECT district FROM bandicoot.current_call_list WHERE district IS NOT NULL "
                "GROUP BY district ORDER BY count(*) DESC, district"
            ).fetchall()
        return [str(row[0]) for row in found]

    def newest(self, questions: Sequence[Question], *, committed_at: float = float("-inf")) -> Publication:
        """The newest list, and what a ranking as of now gives to each question that a standard key may ask."""
        now = datetime.now(UTC)
        options = load_list_options()
        rules = LiveRules(day_of(now), options.cool_down_days, options.pending_days, options.index_level)
        with self.stores.published() as connection:
            current = standing(connection)
            assert current is not None
            assert current.states is not None
            listed = connection.execute(
                "SELECT rank, caregiver_id, district, state, cluster_id, own_index, whittle_index, ab_arm "
                "FROM bandicoot.call_list WHERE call_date = %s ORDER BY rank",
                (current.call_date,),
            ).fetchall()
            rankings = {}
            for question in {question for question in questions if question.tier == "standard"}:
                made = recommend_now(
                    connection,
                    rules,
                    model_version=current.states.model_version,
                    budget=question.budget,
                    district=question.district,
                    is_control_excluded=question.exclude_control,
                    lookback_days=self.stores.settings.lookback_days,
                )
                assert made is not None
                rankings[question] = [tuple(getattr(row, name) for name in COLUMNS) for row in made.rows]
        return Publication(current.publication, committed_at, [tuple(row) for row in listed], rankings)

    def publish_without_first(self, n_fewer: int) -> float:
        """Publish the list of the day without its first rows, as a nightly run publishes; the moment of its commit."""
        rows = self._first.slice(n_fewer)
        ranks = pa.array(range(1, rows.num_rows + 1), pa.int32())
        self._publish(rows.set_column(rows.schema.get_field_index("rank"), "rank", ranks))
        return time.monotonic()

    def clean(self) -> None:
        """Take back what a run has left: the list is the one it was, keys and calls are gone."""
        self._publish(self._first)
        with self.stores.published() as connection:
            connection.execute("DELETE FROM bandicoot.api_keys WHERE starts_with(client, %s)", (_KEYS_PREFIX,))
            connection.execute("DELETE FROM bandicoot.call_outcomes WHERE starts_with(call_id, %s)", (_CALLS_PREFIX,))

    def call_of(self, caregiver_id: str, number: int) -> dict[str, str]:
        """An outcome to report: she was called a moment ago."""
        now = datetime.now(UTC)
        return {
            "call_id": f"{_CALLS_PREFIX}{now:%H%M%S}-{number}",
            "caregiver_id": caregiver_id,
            "call_date": day_of(now).isoformat(),
            "attempted_at": now.isoformat(),
            "outcome": "no_answer",
        }

    def _publish(self, rows: pa.Table) -> None:
        with self.stores.published() as connection:
            current = standing(connection)
            assert isinstance(current, Standing)
            publish_call_list(
                connection,
                rows,
                call_date=current.call_date,
                budget=max(rows.num_rows, 1),
                model_version=current.model_version,
                run_id="load",
                published_at=datetime.now(UTC),
            )


def _unstamped(rows: pa.Table) -> pa.Table:
    return rows.select(UNSTAMPED_CALL_LIST.column_names)
