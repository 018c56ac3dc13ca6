"""The closed forms for two-state arms, against value iteration, the general solver, and each other."""

import doctest

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bandicoot_core.model import whittle
from bandicoot_core.model.whittle import sleeping_indices, two_state_indices, whittle_indices

Array = npt.NDArray[np.float64]

CHANCES = hnp.arrays(np.float64, (2,), elements=st.floats(0.0, 1.0))
REWARDS = hnp.arrays(np.float64, (2, 2), elements=st.floats(-5.0, 5.0))
DISCOUNTS = st.floats(0.05, 0.99)
EFFORT = settings(max_examples=200, deadline=None, derandomize=True)


def random_arms(n_arms: int, seed: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.random((n_arms, 2)), rng.random((n_arms, 2)), rng.random((n_arms, 2, 2))


def rows(p: Array) -> Array:
    """P(next = R | state) as the rows of a transition matrix, states [U, R]."""
    return np.stack([1.0 - p, p], axis=-1)


def prices_by_value_iteration(p: Array, q: Array, r: Array, *, discount: float, weeks: int) -> Array:
    """The price of a call that makes both actions equal, by bisection and value iteration on the sleeping chain.

    Straight from the words: an awake arm may be called for the price, is then asleep for `weeks` weeks, moves by its
    passive row there and earns the passive reward. p, q: (k, 2); r: (k, 2, 2); result (k, 2).
    """
    low, high = np.full(p.shape, -40.0), np.full(p.shape, 40.0)
    # Axes: arm, the state whose price is sought, weeks left to sleep (0 = awake), state.
    values = np.zeros((len(p), 2, weeks + 1, 2))
    p, q, r = p[:, None, :], q[:, None, :], r[:, None, :, :]

    def expected(chances: Array, value: Array) -> Array:
        return discount * (value[..., :1] + chances * (value[..., 1:] - value[..., :1]))

    for _ in range(36):
        price = (low + high) / 2.0
        for _ in range(70):
            wait = r[..., 0] + expected(p, values[:, :, 0])
            call = r[..., 1] - price[..., None] + expected(q, values[:, :, weeks])
            awake = np.maximum(wait, call)
            asleep = [r[..., 0] + expected(p, values[:, :, k - 1]) for k in range(1, weeks + 1)]
            values = np.stack([awake, *asleep], axis=2)
        advantage = (call - wait)[:, [0, 1], [0, 1]]
        low, high = np.where(advantage > 0, price, low), np.where(advantage > 0, high, price)
    return (low + high) / 2.0


def sleeping_chain(p: Array, q: Array, r: Array, weeks: int) -> tuple[Array, Array]:
    """One arm's chain with its sleeping weeks as states; a call is forbidden in them by a reward of -100."""
    n_states = 2 * (weeks + 1)
    moves = np.zeros((2, n_states, n_states))
    paid = np.zeros((n_states, 2))
    moves[0, :2, :2] = rows(p)
    moves[1, :2, n_states - 2 :] = rows(q)
    paid[:2] = r
    for k in range(1, weeks + 1):
        moves[:, 2 * k : 2 * k + 2, 2 * k - 2 : 2 * k] = rows(p)
        paid[2 * k : 2 * k + 2] = np.stack([r[:, 0], r[:, 0] - 100.0], axis=1)
    return moves, paid


def overlap_of_top(n_top: int, ours: Array, theirs: Array) -> float:
    return len(set(np.argsort(-ours)[:n_top]) & set(np.argsort(-theirs)[:n_top])) / n_top


def test_a_cluster_with_known_numbers_gets_them() -> None:
    indices = two_state_indices([0.10, 0.60], [0.50, 0.85], discount=0.95)
    np.testing.assert_allclose(indices, [0.7238, 0.3558], atol=5e-5)


def test_the_examples_in_the_documentation_hold() -> None:
    outcome = doctest.testmod(whittle)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_the_responsive_state_may_have_the_higher_index() -> None:
    index_u, index_r = two_state_indices([0.10, 0.50], [0.20, 0.95], discount=0.95)
    assert index_r > index_u


def test_a_call_that_changes_nothing_is_worth_nothing() -> None:
    np.testing.assert_array_equal(two_state_indices([0.2, 0.7], [0.2, 0.7]), [0.0, 0.0])
    np.testing.assert_array_equal(sleeping_indices([0.2, 0.7], [0.2, 0.7], weeks=3), [0.0, 0.0])


@pytest.mark.parametrize("weeks", [0, 1, 2, 5])
def test_indices_are_the_prices_that_value_iteration_finds(weeks: int) -> None:
    p, q, r = random_arms(60, seed=weeks)
    expected = prices_by_value_iteration(p, q, r, discount=0.8, weeks=weeks)
    np.testing.assert_allclose(
        sleeping_indices(p, q, weeks=weeks, rewards=r, discount=0.8), expected, rtol=0, atol=1e-6
    )
    if weeks == 0:
        np.testing.assert_allclose(two_state_indices(p, q, rewards=r, discount=0.8), expected, rtol=0, atol=1e-6)


@EFFORT
@given(CHANCES, CHANCES, REWARDS, DISCOUNTS)
def test_two_state_arms_are_indexable_and_the_general_solver_agrees(p: Array, q: Array, r: Array, g: float) -> None:
    result = whittle_indices([rows(p), rows(q)], r, discount=g)
    assert result.indexable, result.reason
    np.testing.assert_allclose(two_state_indices(p, q, rewards=r, discount=g), result.indices, rtol=1e-9, atol=1e-8)


@EFFORT
@given(CHANCES, CHANCES, REWARDS, st.floats(0.05, 0.95), st.integers(0, 6))
def test_sleeping_arms_are_indexable_and_the_general_solver_agrees(
    p: Array, q: Array, r: Array, g: float, weeks: int
) -> None:
    rewards = r / 5.0
    moves, paid = sleeping_chain(p, q, rewards, weeks)
    result = whittle_indices(moves, paid, discount=g)
    assert result.indexable, result.reason
    np.testing.assert_allclose(
        sleeping_indices(p, q, weeks=weeks, rewards=rewards, discount=g), result.indices[:2], rtol=0, atol=1e-7
    )
    np.testing.assert_allclose(result.indices[2:], -100.0)


def test_without_sleeping_weeks_both_closed_forms_agree() -> None:
    p, q, r = random_arms(2000, seed=1)
    np.testing.assert_allclose(
        sleeping_indices(p, q, weeks=0, rewards=r), two_state_indices(p, q, rewards=r), rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("weeks", [1, 2, 8])
def test_sleeping_weeks_change_the_lower_index_only(weeks: int) -> None:
    p, q, r = random_arms(2000, seed=2)
    awake, asleep = two_state_indices(p, q, rewards=r), sleeping_indices(p, q, weeks=weeks, rewards=r)
    np.testing.assert_allclose(asleep.max(axis=1), awake.max(axis=1), rtol=0, atol=1e-12)
    np.testing.assert_array_equal(asleep.argmax(axis=1), awake.argmax(axis=1))
    assert (np.abs(asleep.min(axis=1) - awake.min(axis=1)) > 1e-6).mean() > 0.99


def test_sleeping_is_defined_for_states_that_never_change_by_themselves() -> None:
    p, q, r = np.array([0.0, 1.0]), np.array([0.4, 0.7]), np.array([[0.0, 0.0], [1.0, 1.0]])
    moves, paid = sleeping_chain(p, q, r, 3)
    expected = whittle_indices(moves, paid, discount=0.9).indices[:2]
    np.testing.assert_allclose(sleeping_indices(p, q, weeks=3, discount=0.9), expected, atol=1e-9)


@EFFORT
@given(CHANCES, CHANCES, REWARDS, DISCOUNTS, st.data())
def test_a_constant_changes_nothing_and_a_scale_scales(
    p: Array, q: Array, r: Array, g: float, data: st.DataObject
) -> None:
    constant, scale = data.draw(st.floats(-50, 50)), data.draw(st.floats(0.01, 100))
    weeks = data.draw(st.integers(0, 6))

    def indices(paid: Array) -> Array:
        awake = two_state_indices(p, q, rewards=paid, discount=g)
        return np.concatenate([awake, sleeping_indices(p, q, weeks=weeks, rewards=paid, discount=g)])

    np.testing.assert_allclose(indices(r + constant), indices(r), rtol=0, atol=1e-8)
    np.testing.assert_allclose(indices(r * scale), indices(r) * scale, rtol=0, atol=1e-8 * max(1.0, scale))


@EFFORT
@given(CHANCES, CHANCES, REWARDS, DISCOUNTS, st.integers(0, 6))
def test_exchanging_the_states_exchanges_the_indices(p: Array, q: Array, r: Array, g: float, weeks: int) -> None:
    def swapped(chances: Array) -> Array:
        return 1.0 - chances[::-1]

    np.testing.assert_allclose(
        two_state_indices(swapped(p), swapped(q), rewards=r[::-1], discount=g),
        two_state_indices(p, q, rewards=r, discount=g)[::-1],
        rtol=0,
        atol=1e-8,
    )
    np.testing.assert_allclose(
        sleeping_indices(swapped(p), swapped(q), weeks=weeks, rewards=r[::-1], discount=g),
        sleeping_indices(p, q, weeks=weeks, rewards=r, discount=g)[::-1],
        rtol=0,
        atol=1e-8,
    )


def test_leading_axes_broadcast() -> None:
    p, q, r = random_arms(6, seed=3)
    p, q, r = p.reshape(2, 3, 2), q[:3], r[0]
    together, asleep = two_state_indices(p, q, rewards=r), sleeping_indices(p, q, weeks=2, rewards=r)
    assert together.shape == asleep.shape == (2, 3, 2)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_array_equal(together[i, j], two_state_indices(p[i, j], q[j], rewards=r))
        np.testing.assert_array_equal(asleep[i, j], sleeping_indices(p[i, j], q[j], weeks=2, rewards=r))
    assert two_state_indices(np.empty((0, 2)), np.empty((0, 2))).shape == (0, 2)


def test_the_default_reward_is_one_in_r() -> None:
    p, q, _ = random_arms(50, seed=4)
    explicit = np.array([[0.0, 0.0], [1.0, 1.0]])
    np.testing.assert_array_equal(two_state_indices(p, q), two_state_indices(p, q, rewards=explicit, discount=0.99))
    np.testing.assert_array_equal(
        sleeping_indices(p, q, weeks=2), sleeping_indices(p, q, weeks=2, rewards=explicit, discount=0.99)
    )


def test_the_two_look_alikes_pick_other_arms() -> None:
    """A negative control: these two are in circulation, and neither is the Whittle index."""
    g = 0.9
    rng = np.random.default_rng(5)
    p, q, state = rng.random((2000, 2)), rng.random((2000, 2)), rng.integers(0, 2, 2000)

    def values(chances: Array) -> Array:
        spread = 1.0 / (1.0 - g * (chances[:, 1] - chances[:, 0]))
        in_u = g * chances[:, 0] * spread / (1.0 - g)
        return np.stack([in_u, in_u + spread], axis=1)

    # The subsidy at which always calling is worth as much as never calling.
    always_or_never = (1.0 - g) * (values(q) - values(p))
    # A subsidy for each state, both states kept indifferent at once, as bisecting both together ends.
    per_state = g * (q - p) * (values(q)[:, 1] - values(q)[:, 0])[:, None]

    now = np.arange(2000), state
    right = two_state_indices(p, q, discount=g)[now]
    assert overlap_of_top(50, right, right) == 1.0
    assert overlap_of_top(50, right, always_or_never[now]) < 0.3
    assert overlap_of_top(50, right, per_state[now]) < 0.05


@pytest.mark.parametrize(
    ("p_passive", "p_active", "rewards", "message"),
    [
        ([[0.1, 0.2], [0.3, 1.2]], [0.1, 0.2], None, r"p_passive\[1, 1\] is 1.2; expected a probability.*\(1 such"),
        ([0.1, 0.2], [-0.1, 0.2], None, r"p_active\[0\] is -0.1; expected a probability, finite and within \[0, 1\]"),
        ([0.1, np.nan], [0.1, 0.2], None, r"p_passive\[1\] is nan; expected a probability"),
        ([0.1, 0.2], [0.1, np.inf], None, r"p_active\[1\] is inf; expected a probability"),
        ([0.1, 0.2, 0.3], [0.1, 0.2], None, r"p_passive has shape \(3,\); expected \(..., 2\)"),
        (0.1, [0.1, 0.2], None, r"p_passive has shape \(\); expected \(..., 2\)"),
        ([0.1, 0.2], [0.1], None, r"p_active has shape \(1,\); expected \(..., 2\)"),
        ([[0.1, 0.2]] * 2, [[0.1, 0.2]] * 3, None, r"axes disagree: p_passive \(2,\), p_active \(3,\)"),
        ([0.1, 0.2], [0.1, 0.2], [0.0, 1.0], r"rewards has shape \(2,\); expected \(..., 2, 2\)"),
        ([0.1, 0.2], [0.1, 0.2], [[0.0, 0.0], [np.inf, 1.0]], r"rewards\[1, 0\] is inf; expected a finite number"),
        ([[0.1, 0.2]] * 2, [0.1, 0.2], np.zeros((3, 2, 2)), r"axes disagree: .*rewards \(3,\)"),
        (["low", "high"], [0.1, 0.2], None, "p_passive is not an array of numbers"),
    ],
)
def test_wrong_arms_are_refused_by_name_place_and_expectation(
    p_passive: npt.ArrayLike, p_active: npt.ArrayLike, rewards: npt.ArrayLike | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        two_state_indices(p_passive, p_active, rewards=rewards)
    with pytest.raises(ValueError, match=message):
        sleeping_indices(p_passive, p_active, weeks=1, rewards=rewards)


@pytest.mark.parametrize("discount", [0.0, 1.0, -0.5, 1.5, float("nan"), True, "0.9", None])
def test_a_discount_outside_zero_and_one_is_refused(discount: float) -> None:
    with pytest.raises(ValueError, match=r"discount is .*; expected one number strictly between 0 and 1"):
        two_state_indices([0.1, 0.2], [0.3, 0.4], discount=discount)
    with pytest.raises(ValueError, match=r"discount is .*; expected one number strictly between 0 and 1"):
        sleeping_indices([0.1, 0.2], [0.3, 0.4], weeks=1, discount=discount)


@pytest.mark.parametrize("weeks", [-1, 1.5, True, "2", None])
def test_weeks_that_are_not_a_count_are_refused(weeks: int) -> None:
    with pytest.raises(ValueError, match=r"weeks is .*; expected a whole number of weeks, 0 or more"):
        sleeping_indices([0.1, 0.2], [0.3, 0.4], weeks=weeks)
