"""The experiment report finds, through real tables, the effect that the demo's generator really has.

The truth: the generator is run twice on the same random streams, once with the calls it made and once with none. The
mean difference of a treated caregiver's share of responsive weeks is what being in treatment changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bandicoot_core.calendar import days_between, last_day_of_week, start_of_day
from bandicoot_core.contracts import (
    ENGAGEMENT_HISTORY,
    EXPERIMENT_BALANCE,
    EXPERIMENT_EFFECTS,
    EXPERIMENT_WEEKS,
    OFF_POLICY_VALUES,
)
from bandicoot_core.demo import Programme, create_source_schema, fill
from bandicoot_core.demo.chains import ChainWeek, weekly_chains
from bandicoot_core.demo.doses import DOSES, DoseBook
from bandicoot_core.demo.population import Population, build_population
from bandicoot_core.demo.programme import epoch_day
from bandicoot_core.errors import MissingPartitionError
from bandicoot_core.evaluation.experiment_charts import (
    balance_of_arms,
    effect_over_weeks,
    effects_with_intervals,
    values_of_policies,
)
from bandicoot_core.pipeline.engagement import materialize_engagement_history
from bandicoot_core.pipeline.evaluation_experiment import materialize_experiment_report
from bandicoot_core.pipeline.extraction import (
    extract_calls,
    extract_caregivers,
    extract_sms_events,
    extract_vaccinations,
)
from bandicoot_core.policy.experiment import draw_caregivers, is_control
from bandicoot_core.settings import ModelOptions, Settings
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.experiments import record_rollout
from bandicoot_core.stores.published.keys import read_keys
from tests.conftest import fresh_database

WEEK = date(2026, 11, 8)
N_WEEKS = 12
PROGRAMME = Programme(n_caregivers=4_000, n_weeks=N_WEEKS, as_of_date=date(2026, 11, 15), seed=4, control_share=0.5)
PROGRAMME = replace(PROGRAMME, policy=replace(PROGRAMME.policy, daily_budget_share=0.03))
OPTIONS = ModelOptions(training_weeks=N_WEEKS)


def control_arm(registry: pa.Table) -> np.ndarray:
    drawn = draw_caregivers(registry, experiment="demo", n_drawn={})
    return is_control(drawn["draw"].to_numpy(), rollout_share=0.5)


@dataclass
class Reported:
    """An installation with the programme in its lake, and the report of WEEK."""

    stores: Installation
    effects: dict[str, dict[str, float]]
    weeks: pa.Table
    balance: pa.Table


@pytest.fixture(scope="module")
def reported(
    server: embedded.EmbeddedServer, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reported]:
    home: Path = tmp_path_factory.mktemp("experiment")
    with fresh_database(server, migrated_template) as url:
        stores = Installation(Settings(home=home, database_url=url, control_share=0.5))
        days = days_between(PROGRAMME.first_week_date, last_day_of_week(WEEK))
        with stores.published() as connection, stores.engine() as engine:
            create_source_schema(connection)
            fill(connection, PROGRAMME, truth_dir=home / "truth", is_control=control_arm)
            began_at = start_of_day(PROGRAMME.origin_date)
            record_rollout(connection, experiment="demo", rollout_share=0.5, in_force_at=began_at)
            source, places = stores.source(), (connection, stores.lake, engine)
            seen_at = datetime(2026, 11, 15, 3, tzinfo=UTC)
            extract_caregivers(source, *places, days=days[-1:], settings=stores.settings, seen_at=seen_at)
            extract_sms_events(source, *places, days=days, settings=stores.settings)
            extract_vaccinations(source, *places, days=days, settings=stores.settings)
            extract_calls(*places, days=days, settings=stores.settings)
        materialize_engagement_history(stores, WEEK, OPTIONS)
        materialize_experiment_report(stores, WEEK, OPTIONS)
        yield read_report(stores)


def read_report(stores: Installation) -> Reported:
    key = WEEK.isoformat()
    effects = stores.lake.read(EXPERIMENT_EFFECTS, "experiment_report", key)
    return Reported(
        stores,
        {row["outcome"]: row for row in effects.to_pylist()},
        stores.lake.read(EXPERIMENT_WEEKS, "experiment_report", key, "weeks"),
        stores.lake.read(EXPERIMENT_BALANCE, "experiment_report", key, "balance"),
    )


@dataclass
class Truth:
    """What the generator knows: of the caregivers of the history, by position in its population."""

    population: Population
    is_treated: np.ndarray
    in_control: np.ndarray
    """Of everybody; who is neither treated nor in control has left the programme."""

    def runs(self) -> Iterator[tuple[list[ChainWeek], DoseBook]]:
        """The weeks and doses with the calls that were made, then on the same random streams without any."""
        for control in (self.in_control, np.ones_like(self.in_control)):
            doses = DoseBook(PROGRAMME, self.population)
            weeks = list(weekly_chains(PROGRAMME, self.population, is_control=control))
            for week in weeks:
                doses.record_week(week)
            yield weeks, doses


@pytest.fixture(scope="module")
def truth(reported: Reported) -> Truth:
    population = build_population(PROGRAMME)
    with reported.stores.published() as connection:
        keys = read_keys(connection, experiment="demo")
    history = reported.stores.lake.read(ENGAGEMENT_HISTORY, "engagement_history", WEEK.isoformat())
    active = pc.is_in(keys["caregiver_key"], value_set=history["caregiver_key"])
    is_treated, in_control = (np.zeros(population.n_caregivers, dtype=bool) for _ in range(2))
    is_treated[_positions(keys.filter(pc.and_(active, pc.equal(keys["ab_arm"], "treatment"))))] = True
    in_control[_positions(keys.filter(pc.equal(keys["ab_arm"], "control")))] = True
    return Truth(population, is_treated, in_control)


def _positions(keys: pa.Table) -> list[int]:
    return [int(name.removeprefix("CG-")) for name in keys["caregiver_id"].to_pylist()]


def true_effect_on_weeks(truth: Truth) -> float:
    """The mean effect on the treated caregivers' share of responsive weeks."""
    population = truth.population
    started = np.array([PROGRAMME.week_start_second(week) for week in range(N_WEEKS)])
    # The programme begins on a Sunday, so that week 0 is the first whole one.
    counted = (started > population.enrolled_second[:, None] + 6 * 7 * 86_400) & truth.is_treated[:, None]
    n_responsive = np.zeros((2, population.n_caregivers))
    for run, (weeks, _) in enumerate(truth.runs()):
        for week in weeks:
            n = len(week.is_responsive)
            n_responsive[run, :n] += week.is_responsive & counted[:n, week.week]
    n_weeks = counted.sum(axis=1)
    has_weeks = n_weeks > 0
    return float(((n_responsive[0] - n_responsive[1])[has_weeks] / n_weeks[has_weeks]).mean())


def true_doses(truth: Truth) -> tuple[float, float]:
    """The treated caregivers' doses on time over the mean of doses due, with the calls that were made and without."""
    enrolled = truth.population.enrolled_day.astype(np.int64)
    first = np.maximum(epoch_day(PROGRAMME.origin_date), enrolled + 42)
    due = enrolled + np.array([[dose.due_after_days] for dose in DOSES])
    is_due = (due >= first) & (due <= epoch_day(last_day_of_week(WEEK)) - 6)
    has_due = is_due.any(axis=0)
    # Who has left counts too: her doses are recorded like everybody's.
    treated = has_due & np.logical_not(truth.in_control)
    n_due = is_due.sum(axis=0)[has_due].mean()
    n_on_time = [(is_due & (doses.given_day - due < 7)).sum(axis=0)[treated].mean() for _, doses in truth.runs()]
    return float(n_on_time[0] / n_due), float(n_on_time[1] / n_due)


def test_the_interval_holds_the_true_effect_and_not_zero(reported: Reported, truth: Truth) -> None:
    effect, found = true_effect_on_weeks(truth), reported.effects["responsive_weeks"]
    print(f"true effect {effect:.4f}, found {found}")
    assert 0.03 < effect < 0.2
    assert found["low"] < effect < found["high"]
    assert found["low"] > 0
    assert found["p_value"] == 0.001
    assert found["high"] - found["low"] < effect


def test_the_doses_compared_are_those_due_since_treatment_began(reported: Reported, truth: Truth) -> None:
    found = reported.effects["doses_on_time"]
    with_calls, without_calls = true_doses(truth)
    print(f"true effect {with_calls - without_calls:.4f}, found {found}")
    assert found["low"] < with_calls - without_calls < found["high"]
    # Doses are few and calls move them little: no programme of this size could tell.
    assert found["detectable_effect"] > with_calls - without_calls > 0
    assert found["treatment_mean"] == pytest.approx(with_calls, abs=1e-12)


def test_the_always_valid_interval_is_wider_and_holds_the_effect_of_each_week(reported: Reported) -> None:
    weeks, found = reported.weeks, reported.effects["responsive_weeks"]
    assert weeks["week_date"].to_pylist() == [WEEK - timedelta(weeks=k) for k in reversed(range(N_WEEKS))]
    last = weeks.slice(N_WEEKS - 1).to_pylist()[0]
    assert last["estimate"] == pytest.approx(found["estimate"], abs=1e-12)
    assert last["low"] < found["low"] < found["high"] < last["high"]
    assert last["low"] > 0


def test_the_arms_were_alike_before_and_lost_as_many(reported: Reported) -> None:
    balance = {(row["fact"], row["level"]): row for row in reported.balance.to_pylist()}
    assert {fact for fact, _ in balance} == {
        *("district", "age", "parity", "phone_reliable", "enrollment_source", "status", "responsive_share_before")
    }
    for key in balance:
        if key[0] in ("district", "phone_reliable", "parity"):
            assert abs(balance[key]["standardized_difference"]) < 0.05, key
        assert abs(balance[key]["standardized_difference"]) < 0.12, key
        assert balance[key]["p_value"] > 0.001, key


def test_the_report_is_the_same_every_time_and_says_what_it_was_made_of(reported: Reported) -> None:
    before = reported.stores.lake.require("experiment_report", WEEK.isoformat())
    again = materialize_experiment_report(reported.stores, WEEK, OPTIONS)
    assert again == before
    assert set(again.inputs) == {"engagement_history", "caregivers", "vaccinations"}
    assert again.facts["rollout_share"] == 0.5
    assert again.recipe["rollouts"] == [[start_of_day(PROGRAMME.origin_date).isoformat(), 0.5]]


def test_without_lists_nothing_is_said_about_other_policies(reported: Reported) -> None:
    values = reported.stores.lake.read(OFF_POLICY_VALUES, "experiment_report", WEEK.isoformat(), "off_policy")
    assert values.num_rows == 0
    assert values_of_policies(values)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("shares", "note"),
    [
        ([], "no experiment had begun by the end of the week"),
        ([(0, 1.0)], "nobody can be compared at a rollout of 1: one arm is empty"),
        ([(0, 0.5), (11, 0.9)], "has no whole week yet"),
    ],
)
def test_a_week_without_a_comparison_says_why_and_stays_empty(
    reported: Reported, shares: list[tuple[int, float]], note: str
) -> None:
    stores, began_at = reported.stores, start_of_day(PROGRAMME.origin_date)
    with stores.published() as connection:
        connection.execute("DELETE FROM bandicoot.experiment_rollouts")
        try:
            for weeks_later, share in shares:
                in_force_at = began_at + timedelta(weeks=weeks_later, days=1 if weeks_later else 0)
                record_rollout(connection, experiment="demo", rollout_share=share, in_force_at=in_force_at)
            manifest = materialize_experiment_report(stores, WEEK, OPTIONS)
        finally:
            connection.execute("DELETE FROM bandicoot.experiment_rollouts")
            record_rollout(connection, experiment="demo", rollout_share=0.5, in_force_at=began_at)
    assert note in manifest.facts["note"]
    empty = read_report(stores)
    assert (empty.effects, empty.weeks.num_rows, empty.balance.num_rows) == ({}, 0, 0)
    for png in (
        effects_with_intervals(EXPERIMENT_EFFECTS.empty()),
        effect_over_weeks(empty.weeks),
        balance_of_arms(empty.balance),
    ):
        assert png[:4] == b"\x89PNG"
    materialize_experiment_report(stores, WEEK, OPTIONS)


def test_a_week_without_a_history_names_what_to_materialize(reported: Reported) -> None:
    with pytest.raises(MissingPartitionError, match="engagement_history/2026-11-01 does not exist"):
        materialize_experiment_report(reported.stores, WEEK - timedelta(weeks=1), OPTIONS)
