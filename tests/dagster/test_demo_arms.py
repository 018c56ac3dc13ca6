"""The arms that the pipeline stores for the demo's caregivers are those that the demo's own policy kept apart."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bandicoot_core.contracts import CAREGIVERS
from bandicoot_core.demo import stored_programme
from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.pipeline.extraction import extract_caregivers
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.experiments import read_assignments, read_rollouts
from bandicoot_core.stores.published.keys import read_keys
from bandicoot_dagster.demo_source import extend_demo, fill_demo

LAST_DAY = date(2026, 11, 18)


def quiet(stage: str, done: int, total: int) -> None: ...


@pytest.fixture
def installed(published_url: str, tmp_path: Path) -> Callable[[], Installation]:
    """The same empty installation again and again."""
    number = iter(range(9))

    def make() -> Installation:
        home = tmp_path / str(next(number))
        return Installation(Settings(home=home, database_url=published_url, control_share=0.25))

    return make


def extract(stores: Installation, *days: date) -> None:
    with stores.published() as connection, stores.engine() as engine:
        extract_caregivers(
            stores.source(),
            connection,
            stores.lake,
            engine,
            days=days,
            settings=stores.settings,
            seen_at=datetime.combine(days[-1] + timedelta(days=1), time(), UTC),
        )


def stored(stores: Installation) -> list[dict[str, object]]:
    """caregiver_id, arm and draw of everybody, by id."""
    with stores.published() as connection:
        keys = read_keys(connection, experiment="demo")
        draws = read_assignments(connection, experiment="demo")
    return keys.join(draws, "caregiver_key").sort_by("caregiver_id").drop_columns(["caregiver_key"]).to_pylist()


def test_a_demo_continued_day_by_day_has_the_arms_of_one_filled_at_once_and_its_generator_knew_them(
    installed: Callable[[], Installation],
) -> None:
    stores = installed()
    fill_demo(stores, n_caregivers=900, seed=5, day=LAST_DAY - timedelta(days=30), on_progress=quiet)
    extract(stores, LAST_DAY - timedelta(days=31))
    for days_later in (25, 21, 20, 13, 6, 1, 0):
        today = LAST_DAY - timedelta(days=days_later)
        with stores.published() as connection:
            programme = stored_programme(connection)
        assert programme is not None
        extend_demo(stores, programme, today + timedelta(days=1), on_progress=quiet)
        extract(stores, today)
    by_day, truth = stored(stores), pq.read_table(stores.settings.home / "demo_truth/truth_caregivers.parquet")
    assert [row["ab_arm"] == "control" for row in by_day] == truth["is_control"].to_pylist()
    assert len(by_day) > 900
    n_control = sum(row["ab_arm"] == "control" for row in by_day)
    assert abs(n_control / len(by_day) - 0.25) < 0.03

    with stores.published() as connection:
        n_called_controls = connection.execute(
            "SELECT count(*) FROM bandicoot.call_outcomes WHERE caregiver_id = ANY (%s)",
            ([row["caregiver_id"] for row in by_day if row["ab_arm"] == "control"],),
        ).fetchone()
        assert n_called_controls == (0,)
        (rollout,) = read_rollouts(connection, experiment="demo")
        assert (rollout.rollout_share, rollout.in_force_at.date()) == (0.75, date(2026, 2, 22))

    whole = Installation(stores.settings)
    with whole.published() as connection:
        connection.execute("TRUNCATE bandicoot.caregiver_keys, bandicoot.experiment_assignments RESTART IDENTITY")
    whole.lake.clear()  # with its keys it would belong to another database
    extract(whole, LAST_DAY)
    assert stored(whole) == by_day
    assert whole.lake.read(CAREGIVERS, "caregivers", LAST_DAY.isoformat()).num_rows == len(by_day)


def test_a_demo_goes_on_under_a_raised_rollout_but_not_when_its_calls_would_reach_controls(
    installed: Callable[[], Installation],
) -> None:
    stores = installed()
    fill_demo(stores, n_caregivers=300, seed=5, day=LAST_DAY, on_progress=quiet)
    with stores.published() as connection:
        programme = stored_programme(connection)
    assert programme is not None
    raised = Installation(stores.settings.model_copy(update={"control_share": 0.1}))
    extend_demo(raised, programme, LAST_DAY + timedelta(days=1), on_progress=quiet)
    for changed in ({"control_share": 0.5}, {"experiment": "autumn"}):
        other = Installation(stores.settings.model_copy(update=changed))
        with pytest.raises(InvalidSettingError, match=r"experiment 'demo' with a control share of 0\.25; found"):
            extend_demo(other, programme, LAST_DAY + timedelta(days=2), on_progress=quiet)
