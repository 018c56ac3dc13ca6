"""The two wrong indices are what their module says: against the words, by linear equations and value iteration."""

import numpy as np
import pytest

from bandicoot_core.evaluation.lookalike_indices import never_versus_always, separate_subsidy
from bandicoot_core.model.whittle import two_state_indices


def random_arms(n_arms: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((n_arms, 2)), rng.random((n_arms, 2))


def test_always_and_never_calling_are_worth_the_same_at_the_first() -> None:
    g = 0.9
    p, q = random_arms(20, seed=0)
    for passive, active, index in zip(p, q, never_versus_always(p, q, discount=g), strict=True):
        for state in range(2):
            worth = []
            for chances, subsidy in ((passive, index[state]), (active, 0.0)):
                moves = np.stack([1.0 - chances, chances], axis=1)
                worth.append(np.linalg.solve(np.eye(2) - g * moves, np.array([0.0, 1.0]) + subsidy)[state])
            assert worth[0] == pytest.approx(worth[1], abs=1e-10)


def test_a_subsidy_in_one_state_alone_makes_both_actions_equal_there_at_the_second() -> None:
    g, n_arms = 0.8, 200
    p, q = random_arms(n_arms, seed=1)
    found = np.empty((n_arms, 2))
    for state in range(2):
        paid = np.eye(2)[state]
        low, high = np.full(n_arms, -9.0), np.full(n_arms, 9.0)
        for _ in range(45):
            subsidy = (low + high) / 2.0
            v = np.zeros((n_arms, 2))
            for _ in range(120):
                wait, call = (
                    np.array([0.0, 1.0]) + extra + g * (v[:, :1] + x * (v[:, 1:] - v[:, :1]))
                    for x, extra in ((p, subsidy[:, None] * paid), (q, 0.0))
                )
                v = np.maximum(wait, call)
            pays = (call - wait)[:, state] > 0.0
            low, high = np.where(pays, subsidy, low), np.where(pays, high, subsidy)
        found[:, state] = low
    np.testing.assert_allclose(separate_subsidy(p, q, discount=g), found, atol=1e-9)


def test_where_calls_help_the_second_is_right_for_the_lower_index_and_too_low_or_high_for_the_other() -> None:
    rng = np.random.default_rng(2)
    p = rng.uniform(0.0, 0.5, (500, 2))
    q = p + rng.uniform(0.05, 0.5, (500, 2))
    right, wrong = two_state_indices(p, q), separate_subsidy(p, q)
    place = np.arange(500)
    lower, upper = right.argmin(axis=1), right.argmax(axis=1)
    np.testing.assert_allclose(wrong[place, lower], right[place, lower], rtol=1e-12)
    assert (np.abs(wrong - right)[place, upper] > 1e-6).all()


def test_neither_orders_arms_as_the_whittle_index_does() -> None:
    p, q = random_arms(2000, seed=5)
    state = np.random.default_rng(6).integers(0, 2, 2000)
    now = np.arange(2000), state
    right = set(np.argsort(-two_state_indices(p, q, discount=0.9)[now])[:50])
    for wrong in (never_versus_always, separate_subsidy):
        top = set(np.argsort(-wrong(p, q, discount=0.9)[now])[:50])
        assert len(right & top) < 20


@pytest.mark.parametrize("index", [never_versus_always, separate_subsidy])
def test_a_call_that_changes_nothing_is_worth_nothing_and_bad_arms_are_refused(index) -> None:
    np.testing.assert_allclose(index([0.2, 0.7], [0.2, 0.7]), [0.0, 0.0], atol=1e-15)
    with pytest.raises(ValueError, match=r"p_active\[1\] is 1.5"):
        index([0.2, 0.7], [0.2, 1.5])
    with pytest.raises(ValueError, match=r"discount is 1\.0"):
        index([0.2, 0.7], [0.2, 0.9], discount=1.0)
