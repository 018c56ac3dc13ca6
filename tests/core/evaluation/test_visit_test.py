"""The exact test against an enumeration of every order of weeks, and on chains with and without memory."""

from collections import defaultdict
from itertools import pairwise, product

import numpy as np
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import PASSIVE_TUPLE
from bandicoot_core.evaluation.visit_test import one_week_visits, visit_moments, visit_tests
from tests.core.evaluation.histories import draw_history
from tests.core.evaluation.models import history_of, in_engine

N_WEEKS = 9


def counts_of(states: tuple[int, ...]) -> tuple[int, ...]:
    pairs = list(pairwise(states))
    return tuple(pairs.count(pair) for pair in ((1, 1), (1, 0), (0, 1), (0, 0)))


def lonely(states: tuple[int, ...], state: int) -> int:
    """Weeks in a state between two weeks in the other one."""
    triples = zip(states, states[1:], states[2:], strict=False)
    return sum(triple == (1 - state, state, 1 - state) for triple in triples)


def test_the_moments_are_those_of_every_order_of_weeks_with_the_same_counts() -> None:
    orders = defaultdict(list)
    for states in product((0, 1), repeat=N_WEEKS):
        orders[states[0], counts_of(states)].append(states)
    n_compared = 0
    for (first, (n_rr, n_ru, n_ur, n_uu)), alike in orders.items():
        last = first + n_ur - n_ru
        for state, entered, stays in ((0, n_ru, n_uu), (1, n_ur, n_rr)):
            starts, ends = float(first == state), float(last == state)
            visits = entered + starts
            found = np.array([lonely(states, state) for states in alike], dtype=float)
            mean, variance = visit_moments(
                np.array([visits]), np.array([max(visits - starts - ends, 0.0)]), np.array([float(stays)])
            )
            assert mean[0] == pytest.approx(found.mean(), abs=1e-12)
            assert variance[0] == pytest.approx(found.var(), abs=1e-12)
            n_compared += len(alike) > 1
    assert n_compared > 100


def test_visits_are_counted_for_caregivers_observed_and_never_called(shared_engine: Backend) -> None:
    history = history_of(
        shared_engine,
        # Words read from the right: week 0 is the last digit.
        (1, 0b01001, 0, 0b11111),  # R U U R U
        (2, 0b01010, 0, 0b11111),  # U R U R U
        (3, 0b01010, 0, 0b11111),
        (4, 0b01010, 1, 0b11111),  # called
        (5, 0b01010, 0, 0b11110),  # enrolled later
        (6, 0b10101, 0, 0b11111),  # R U R U R: visits that begin or end the history are not between two others
    )
    grouped = one_week_visits(history, n_weeks=5).to_pyarrow().to_pylist()
    names = [*PASSIVE_TUPLE, "is_responsive_first", "n_uru", "n_rur", "n"]
    assert sorted(tuple(row[name] for name in names) for row in grouped) == [
        (0, 2, 1, 1, 1, 1, 0, 1),
        (0, 2, 2, 0, 0, 2, 1, 2),
        (0, 2, 2, 0, 1, 1, 2, 1),
    ]


@pytest.mark.parametrize(("memory", "is_found"), [(0.0, False), (0.3, True)])
def test_memory_is_found_and_differences_between_caregivers_are_not_taken_for_it(
    shared_engine: Backend, memory: float, is_found: bool
) -> None:
    rows = draw_history(4000, 26, seed=9, p_call=0.0, share_new=0.0, memory=memory)
    tests = visit_tests(one_week_visits(in_engine(shared_engine, rows), n_weeks=26).to_pyarrow())
    assert [test.state for test in tests] == ["U", "R"]
    for test in tests:
        # Memory keeps caregivers where they stayed: more one-week visits, and longer ones, than two states expect.
        assert (test.z > 5) if is_found else (abs(test.z) < 3), test


def test_caregivers_who_never_change_say_nothing(shared_engine: Backend) -> None:
    history = history_of(shared_engine, (1, 0b111, 0, 0b111), (2, 0, 0, 0b111))
    assert visit_tests(one_week_visits(history, n_weeks=3).to_pyarrow()) == ()
    assert visit_tests(one_week_visits(history_of(shared_engine), n_weeks=3).to_pyarrow()) == ()
