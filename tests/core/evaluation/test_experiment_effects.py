"""From sums per caregiver to the report's tables; on the demo's chains the intervals hold the generator's truth."""

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import binom

from bandicoot_core.contracts import (
    EXPERIMENT_BALANCE,
    EXPERIMENT_EFFECTS,
    EXPERIMENT_OUTCOMES,
    EXPERIMENT_WEEKS,
    OFF_POLICY_VALUES,
)
from bandicoot_core.demo.chains import weekly_chains
from bandicoot_core.demo.doses import DOSES, DoseBook
from bandicoot_core.demo.population import build_population
from bandicoot_core.demo.programme import Programme, epoch_day
from bandicoot_core.demo.rows import Window, caregiver_rows
from bandicoot_core.evaluation import experiment_charts as charts
from bandicoot_core.evaluation.experiment_effects import balance_facts, effects_table, weeks_table
from bandicoot_core.policy.experiment import draw_caregivers, is_control

WEEKS = [date(2026, 8, 2) + timedelta(weeks=k) for k in range(3)]
N_RUNS = 40
N_WEEKS = 12


def sums(n_blocks: int = 20, effect: float = 0.1, seed: int = 1) -> pa.Table:
    """Caregivers in blocks of ten, half of them treated, with ten weeks and two doses due each."""
    rng = np.random.default_rng(seed)
    n = 10 * n_blocks
    is_treatment = rng.permuted(np.tile(np.arange(10) < 5, (n_blocks, 1)), axis=1).ravel()
    rate = rng.random(n)
    return pa.table(
        {
            "is_treatment": is_treatment,
            "block": np.repeat(np.arange(n_blocks), 10),
            "n_weeks_before": pa.array([4] * n, pa.int16()),
            "n_responsive_before": rng.binomial(4, rate).astype(np.int16),
            "n_weeks": pa.array([10] * n, pa.int16()),
            "n_responsive": rng.binomial(10, np.clip(rate + effect * is_treatment, 0, 1)).astype(np.int16),
            "n_due": pa.array([2] * n, pa.int16()),
            "n_on_time": rng.binomial(2, 0.5, n).astype(np.int16),
        }
    )


def test_each_outcome_has_its_effect_over_those_who_have_one() -> None:
    table = sums()
    some = table.set_column(table.column_names.index("n_due"), "n_due", pa.array([2, 0] * 100, pa.int16()))
    none = [None if k < 20 else 10 for k in range(200)]
    some = some.set_column(table.column_names.index("n_weeks"), "n_weeks", pa.array(none, pa.int16()))
    effects = effects_table(some, n_redraws=199, seed=1)
    assert effects.schema == EXPERIMENT_EFFECTS.arrow_schema()
    rows = {row["outcome"]: row for row in effects.to_pylist()}
    assert (rows["responsive_weeks"]["n_treatment"], rows["responsive_weeks"]["n_control"]) == (90, 90)
    assert rows["doses_on_time"]["n_treatment"] + rows["doses_on_time"]["n_control"] == 100
    found = rows["responsive_weeks"]
    assert found["low"] < 0.09 < found["high"]
    assert found["low"] > 0
    # The mean is the share of due doses on time.
    on_time = np.array(some["n_on_time"].to_pylist())[::2]
    treated = np.array(some["is_treatment"].to_pylist())[::2]
    assert rows["doses_on_time"]["treatment_mean"] == pytest.approx(on_time[treated].mean() / 2)


def test_an_outcome_without_both_arms_in_a_block_has_no_row() -> None:
    table = sums(2)
    nobody_due = table.set_column(table.column_names.index("n_due"), "n_due", pa.array([0] * 20, pa.int16()))
    assert effects_table(nobody_due, n_redraws=99, seed=1)["outcome"].to_pylist() == ["responsive_weeks"]
    apart = table.set_column(1, "block", table["is_treatment"].cast(pa.int64()))
    assert effects_table(apart, n_redraws=99, seed=1).num_rows == 0


def test_the_course_over_the_weeks_ends_at_the_effect_and_skips_weeks_without_a_comparison() -> None:
    table = sums()
    by_week = table.select(["is_treatment", "block", "n_weeks_before", "n_responsive_before"])
    for k, share in enumerate((0, 0.5, 1)):
        for name in ("n_weeks", "n_responsive"):
            values = (share * table[name].to_numpy()).astype(np.int16)
            by_week = by_week.append_column(f"{name}_{k}", pa.array(values))
    course = weeks_table(by_week, WEEKS)
    assert course.schema == EXPERIMENT_WEEKS.arrow_schema()
    assert course["week_date"].to_pylist() == WEEKS[1:]
    (effect,) = (
        row for row in effects_table(table, n_redraws=99, seed=1).to_pylist() if row["outcome"] == "responsive_weeks"
    )
    last = course.to_pylist()[-1]
    assert last["estimate"] == pytest.approx(effect["estimate"])
    assert last["low"] < effect["low"] < effect["high"] < last["high"]


def test_the_facts_compared_hold_the_share_of_responsive_weeks_before() -> None:
    facts = balance_facts(
        pa.table(
            {
                **{name: ["a", "a", "a"] for name in ("district", "enrollment_source", "status")},
                **{name: [1, 1, 1] for name in ("age", "parity")},
                "phone_reliable": [True, None, False],
                "n_weeks_before": pa.array([4, 0, None], pa.int16()),
                "n_responsive_before": pa.array([1, 0, None], pa.int16()),
            }
        )
    )
    assert facts["responsive_share_before"].to_pylist() == [0.25, None, None]


def run_programme(seed: int, *, with_calls: bool) -> tuple[pa.Table, dict[str, float]]:
    """The sums of one demo programme, and by outcome the true mean effect on its treated caregivers."""
    programme = Programme(n_caregivers=1_500, n_weeks=N_WEEKS, as_of_date=date(2026, 11, 15), seed=seed)
    programme = replace(programme, policy=replace(programme.policy, daily_budget_share=0.04))
    population = build_population(programme)
    n = population.n_caregivers
    registry = caregiver_rows(programme, population, slice(0, n), Window(None, programme.as_of_date))
    drawn = draw_caregivers(registry, experiment=f"run {seed}", n_drawn={})
    control = is_control(drawn["draw"].to_numpy(), rollout_share=0.5)
    nobody = np.ones(n, dtype=bool)

    callable_week = np.maximum(population.enrolled_week + 7, 0)
    due = population.enrolled_day.astype(np.int64) + np.array([[dose.due_after_days] for dose in DOSES])
    is_due = (due >= population.enrolled_day + 42) & (due >= epoch_day(programme.origin_date))
    is_due &= due <= epoch_day(programme.as_of_date) - 7
    n_responsive, n_on_time = np.zeros((2, n), dtype=np.int16), np.zeros((2, n), dtype=np.int16)
    for run, arm in enumerate((control if with_calls else nobody, nobody)):
        doses = DoseBook(programme, population)
        for chain in weekly_chains(programme, population, is_control=arm):
            n_enrolled = len(chain.is_responsive)
            n_responsive[run, :n_enrolled] += chain.is_responsive & (callable_week[:n_enrolled] <= chain.week)
            doses.record_week(chain)
        n_on_time[run] = (is_due & (doses.given_day - due < 7)).sum(axis=0)
    n_weeks, n_due = np.maximum(N_WEEKS - callable_week, 0).astype(np.int16), is_due.sum(axis=0).astype(np.int16)
    stratum = drawn["stratum"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    table = pa.table(
        {
            "is_treatment": np.logical_not(control),
            "block": 1000 * stratum + drawn["block"].to_numpy(),
            "n_weeks_before": np.zeros(n, dtype=np.int16),
            "n_responsive_before": np.zeros(n, dtype=np.int16),
            "n_weeks": n_weeks,
            "n_responsive": n_responsive[0],
            "n_due": n_due,
            "n_on_time": n_on_time[0],
        }
    )
    has_weeks, has_due = (n_weeks > 0) & np.logical_not(control), (n_due > 0) & np.logical_not(control)
    gained = (n_responsive[0] - n_responsive[1])[has_weeks] / n_weeks[has_weeks]
    return table, {
        "responsive_weeks": float(gained.mean()),
        "doses_on_time": float((n_on_time[0] - n_on_time[1])[has_due].mean() / n_due[n_due > 0].mean()),
    }


@pytest.mark.parametrize("with_calls", [True, False])
def test_on_forty_demo_programmes_the_intervals_hold_the_generators_truth(with_calls: bool) -> None:
    n_covered, n_found = Counter[str](), Counter[str]()
    for seed in range(N_RUNS):
        table, truth = run_programme(seed, with_calls=with_calls)
        for effect in effects_table(table, n_redraws=199, seed=seed).to_pylist():
            outcome = effect["outcome"]
            n_covered[outcome] += effect["low"] <= truth[outcome] <= effect["high"]
            n_found[outcome] += effect["p_value"] <= 0.05
    print(f"with calls {with_calls}, of {N_RUNS}: covered {dict(n_covered)}, effect found {dict(n_found)}")
    for outcome in EXPERIMENT_OUTCOMES:
        assert n_covered[outcome] >= binom.ppf(0.001, N_RUNS, 0.95), outcome
        assert with_calls or n_found[outcome] <= binom.ppf(0.999, N_RUNS, 0.05), outcome
    assert not with_calls or n_found["responsive_weeks"] > 0.8 * N_RUNS


def test_the_charts_are_pictures_with_the_same_bytes_every_time_even_of_nothing() -> None:
    effects = effects_table(sums(), n_redraws=99, seed=1)
    opened = effects.set_column(
        effects.column_names.index("low"), "low", pa.array([-np.inf] * effects.num_rows, pa.float64())
    )
    for draw, table in (
        (charts.effects_with_intervals, effects),
        (charts.effects_with_intervals, opened),
        (charts.effects_with_intervals, EXPERIMENT_EFFECTS.empty()),
        (charts.effect_over_weeks, EXPERIMENT_WEEKS.empty()),
        (charts.balance_of_arms, EXPERIMENT_BALANCE.empty()),
        (charts.values_of_policies, OFF_POLICY_VALUES.empty()),
    ):
        png = draw(table)
        assert png[:4] == b"\x89PNG"
        assert draw(table) == png
