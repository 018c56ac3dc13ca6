from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from bandicoot_core.demo.population import Population, build_population
from bandicoot_core.demo.programme import BEHAVIOURAL_TYPES, Programme, epoch_day
from bandicoot_core.errors import InvalidSettingError

AS_OF = date(2026, 11, 19)


def enrolled_by(population: Population, day: date) -> int:
    return population.n_enrolled_before(epoch_day(day))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 3000), weeks=st.integers(1, 60), day=st.integers(0, 6), seed=st.integers(0, 2**40))
def test_exactly_the_asked_number_is_enrolled_at_the_first_as_of_date(n: int, weeks: int, day: int, seed: int) -> None:
    as_of = AS_OF + timedelta(days=day)
    population = build_population(Programme(n_caregivers=n, n_weeks=weeks, as_of_date=as_of, seed=seed))
    assert enrolled_by(population, as_of) == n
    assert np.all(np.diff(population.enrolled_day) >= 0)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 2000), days_later=st.integers(0, 200))
def test_a_later_as_of_date_changes_nobody_who_was_there_before(n: int, days_later: int) -> None:
    short = Programme(n_caregivers=n, n_weeks=10, as_of_date=AS_OF).with_fixed_start()
    before = build_population(short)
    after = build_population(replace(short, as_of_date=AS_OF + timedelta(days=days_later)))
    for name, column in vars(before).items():
        later = getattr(after, name)[: before.n_caregivers]
        assert later.equals(column) if name == "caregiver_ids" else np.array_equal(later, column), name


def test_sixty_percent_enrol_before_the_start_and_the_rest_at_a_growing_pace() -> None:
    programme = Programme(n_caregivers=2000, n_weeks=34, as_of_date=AS_OF).with_fixed_start()
    population = build_population(replace(programme, as_of_date=AS_OF + timedelta(weeks=17)))
    origin = programme.origin_date
    at_start, at_half, at_end, beyond = (enrolled_by(population, origin + timedelta(weeks=w)) for w in (0, 17, 34, 51))
    assert (at_start, at_end) == (1200, 2000)
    # Level 1 at the start, 2 at the end: (0.5 + 0.125) / 1.5 of the growth has come by half-time.
    assert abs(at_half - 1200 - 800 * 0.625 / 1.5) <= 1
    # Afterwards at the last level: half a span of 2 / 1.5.
    assert abs(beyond - 2000 - 800 * 0.5 * 2 / 1.5) <= 1


def test_everybody_enrols_in_office_hours_of_the_programme_at_a_plausible_age() -> None:
    population = build_population(Programme(n_caregivers=3000, as_of_date=AS_OF))
    second_of_day = population.enrolled_second + 19_800 - population.enrolled_day.astype(np.int64) * 86_400
    assert second_of_day.min() >= 9 * 3600
    assert second_of_day.max() < 18 * 3600
    assert (population.age.min(), population.parity.min(), population.parity.max()) == (17, 1, 5)
    assert 38 <= population.age.max() <= 42
    assert 0 < np.mean(~population.is_age_known) < 0.015
    assert set(population.district) == set(range(8))


def test_features_tell_types_apart_better_than_the_majority_but_far_from_perfectly() -> None:
    population = build_population(Programme(n_caregivers=20_000, as_of_date=AS_OF))
    n = population.n_caregivers
    features = np.column_stack(
        [
            population.age,
            population.parity,
            population.is_phone_reliable,
            np.eye(8)[population.district],
            np.eye(4)[population.source],
        ]
    )
    is_test = np.arange(n) % 4 == 0
    scaled = StandardScaler().fit_transform(features)
    classifier = LogisticRegression(max_iter=500).fit(scaled[~is_test], population.type_id[~is_test])
    accuracy = classifier.score(scaled[is_test], population.type_id[is_test])
    majority = np.bincount(population.type_id[is_test]).max() / is_test.sum()
    assert majority + 0.08 < accuracy < 0.7


def test_calls_help_some_types_in_u_others_in_r_and_some_not_at_all() -> None:
    lift = {
        kind.name: (kind.p_active[0] - kind.p_passive[0], kind.p_active[1] - kind.p_passive[1])
        for kind in BEHAVIOURAL_TYPES
    }
    assert 6 <= len(lift) <= 8
    assert any(in_u > 0.3 and in_r < 0.1 for in_u, in_r in lift.values())
    assert any(in_r > 0.1 and in_u < 0.1 for in_u, in_r in lift.values())
    assert any(max(in_u, in_r) <= 0.01 for in_u, in_r in lift.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_caregivers": 0}, "n_caregivers is 0; expected at least 1"),
        ({"p_opted_out": 1.0}, "p_opted_out is 1.0"),
        ({"start_date": AS_OF}, "as_of_date is 2026-11-19; expected after 2026-11-19"),
        ({"types": (replace(BEHAVIOURAL_TYPES[0], p_passive=(0.0, 1.0)),)}, "forget where they began"),
        ({"types": (replace(BEHAVIOURAL_TYPES[0], source_leanings=()),)}, "one per source of enrolment"),
    ],
)
def test_parameters_out_of_bounds_are_refused_by_name(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSettingError, match=message):
        replace(Programme(as_of_date=AS_OF), **wrong)
