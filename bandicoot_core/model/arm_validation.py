"""What a restless arm must look like before an index is computed for it.

Here: the checks that the closed forms (`whittle`) and the general solver (`whittle_solver`) share. Each returns its
argument as float64, or raises a ValueError that names the argument, the first offending entry with its value, and what
was expected. Not here: whether the numbers are plausible for the programme; the model's own checks decide that.
"""

from numbers import Integral, Real

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# A row of transition probabilities may miss 1 by the rounding of its author's arithmetic, by no more.
ROW_SUM_TOLERANCE = 1e-9


def checked_discount(discount: float) -> float:
    """Return the discount per step as a float; ValueError unless it is a number strictly between 0 and 1."""
    is_number = isinstance(discount, Real) and not isinstance(discount, bool | np.bool_)
    if not is_number or not 0.0 < discount < 1.0:
        raise ValueError(f"discount is {discount!r}; expected one number strictly between 0 and 1")
    return float(discount)


def checked_weeks(weeks: int) -> int:
    """Return a number of whole weeks; ValueError unless it is an integer that is not negative."""
    if not isinstance(weeks, Integral) or isinstance(weeks, bool) or weeks < 0:
        raise ValueError(f"weeks is {weeks!r}; expected a whole number of weeks, 0 or more")
    return int(weeks)


def checked_two_state_arms(
    p_passive: npt.ArrayLike, p_active: npt.ArrayLike, rewards: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray | None]:
    """Return the arrays of any number of two-state arms, broadcast against one another.

    p_passive, p_active: ndarray (..., 2), P(next = R | state), states ordered [U, R].
    rewards: ndarray (..., 2, 2) as [state, action] or None.
    Raises ValueError for a probability outside [0, 1], a number that is not finite, or shapes that disagree.
    """
    passive = _checked_probabilities("p_passive", _numbers("p_passive", p_passive))
    active = _checked_probabilities("p_active", _numbers("p_active", p_active))
    for name, array in (("p_passive", passive), ("p_active", active)):
        if array.ndim < 1 or array.shape[-1] != 2:
            raise ValueError(
                f"{name} has shape {array.shape}; expected (..., 2), the last axis being the states [U, R]"
            )
    shapes = {"p_passive": passive.shape[:-1], "p_active": active.shape[:-1]}
    paid = None
    if rewards is not None:
        paid = _checked_finite("rewards", _numbers("rewards", rewards))
        if paid.ndim < 2 or paid.shape[-2:] != (2, 2):
            raise ValueError(
                f"rewards has shape {paid.shape}; expected (..., 2, 2), the last axes being "
                "the states [U, R] and the actions [passive, active]"
            )
        shapes["rewards"] = paid.shape[:-2]
    try:
        arms = np.broadcast_shapes(*shapes.values())
    except ValueError:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"the arms' axes disagree: {found}; expected shapes that broadcast to one another") from None
    if paid is not None:
        paid = np.broadcast_to(paid, (*arms, 2, 2))
    return np.broadcast_to(passive, (*arms, 2)), np.broadcast_to(active, (*arms, 2)), paid


def checked_arm(transitions: npt.ArrayLike, rewards: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the transitions and rewards of one arm with n states.

    transitions: ndarray (2, n, n) as [action, state, next_state], action 0 = passive; rewards: ndarray (n, 2).
    Raises ValueError for a row that is not stochastic, a number that is not finite, or shapes that disagree.
    """
    moves = _numbers("transitions", transitions)
    paid = _numbers("rewards", rewards)
    if moves.ndim != 3 or moves.shape[0] != 2 or moves.shape[1] != moves.shape[2] or moves.shape[1] == 0:
        raise ValueError(
            f"transitions has shape {moves.shape}; expected (2, n, n) as [action, state, next_state], n being 1 or more"
        )
    n_states = moves.shape[1]
    if paid.shape != (n_states, 2):
        raise ValueError(
            f"rewards has shape {paid.shape}; expected {(n_states, 2)} as [state, action], "
            f"because transitions has {n_states} states"
        )
    _checked_probabilities("transitions", moves)
    _checked_finite("rewards", paid)
    sums = moves.sum(axis=2)
    wrong = np.argwhere(np.abs(sums - 1.0) > ROW_SUM_TOLERANCE)
    if wrong.size:
        action, state = (int(i) for i in wrong[0])
        raise ValueError(
            f"transitions[{action}, {state}, :] (action {action}, state {state}) sums to {sums[action, state]:.12g}; "
            f"expected 1 within {ROW_SUM_TOLERANCE:g} ({len(wrong)} such rows)"
        )
    return moves, paid


def _numbers(name: str, values: npt.ArrayLike) -> FloatArray:
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array of numbers: {error}") from error


def _checked_probabilities(name: str, array: FloatArray) -> FloatArray:
    # min and max carry a nan along, so two reductions without temporaries settle the usual case.
    if array.size and not (array.min() >= 0.0 and array.max() <= 1.0):
        _raise_at(name, array, ~((array >= 0.0) & (array <= 1.0)), "a probability, finite and within [0, 1]")
    return array


def _checked_finite(name: str, array: FloatArray) -> FloatArray:
    is_finite = np.isfinite(array)
    if not is_finite.all():
        _raise_at(name, array, ~is_finite, "a finite number")
    return array


def _raise_at(name: str, array: FloatArray, is_wrong: npt.NDArray[np.bool_], expected: str) -> None:
    where = tuple(int(i) for i in np.argwhere(is_wrong)[0])
    entry = ", ".join(map(str, where))
    raise ValueError(
        f"{name}[{entry}] is {float(array[where])!r}; expected {expected} ({int(is_wrong.sum())} such entries)"
    )
