"""Gains over never calling, against powers of the transition matrix and enumeration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_cohorts import best_responsive_weeks, small_cohort

from bandicoot_core.evaluation.priced_calls import (
    chances_when_awake,
    expected_without_calls,
    gains_of_one_call,
    worth_at_prices,
)

EFFORT = settings(max_examples=60, deadline=None, derandomize=True)
CHANCES = st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0))


def rows(p: np.ndarray) -> np.ndarray:
    """P(next = R | state) as the rows of a transition matrix, states [U, R]."""
    return np.stack([1.0 - p, p], axis=-1)


def test_weeks_without_calls_by_hand() -> None:
    # From U: 0.2, then 0.2 + 0.5 x 0.2 = 0.3, then 0.35; from R: 0.7, 0.55, 0.475.
    expected = expected_without_calls(np.array([[0.2, 0.7], [0.2, 0.7]]), [False, True], 3)
    np.testing.assert_allclose(expected, [0.9, 0.85, 0.825], rtol=1e-14)


@EFFORT
@given(CHANCES, CHANCES, st.integers(1, 6), st.integers(0, 3))
def test_one_call_adds_what_the_powers_of_the_matrix_say(p, q, n_weeks: int, cool_down_weeks: int) -> None:
    passive, active = rows(np.array(p)), rows(np.array(q))
    gains = gains_of_one_call(np.array([p]), np.array([q]), n_weeks)
    for week in range(n_weeks):
        later = sum(np.linalg.matrix_power(passive, k)[:, 1] for k in range(n_weeks - week))
        np.testing.assert_allclose(gains[week, 0], (active - passive) @ later, atol=1e-12)
    awake = chances_when_awake(np.array([p]), np.array([q]), cool_down_weeks)
    np.testing.assert_allclose(awake[0], (active @ np.linalg.matrix_power(passive, cool_down_weeks))[:, 1], atol=1e-12)


@EFFORT
@given(CHANCES, CHANCES, st.booleans(), st.integers(1, 5), st.integers(0, 3))
def test_free_calls_are_worth_what_the_best_policy_gains(p, q, is_responsive, n_weeks, cool_down_weeks) -> None:
    cohort = small_cohort([p], [q], [is_responsive], n_weeks=n_weeks, cool_down_weeks=cool_down_weeks)
    _, worth = worth_at_prices(cohort.p_passive, cohort.p_active, np.zeros((n_weeks, 1)), cool_down_weeks)
    without = expected_without_calls(cohort.p_passive, cohort.is_responsive, n_weeks).sum()
    assert without + worth[0, int(is_responsive)] == pytest.approx(best_responsive_weeks(cohort), abs=1e-9)


def test_in_the_last_week_the_index_is_the_gain_of_the_call() -> None:
    p, q = np.array([[0.1, 0.6]]), np.array([[0.5, 0.9]])
    index, _ = worth_at_prices(p, q, np.full((4, 1), 0.3), 1)
    np.testing.assert_allclose(index[-1], [[0.4, 0.3]], rtol=1e-14)
    # One week earlier with a week of sleep no other call can follow: what is added fades by 0.6 - 0.1, but waiting
    # keeps the right to call in the last week, worth 0.1 in U and nothing in R.
    np.testing.assert_allclose(index[-2], [[0.4 * 1.5 - 0.9 * 0.1, 0.3 * 1.5 - 0.4 * 0.1]], rtol=1e-12)
