"""What a call is worth in a finite horizon when every call has a price, for one caregiver at a time.

Here: the gains over never calling, in closed form; and the value of the right to call, by backward induction. Not
here: which prices keep the calls within a budget (`bound`).

Notation. Calls are made in weeks t = 0, ..., T - 1, and the responsive weeks 1 to T count. p_s and q_s are P(next = R |
s), passive and active, d_s = q_s - p_s, states ordered [U, R]; N are the sleeping weeks after the week of a call.
Everything is measured against never calling, so that sleeping weeks, which are passive too, count for nothing.
"""

import numpy as np
import numpy.typing as npt

from bandicoot_core.model.arm_validation import FloatArray


def expected_without_calls(p_passive: FloatArray, is_responsive: npt.ArrayLike, n_weeks: int) -> FloatArray:
    """Expected number of responsive arms in weeks 1 to T when nobody is ever called, ndarray (T,); exact.

    P(R) of an arm follows x -> p_U + (p_R - p_U) x. p_passive: (n_arms, 2); is_responsive: (n_arms,), 0 or 1 (or a
    chance) in week 0.
    """
    p_u, persistence = p_passive[:, 0], p_passive[:, 1] - p_passive[:, 0]
    chance = np.asarray(is_responsive, dtype=np.float64)
    totals = np.empty(n_weeks)
    for week in range(n_weeks):
        chance = p_u + persistence * chance
        totals[week] = chance.sum()
    return totals


def gains_of_one_call(p_passive: FloatArray, p_active: FloatArray, n_weeks: int) -> FloatArray:
    """Responsive weeks that one call adds when no other follows, ndarray (T, n_arms, 2): week, arm, state.

    A call in s adds d_s to P(R) of the next week, and what is added fades by p_R - p_U every week after:

        m_t(s) = d_s (1 + rho + ... + rho^(T - 1 - t)),   rho = p_R - p_U.
    """
    persistence = p_passive[:, 1] - p_passive[:, 0]
    spread = np.empty((n_weeks, len(p_passive)))
    reached = np.zeros(len(p_passive))
    for week in reversed(range(n_weeks)):
        reached = 1.0 + persistence * reached
        spread[week] = reached
    return spread[:, :, None] * (p_active - p_passive)[None]


def chances_when_awake(p_passive: FloatArray, p_active: FloatArray, cool_down_weeks: int) -> FloatArray:
    """P(R in the week in which a call is possible again | called in s), ndarray (n_arms, 2).

    The active row, followed by the passive one in each of the N sleeping weeks.
    """
    p_u, persistence = p_passive[:, :1], p_passive[:, 1:] - p_passive[:, :1]
    chance = p_active
    for _ in range(cool_down_weeks):
        chance = p_u + persistence * chance
    return chance


def worth_at_prices(
    p_passive: FloatArray, p_active: FloatArray, prices: FloatArray, cool_down_weeks: int
) -> tuple[FloatArray, FloatArray]:
    """What the right to call is worth at given prices, and the price at which a call just pays.

    With the price w_t of a call in week t, k_s = P(R when awake again | called in s) and E_x X = (1 - x) X(U) + x X(R),

        I_t(s) = m_t(s) + E_{k_s} X_{t+1+N} - E_{p_s} X_{t+1},
        X_t(s) = max(0, I_t(s) - w_t) + E_{p_s} X_{t+1},   X_t = 0 for t >= T.

    Parameters
    ----------
    p_passive, p_active : ndarray of shape (n_arms, 2)
    prices : ndarray of shape (T, n_arms)
        Responsive weeks per call; 0 or more.
    cool_down_weeks : int
        N.

    Returns
    -------
    index : ndarray of shape (T, n_arms, 2)
        I: calling in (t, s) is optimal where it exceeds the price, and both actions are where it equals it.
    worth : ndarray of shape (n_arms, 2)
        X_0: responsive weeks gained by calling optimally, less what the calls cost.
    """
    n_weeks, n_arms = prices.shape
    k = chances_when_awake(p_passive, p_active, cool_down_weeks)
    index = gains_of_one_call(p_passive, p_active, n_weeks)
    # Weeks T to T + N stand for all that lies beyond the horizon.
    x = np.zeros((n_weeks + 1 + cool_down_weeks, n_arms, 2))
    for week in reversed(range(n_weeks)):
        waiting = _expected(p_passive, x[week + 1])
        index[week] += _expected(k, x[week + 1 + cool_down_weeks]) - waiting
        x[week] = np.maximum(0.0, index[week] - prices[week][:, None]) + waiting
    return index, x[0]


def _expected(chances: FloatArray, values: FloatArray) -> FloatArray:
    """Expected value after a move: chances (n_arms, 2) of R by state, values (n_arms, 2) by next state."""
    return (1.0 - chances) * values[:, :1] + chances * values[:, 1:]
