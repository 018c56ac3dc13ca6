"""The Whittle index of caregivers with two states, in closed form, for any number of arms at once.

Here: `two_state_indices`, `sleeping_indices` (a cool-down after each call), and the entry point to the general solver.
Not here: how that solver works (`whittle_solver`), where the probabilities come from, and who is called in the end.

The index of state s is the one subsidy, paid in every passive step of every state, at which calling and not calling
are both optimal in s (P. Whittle 1988, "Restless bandits: activity allocation in a changing world", J. Appl. Probab.
25A). Neither a comparison of always calling with never calling, nor a subsidy of its own for each state, gives it.

Notation, for a state s in [U, R] and the discount g per week: p_s and q_s are P(next = R | s), passive and active;
r(s, a) is the reward. Passive first everywhere: action 0 = passive, action 1 = active.
"""

import numpy as np
import numpy.typing as npt

from bandicoot_core.model.arm_validation import FloatArray, checked_discount, checked_two_state_arms, checked_weeks
from bandicoot_core.model.whittle_solver import WhittleResult, whittle_indices

__all__ = ["WhittleResult", "sleeping_indices", "two_state_indices", "whittle_indices"]


def two_state_indices(
    p_passive: npt.ArrayLike,
    p_active: npt.ArrayLike,
    *,
    rewards: npt.ArrayLike | None = None,
    discount: float = 0.99,
) -> FloatArray:
    """Whittle indices of two-state arms, in units of reward per week.

    With c_s = r(s,1) - r(s,0), d_s = q_s - p_s and the value of standing in R rather than U when nobody is ever called
    (D0) or is called every week (D1),

        D0 = (r(R,0) - r(U,0)) / (1 - g (p_R - p_U)),   D1 = (r(R,1) - r(U,1)) / (1 - g (q_R - q_U)),

    the state h with the larger c_s + g d_s D0 is the last to be left passive as the subsidy rises, and l is the other:

        W(h) = c_h + g d_h D0,   W(l) = c_l + g d_l D1.

    Above W(h) nobody is called, so D0 values the call in h; below W(l) everybody is, so D1 values the one in l. Such an
    arm is always indexable.

    Parameters
    ----------
    p_passive, p_active : ndarray of shape (..., 2)
        P(next = R | state) without and with a call, states ordered [U, R]; the leading axes broadcast.
    rewards : ndarray of shape (..., 2, 2), optional
        Reward as [state, action]; by default 1 in R and 0 in U, whatever the action.
    discount : float
        g, per week, strictly between 0 and 1.

    Returns
    -------
    ndarray of shape (..., 2)
        The index in U and in R.

    Raises
    ------
    ValueError
        For a probability outside [0, 1], a number that is not finite, a discount outside (0, 1), or shapes that
        disagree; the message names the argument, the entry and what was expected.

    Examples
    --------
    >>> two_state_indices([0.10, 0.60], [0.50, 0.85], discount=0.95).round(4)
    array([0.7238, 0.3558])
    """
    p, q, r = checked_two_state_arms(p_passive, p_active, rewards)
    g = checked_discount(discount)
    p_u, p_r, q_u, q_r = p[..., 0], p[..., 1], q[..., 0], q[..., 1]
    worth_never = _spread(r, 0) * g / (1.0 - g * (p_r - p_u))
    worth_always = _spread(r, 1) * g / (1.0 - g * (q_r - q_u))
    d_u, d_r = q_u - p_u, q_r - p_r
    c_u, c_r = _extra_rewards(r)
    # Which of two equal states counts as h changes nothing: their indices are equal.
    is_r_last = c_r + d_r * worth_never >= c_u + d_u * worth_never
    indices = np.empty(p.shape)
    indices[..., 0] = c_u + d_u * np.where(is_r_last, worth_always, worth_never)
    indices[..., 1] = c_r + d_r * np.where(is_r_last, worth_never, worth_always)
    return indices


def sleeping_indices(
    p_passive: npt.ArrayLike,
    p_active: npt.ArrayLike,
    *,
    weeks: int,
    rewards: npt.ArrayLike | None = None,
    discount: float = 0.99,
) -> FloatArray:
    """Whittle indices of two-state arms that cannot be called again for `weeks` weeks after a call.

    A call moves the arm by its active row into N sleeping weeks. In them it moves by its passive rows and earns
    r(s, 0), but can neither be called nor gain by not being called: the price is charged for real calls alone. The
    index of s is the price of a call at which calling and waiting are both optimal in the awake state s; for N = 0
    that is the subsidy of `two_state_indices`.

    Derivation. Measure values against never calling. One call in s then yields m_s = c_s + g d_s D0 minus the price,
    whatever N is, since the N passive weeks are part of never calling too; so W(h) = max m_s, and only W(l) changes.
    Below it h is called, and X_h, X_l are what the right to call is worth in h and l:

        X_h = m_h - price + b (K_hh X_h + K_hl X_l),   X_l = g (P_lh X_h + P_ll X_l),

    with b = g^(N+1) and K_st = P(state t when awake again | called in s), the active row followed by N passive ones.
    Setting the gain of a call in l, m_l - price + b (K_lh X_h + K_ll X_l), equal to X_l and solving for the price,

        W(l) = m_h - (m_h - m_l) (1 - b K_hh + P_lh (g + g^2 + ... + g^(N+1))) / (1 - b (K_hh - K_lh)).

    Every denominator met on the way is positive, and below W(l) both states stay called, so such an arm is always
    indexable too.

    Parameters
    ----------
    p_passive, p_active, rewards, discount
        As for `two_state_indices`.
    weeks : int
        N, the whole weeks after the week of a call in which no other call is possible; 0 or more.

    Returns
    -------
    ndarray of shape (..., 2)
        The index of the awake states U and R, in units of reward per call.

    Raises
    ------
    ValueError
        As for `two_state_indices`, and for `weeks` that are not a whole number of 0 or more.
    """
    p, q, r = checked_two_state_arms(p_passive, p_active, rewards)
    g = checked_discount(discount)
    n_weeks = checked_weeks(weeks)
    p_u, p_r, q_u, q_r = p[..., 0], p[..., 1], q[..., 0], q[..., 1]
    c_u, c_r = _extra_rewards(r)
    worth_never = _spread(r, 0) * g / (1.0 - g * (p_r - p_u))
    m_u = c_u + (q_u - p_u) * worth_never
    m_r = c_r + (q_r - p_r) * worth_never

    # P(R) follows x -> p_u + persistence x in a passive week, drawn towards its fixed point by persistence ** N.
    persistence = p_r - p_u
    # Persistence 1 means p_u = 0 and a state that never changes: there is nothing to be drawn towards.
    fixed_point = np.divide(p_u, 1.0 - persistence, out=np.zeros(p_u.shape), where=persistence < 1.0)
    faded = persistence**n_weeks
    k_ur = fixed_point + (q_u - fixed_point) * faded
    k_rr = fixed_point + (q_r - fixed_point) * faded

    powers = g ** np.arange(1, n_weeks + 2)
    b = powers[-1]
    is_r_last = m_r >= m_u
    k_hh = np.where(is_r_last, k_rr, 1.0 - k_ur)
    p_lh = np.where(is_r_last, p_u, 1.0 - p_r)
    m_h, m_l = np.maximum(m_u, m_r), np.minimum(m_u, m_r)
    stretch = (1.0 - b * k_hh + p_lh * powers.sum()) / (1.0 - b * (k_rr - k_ur))
    w_l = m_h - (m_h - m_l) * stretch
    return np.stack([np.where(is_r_last, w_l, m_u), np.where(is_r_last, m_r, w_l)], axis=-1)


def _spread(r: FloatArray | None, action: int) -> FloatArray | float:
    """r(R, action) - r(U, action), ndarray (...)."""
    if r is None:
        return 1.0
    return np.asarray(r[..., 1, action] - r[..., 0, action])


def _extra_rewards(r: FloatArray | None) -> tuple[FloatArray | float, FloatArray | float]:
    """c_s = r(s, 1) - r(s, 0) for s = U and R, each ndarray (...)."""
    if r is None:
        return 0.0, 0.0
    extra = r[..., 1] - r[..., 0]
    return np.asarray(extra[..., 0]), np.asarray(extra[..., 1])
