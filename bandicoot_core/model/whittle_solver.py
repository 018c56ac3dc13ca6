"""The Whittle index of one arm with any number of states, or the proof that it has none.

Here: `whittle_indices`, which follows the optimal policy of a single arm from the lowest subsidy to the highest. It
serves models richer than two states: sleeping weeks, days since the last open, three levels of engagement. Not here:
the closed forms for two-state arms (`whittle`, thousands of times faster), many arms at once, undiscounted rewards.

Idea
----
An arm earns r(s, a), and a subsidy w in every step that it is passive, in whatever state; g discounts. Fix a policy
and let A_s be the advantage of calling in s over not calling, judged by that policy's values. It is linear in w, falls
by b_s per unit of subsidy, and the policy is optimal as long as A >= 0 where it calls and A <= 0 where it does not.

At a very low subsidy every state is called. Raise w until some A_s reaches 0, there make s passive, and go on. With
the change of moves E = g (P1 - P0), the policy's discount matrix B = I - g P and M = E B^-1, one state changes B in
one row, so by Sherman and Morrison, with v = M e_s / (1 + M_ss),

    M <- M - v (e_s' M),    b <- b - v b_s,    and A, by the same rule, stays, since A_s = 0:

one step of Gaussian elimination, in an order found on the way. The determinants of B before and after are positive,
so 1 + M_ss is too. If a passive state's A_s rises back through 0 before the next state joins, passive was optimal there
at a lower subsidy and no longer is: the arm is *not indexable*. Otherwise every state joins once, at its index.

Following the passive set upwards while testing it at every step, with M kept by rank-one updates, is the method of
N. Gast, B. Gaujal, K. Khun (2023), "Testing indexability and computing Whittle and Gittins index in subcubic time",
Math. Methods Oper. Res. 97, doi:10.1007/s00186-023-00821-4. Here the updates are gathered and applied BLOCK at a time
as one matrix product, and the columns of states that are already passive, which are never needed again, are dropped:
O(n^3) operations, nearly all of them inside BLAS, and O(n^2) memory.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bandicoot_core.model.arm_validation import FloatArray, checked_arm, checked_discount

BLOCK = 48

# Advantages closer to 0 than this share of the largest one possible are ties: rounding stays a hundred times below it.
TIE_SHARE = 1e-12
# With every state passive b is 1 exactly, whatever happened before; how far it is off measures the rounding. Beyond
# this neither a tie nor an index could be trusted.
LARGEST_DRIFT = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class WhittleResult:
    """What the solver found for one arm.

    indexable: whether the set of states where passive is optimal only ever grows with the subsidy.
    indices: ndarray (n,), reward per step; nan in every state of an arm that is not indexable, where the index is
        undefined (states that joined the passive set before it shrank may yet leave it, too).
    reason: empty for an indexable arm, otherwise the state and the subsidy at which its passive set shrinks.
    """

    indexable: bool
    indices: FloatArray
    reason: str


def whittle_indices(transitions: npt.ArrayLike, rewards: npt.ArrayLike, *, discount: float) -> WhittleResult:
    """Whittle indices of an arm with n states, or the state and subsidy that show it is not indexable.

    The arm is indexable if the set of states in which passive is optimal (a tie counts) never loses a state as the
    subsidy rises. The index of s is then the subsidy from which s is in the set. Equal indices, states in which both
    actions are the same, and chains that fall apart into several classes are all allowed.

    Parameters
    ----------
    transitions : ndarray of shape (2, n, n)
        P(next_state | state, action) as [action, state, next_state], action 0 = passive.
    rewards : ndarray of shape (n, 2)
        Reward as [state, action]. Adding one number to all of them changes nothing. To forbid a call in some state,
        make its active reward worse by a few times the range of the others: every further power of ten costs a digit.
    discount : float
        Per step, strictly between 0 and 1. Rounding grows as 1 / (1 - discount).

    Raises
    ------
    ValueError
        For a row that is not stochastic, a number that is not finite, a discount outside (0, 1), or shapes that
        disagree; the message names the argument, the entry and what was expected.
    ArithmeticError
        If the discount is so near to 1 (within 1e-6) that rounding would spoil the result.
    """
    moves, paid = checked_arm(transitions, rewards)
    g = checked_discount(discount)
    n_states = len(paid)
    tolerance = _Tolerance(TIE_SHARE * float(np.ptp(paid)) / (1.0 - g), TIE_SHARE / (1.0 - g))
    if tolerance.flat > LARGEST_DRIFT:
        raise ArithmeticError(_rounding_message(g, f"slopes are known within {tolerance.flat:.2g} at best"))
    change = g * (moves[1] - moves[0])
    effects = _Effects(np.linalg.solve((np.eye(n_states) - g * moves[1]).T, change.T).T)
    # Only differences of values matter, so centred rewards lose the fewest digits.
    centred = paid - (paid.min() + paid.max()) / 2.0
    advantage = paid[:, 1] - paid[:, 0] + effects.start @ centred[:, 1]
    slope = np.ones(n_states)

    indices = np.full(n_states, np.nan)
    is_active = np.ones(n_states, dtype=np.bool_)
    subsidy = float(advantage.min())
    advantage -= subsidy
    for _ in range(n_states):
        rises = _rises_to_tie(advantage, slope, is_active, tolerance)
        state = int(rises.argmin())
        rise = float(rises[state])
        lost = _first_lost(rise, advantage, slope, ~is_active, tolerance)
        if lost is not None:
            reason = _reason(lost[0], joined_at=float(indices[lost[0]]), left_at=subsidy + lost[1])
            return WhittleResult(False, np.full(n_states, np.nan), reason)
        subsidy += rise
        advantage -= rise * slope
        indices[state] = subsidy
        is_active[state] = False
        column = effects.make_passive(state)
        slope -= column * slope[state]
    drift = float(np.abs(slope - 1.0).max())
    if not drift <= LARGEST_DRIFT:
        raise ArithmeticError(_rounding_message(g, f"the last slopes are off by {drift:.2g}"))
    return WhittleResult(True, indices, "")


class _Effects:
    """The matrix M of the current policy, as columns of the states that are still active.

    M = kept - left @ right: `left` and `right` gather up to BLOCK rank-one updates before one matrix product applies
    them all.
    """

    def __init__(self, start: FloatArray) -> None:
        n_states = len(start)
        self.start = start
        self._kept = start
        self._states = np.arange(n_states)
        self._column_of = np.arange(n_states)
        self._is_active = np.ones(n_states, dtype=np.bool_)
        self._left = np.empty((n_states, BLOCK), order="F")
        self._right = np.empty((BLOCK, n_states))
        self._n_pending = 0

    def make_passive(self, state: int) -> FloatArray:
        """Switch `state` to passive; return the column v = M e_s / (1 + M_ss) of M before the switch."""
        if self._n_pending == BLOCK:
            self._apply_pending()
        k, j = self._n_pending, self._column_of[state]
        left, right = self._left[:, :k], self._right[:k]
        column: FloatArray = self._kept[:, j] - left @ right[:, j]
        self._right[k] = self._kept[state] - left[state] @ right
        column /= 1.0 + column[state]
        self._left[:, k] = column
        self._is_active[state] = False
        self._n_pending += 1
        return column

    def _apply_pending(self) -> None:
        stays = self._is_active[self._states]
        self._kept = self._kept[:, stays] - self._left @ self._right[:, stays]
        self._states = self._states[stays]
        self._column_of[self._states] = np.arange(len(self._states))
        self._right = np.empty((BLOCK, len(self._states)))
        self._n_pending = 0


class _Tolerance(NamedTuple):
    """What counts as 0: an advantage (reward per step) and its slope (without unit)."""

    tie: float
    flat: float


def _rises_to_tie(
    advantage: FloatArray, slope: FloatArray, is_active: npt.NDArray[np.bool_], tolerance: _Tolerance
) -> FloatArray:
    """How far the subsidy may rise until each active state ties, ndarray (n,); infinite where it never does.

    One of them is finite as long as a state is active: were no active slope above 0, making all of them passive would
    not add a single step of subsidy (policy improvement), yet it adds at least the first one.
    """
    rises = np.full(len(advantage), np.inf)
    np.divide(advantage, slope, out=rises, where=is_active & (slope > 0.0))
    # A tie now is a tie, even if the advantage is about to rise again: the state was in the passive set.
    is_tied = is_active & (advantage <= tolerance.tie)
    if is_tied.any():
        rises[is_tied] = np.where(slope[is_tied] > tolerance.flat, np.maximum(rises[is_tied], 0.0), 0.0)
    return rises


def _first_lost(
    rise: float,
    advantage: FloatArray,
    slope: FloatArray,
    is_passive: npt.NDArray[np.bool_],
    tolerance: _Tolerance,
) -> tuple[int, float] | None:
    """The passive state where calling is better again before the subsidy has risen by `rise`, and after what rise.

    States that tied together are all passive by now, so a slope below 0 in one of them is real: were that policy still
    optimal, none of its advantages could rise.
    """
    # A lost state must clear the tie by a margin, so that one that joined while tied isn't lost to rounding.
    is_lost = is_passive & (advantage - rise * slope > 10.0 * tolerance.tie)
    if not is_lost.any():
        return None
    crossings = np.where(is_lost, 0.0, np.inf)
    np.divide(advantage, slope, out=crossings, where=is_lost & (slope < 0.0))
    state = int(crossings.argmin())
    return state, max(0.0, float(crossings[state]))


def _reason(state: int, joined_at: float, left_at: float) -> str:
    return (
        f"not indexable: in state {state} passive is optimal from a subsidy of {joined_at:.6g}, but calling is better "
        f"again just above {left_at:.6g}: the passive set shrinks there, so no single index ranks this state"
    )


def _rounding_message(discount: float, found: str) -> str:
    return (
        f"rounding spoils the indices at discount {discount!r}: {found}, expected within {LARGEST_DRIFT:g}; "
        "use a discount further from 1, such as 0.9999"
    )
