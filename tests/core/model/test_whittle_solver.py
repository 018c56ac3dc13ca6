"""The general solver, against every policy enumerated, dynamic programming, a public solver, and its own symmetries."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantecon.markov import DiscreteDP

from bandicoot_core.model import whittle_solver
from bandicoot_core.model.whittle_solver import BLOCK, whittle_indices

Array = npt.NDArray[np.float64]

EFFORT = settings(max_examples=300, deadline=None, derandomize=True)

# From state 0 an arm ends in state 1 if passive and in state 2 if called, and stays there: 1 is worth 3 while it is
# called, 2 is worth 3 while it is not. Little subsidy makes 1 the better end, a little more makes 2 the better one.
FORK_MOVES = np.array([[[0, 1, 0], [0, 1, 0], [0, 0, 1]], [[0, 0, 1], [0, 1, 0], [0, 0, 1]]], dtype=np.float64)
FORK_REWARDS = np.array([[2, 1], [0, 3], [3, 0]], dtype=np.float64)
FORK_DISCOUNT = 0.9


def random_arm(n_states: int, seed: int, spread: float = 1.0) -> tuple[Array, Array]:
    """A random arm; a small `spread` makes its rows nearly deterministic."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(n_states, spread), (2, n_states)), rng.random((n_states, 2))


@st.composite
def small_arms(draw: st.DrawFn) -> tuple[Array, Array, float]:
    """Arms of up to 4 states from small whole numbers: ties, closed classes and equal states are common."""
    n_states = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.integers(0, draw(st.integers(2, 4)), (2, n_states, n_states)).astype(np.float64)
    weights[weights.sum(axis=2) == 0.0] = 1.0
    if draw(st.booleans()):
        weights = np.eye(n_states)[rng.integers(0, n_states, (2, n_states))]
    rewards = rng.integers(0, 4, (n_states, 2)).astype(np.float64)
    return weights / weights.sum(axis=2, keepdims=True), rewards, draw(st.sampled_from([0.5, 0.8, 0.9]))


def passive_sets_by_enumeration(moves: Array, rewards: Array, g: float) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Where passive is optimal, at every subsidy where that may change and between them, from all 2^n policies.

    Returns the subsidies (m,), rising, and for each the states in which passive is optimal, ties included (m, n).
    """
    n_states = len(rewards)
    states = np.arange(n_states)
    policies = np.array(list(itertools.product((0, 1), repeat=n_states)))
    inverse = np.linalg.inv(np.eye(n_states) - g * moves[policies, states])
    worth = (inverse @ rewards[states, policies][..., None])[..., 0]
    weeks_passive = (inverse @ (1.0 - policies)[..., None])[..., 0]
    change = g * (moves[1] - moves[0])
    gain, slope = rewards[:, 1] - rewards[:, 0] + worth @ change.T, 1.0 - weeks_passive @ change.T
    breaks = np.unique((gain[np.abs(slope) > 1e-9] / slope[np.abs(slope) > 1e-9]).round(10))
    subsidies = np.sort(np.concatenate([breaks, (breaks[1:] + breaks[:-1]) / 2.0, [breaks[0] - 1.0, breaks[-1] + 1.0]]))
    values = (worth[None] + subsidies[:, None, None] * weeks_passive[None]).max(axis=1)
    advantage = rewards[:, 1] - rewards[:, 0] - subsidies[:, None] + values @ change.T
    return subsidies, advantage <= 1e-8


def optimal_actions(moves: Array, rewards: Array, g: float, subsidy: float) -> npt.NDArray[np.int64]:
    """The optimal action in each state under a subsidy, by somebody else's policy iteration."""
    paid = rewards + np.array([subsidy, 0.0])
    program = DiscreteDP(paid, np.ascontiguousarray(moves.transpose(1, 0, 2)), g)
    return np.asarray(program.solve(method="policy_iteration").sigma)


@EFFORT
@given(small_arms())
def test_verdict_and_indices_are_those_of_enumerating_every_policy(arm: tuple[Array, Array, float]) -> None:
    moves, rewards, g = arm
    subsidies, is_passive = passive_sets_by_enumeration(moves, rewards, g)
    result = whittle_indices(moves, rewards, discount=g)
    assert result.indexable == bool((is_passive[1:] >= is_passive[:-1]).all()), result.reason
    if result.indexable:
        np.testing.assert_allclose(result.indices, subsidies[is_passive.argmax(axis=0)], rtol=0, atol=1e-7)
        assert result.reason == ""


def test_the_enumerated_arms_include_many_that_are_not_indexable_or_tied() -> None:
    """Otherwise the test above would prove little."""
    n_not_indexable, n_tied = 0, 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        moves = np.eye(4)[rng.integers(0, 4, (2, 4))]
        result = whittle_indices(moves, rng.integers(0, 4, (4, 2)), discount=0.9)
        n_not_indexable += not result.indexable
        n_tied += result.indexable and len(np.unique(result.indices.round(9))) < 4
    assert n_not_indexable > 5
    assert n_tied > 50


def test_an_arm_without_an_index_is_reported_with_state_and_subsidy() -> None:
    result = whittle_indices(FORK_MOVES, FORK_REWARDS, discount=FORK_DISCOUNT)
    assert not result.indexable
    assert np.isnan(result.indices).all()
    assert "in state 0 passive is optimal from a subsidy of -28, but calling is better again just above 0.125" in (
        result.reason
    )


def test_scanning_subsidies_finds_the_same_arm_without_an_index() -> None:
    actions = {
        subsidy: optimal_actions(FORK_MOVES, FORK_REWARDS, FORK_DISCOUNT, subsidy)[0]
        for subsidy in (-28.1, -27.9, 0.12, 0.13, 25.9, 26.1)
    }
    assert actions == {-28.1: 1, -27.9: 0, 0.12: 0, 0.13: 1, 25.9: 1, 26.1: 0}


def test_a_state_that_ties_once_and_is_called_again_makes_an_arm_not_indexable() -> None:
    moves = np.array([[[0, 0, 1], [0, 1, 0], [1, 0, 0]], [[1, 0, 0], [1, 0, 0], [0, 1, 0]]], dtype=np.float64)
    result = whittle_indices(moves, [[1, 1], [1, 1], [0, 0]], discount=0.75)
    assert not result.indexable
    assert "state 2" in result.reason


def test_a_state_that_ties_over_an_interval_has_the_index_where_it_begins() -> None:
    # Passive leads from state 0 to states 1-3, called up to 0.6; active to states 4-6, passive from -0.3. In between,
    # with a discount of one half, what the subsidy pays now equals what it pays later: both actions stay optimal.
    moves = np.zeros((2, 7, 7))
    moves[:, 1:4, 1:4] = moves[:, 4:, 4:] = 1.0 / 3.0
    moves[0, 0, 1:4] = moves[1, 0, 4:] = 1.0 / 3.0
    rewards = np.array([[0.1, 0.4], *[[0.1, 0.7]] * 3, *[[0.4, 0.1]] * 3])
    expected = np.array([-0.3, 0.6, 0.6, 0.6, -0.3, -0.3, -0.3])
    for scale in np.random.default_rng(0).random(50):
        result = whittle_indices(moves, rewards * scale, discount=0.5)
        assert result.indexable, result.reason
        np.testing.assert_allclose(result.indices, expected * scale, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("n_states", "g", "seed"), [(3, 0.5, 0), (6, 0.9, 1), (10, 0.99, 2)])
def test_actions_flip_at_each_index_and_in_that_state_alone(n_states: int, g: float, seed: int) -> None:
    moves, rewards = random_arm(n_states, seed)
    result = whittle_indices(moves, rewards, discount=g)
    assert result.indexable
    for state in range(n_states):
        below = optimal_actions(moves, rewards, g, result.indices[state] - 1e-7)
        above = optimal_actions(moves, rewards, g, result.indices[state] + 1e-7)
        assert below[state] == 1
        np.testing.assert_array_equal(below - above, np.arange(n_states) == state)


@pytest.mark.parametrize(("n_states", "g", "spread"), [(5, 0.9, 1.0), (40, 0.99, 1.0), (120, 0.999, 0.05)])
def test_a_public_solver_gives_the_same_indices(n_states: int, g: float, spread: float) -> None:
    with np.errstate():  # the package changes numpy's error state when it is imported
        from markovianbandit import markovianbandit

    for seed in range(3):
        moves, rewards = random_arm(n_states, seed, spread)
        theirs = markovianbandit.restless_bandit_from_P0P1_R0R1(*moves, *rewards.T)
        result = whittle_indices(moves, rewards, discount=g)
        assert result.indexable == theirs.is_indexable(discount=g)
        if result.indexable:
            np.testing.assert_allclose(result.indices, theirs.whittle_indices(discount=g), rtol=0, atol=1e-9)


def test_every_index_of_a_large_arm_is_certified_by_one_linear_solve() -> None:
    n_states, g = 3 * BLOCK + 7, 0.99
    moves, rewards = random_arm(n_states, seed=8, spread=0.1)
    result = whittle_indices(moves, rewards, discount=g)
    assert result.indexable
    for state in range(0, n_states, 10):
        subsidy = result.indices[state]
        action = (result.indices > subsidy).astype(int)
        states = np.arange(n_states)
        paid = rewards + np.array([subsidy, 0.0])
        values = np.linalg.solve(np.eye(n_states) - g * moves[action, states], paid[states, action])
        advantage = paid[:, 1] - paid[:, 0] + g * (moves[1] - moves[0]) @ values
        assert abs(advantage[state]) < 1e-9
        assert (advantage[action == 1] > 0).all()
        assert (advantage[action == 0] < 1e-9).all()


@EFFORT
@given(small_arms(), st.integers(0, 2**32 - 1), st.floats(-20, 20), st.floats(0.1, 10))
def test_names_constants_and_scales_of_an_arm_do_not_matter(
    arm: tuple[Array, Array, float], seed: int, constant: float, scale: float
) -> None:
    moves, rewards, g = arm
    result = whittle_indices(moves, rewards, discount=g)
    order = np.random.default_rng(seed).permutation(len(rewards))
    relabelled = whittle_indices(moves[:, order][:, :, order], rewards[order], discount=g)
    shifted = whittle_indices(moves, rewards + constant, discount=g)
    scaled = whittle_indices(moves, rewards * scale, discount=g)
    assert relabelled.indexable == shifted.indexable == scaled.indexable == result.indexable
    np.testing.assert_allclose(relabelled.indices, result.indices[order], rtol=0, atol=1e-9)
    np.testing.assert_allclose(shifted.indices, result.indices, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scaled.indices, result.indices * scale, rtol=0, atol=1e-9 * max(1.0, scale))


def test_an_arm_of_two_closed_classes_has_the_indices_of_each() -> None:
    first, second = random_arm(4, seed=11), random_arm(3, seed=12)
    moves = np.zeros((2, 7, 7))
    moves[:, :4, :4], moves[:, 4:, 4:] = first[0], second[0]
    together = whittle_indices(moves, np.concatenate([first[1], second[1]]), discount=0.95)
    apart = [whittle_indices(*arm, discount=0.95).indices for arm in (first, second)]
    assert together.indexable
    np.testing.assert_allclose(together.indices, np.concatenate(apart), rtol=0, atol=1e-11)


def test_equal_actions_are_worth_nothing_and_an_extra_reward_is_worth_itself() -> None:
    moves, rewards = random_arm(5, seed=13)
    moves[1], rewards[:, 1] = moves[0], rewards[:, 0]
    np.testing.assert_allclose(whittle_indices(moves, rewards, discount=0.9).indices, np.zeros(5), atol=1e-12)
    extra = np.array([0.0, 2.0, 0.0, -1.0, 2.0])
    rewards[:, 1] += extra
    result = whittle_indices(moves, rewards, discount=0.9)
    assert result.indexable
    np.testing.assert_allclose(result.indices, extra, atol=1e-12)


@pytest.mark.parametrize("g", [0.5, 0.95, 0.999])
def test_equal_states_have_equal_indices(g: float) -> None:
    for seed in range(60):
        moves, rewards = random_arm(5, seed)
        twins = np.array([0, 1, 1, 3, 0])
        result = whittle_indices(moves[:, twins], rewards[twins], discount=g)
        if result.indexable:
            np.testing.assert_allclose(result.indices, result.indices[twins], rtol=0, atol=1e-9)
        else:
            _, is_passive = passive_sets_by_enumeration(moves[:, twins], rewards[twins], g)
            assert not (is_passive[1:] >= is_passive[:-1]).all()


def test_a_large_constant_in_the_rewards_costs_no_digits_that_it_leaves() -> None:
    moves, rewards = random_arm(20, seed=17)
    expected = whittle_indices(moves, rewards, discount=0.9999).indices
    shifted = whittle_indices(moves, rewards + 1e6, discount=0.9999).indices
    np.testing.assert_allclose(shifted, expected, rtol=0, atol=1e-8)


def test_one_state_is_an_arm_too() -> None:
    result = whittle_indices([[[1.0]], [[1.0]]], [[0.25, 1.0]], discount=0.9)
    assert result.indexable
    np.testing.assert_allclose(result.indices, [0.75])


def test_neither_argument_is_changed() -> None:
    moves, rewards = random_arm(6, seed=15)
    before = moves.copy(), rewards.copy()
    whittle_indices(moves, rewards, discount=0.9)
    np.testing.assert_array_equal(moves, before[0])
    np.testing.assert_array_equal(rewards, before[1])


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((1, 2, 0), -0.25, r"transitions\[1, 2, 0\] is -0.25; expected a probability, finite and within \[0, 1\]"),
        ((0, 1, 1), np.nan, r"transitions\[0, 1, 1\] is nan; expected a probability"),
        ((0, 1, 1), 0.5, r"transitions\[0, 1, :\] \(action 0, state 1\) sums to 0.5; expected 1 within 1e-09"),
    ],
)
def test_rows_that_are_not_stochastic_are_refused(place: tuple[int, ...], value: float, message: str) -> None:
    moves = np.stack([np.eye(3), np.eye(3)])
    moves[place] = value
    with pytest.raises(ValueError, match=message):
        whittle_indices(moves, np.zeros((3, 2)), discount=0.9)


@pytest.mark.parametrize(
    ("moves", "rewards", "message"),
    [
        (np.zeros((3, 2, 2)), np.zeros((2, 2)), r"transitions has shape \(3, 2, 2\); expected \(2, n, n\)"),
        (np.zeros((2, 2, 3)), np.zeros((2, 2)), r"transitions has shape \(2, 2, 3\); expected \(2, n, n\)"),
        (np.zeros((2, 0, 0)), np.zeros((0, 2)), r"transitions has shape \(2, 0, 0\); expected .* n being 1 or more"),
        (np.eye(3), np.zeros((3, 2)), r"transitions has shape \(3, 3\); expected \(2, n, n\)"),
        ([np.eye(3)] * 2, np.zeros((2, 2)), r"rewards has shape \(2, 2\); expected \(3, 2\).* has 3 states"),
        ([np.eye(3)] * 2, np.zeros((2, 3)), r"rewards has shape \(2, 3\); expected \(3, 2\)"),
        ([np.eye(2)] * 2, [[0.0, 0.0], [0.0, np.nan]], r"rewards\[1, 1\] is nan; expected a finite number"),
        ([[[1.0], [1.0, 0.0]]], [[0.0, 0.0]], "transitions is not an array of numbers"),
    ],
)
def test_shapes_that_disagree_and_numbers_that_are_not_finite_are_refused(
    moves: npt.ArrayLike, rewards: npt.ArrayLike, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        whittle_indices(moves, rewards, discount=0.9)


@pytest.mark.parametrize("discount", [0.0, 1.0, 1.01, float("inf"), float("nan")])
def test_a_discount_outside_zero_and_one_is_refused(discount: float) -> None:
    with pytest.raises(ValueError, match=r"discount is .*; expected one number strictly between 0 and 1"):
        whittle_indices([np.eye(2)] * 2, np.zeros((2, 2)), discount=discount)


def test_a_discount_too_near_to_one_is_refused_instead_of_answered_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    moves, rewards = random_arm(20, seed=16)
    with pytest.raises(ArithmeticError, match=r"discount 0.99999999: .*use a discount further from 1"):
        whittle_indices(moves, rewards, discount=1.0 - 1e-8)
    # Even if the tolerances were wrong, the slopes at the end would tell.
    monkeypatch.setattr(whittle_solver, "TIE_SHARE", 0.0)
    with pytest.raises(ArithmeticError, match="the last slopes are off by"):
        whittle_indices(moves, rewards, discount=1.0 - 1e-12)
