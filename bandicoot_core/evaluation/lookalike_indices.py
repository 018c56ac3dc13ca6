"""Two indices that are in circulation under Whittle's name and are not his: negative controls, never to rank by.

The Whittle index of state s is the one subsidy, paid in every passive step of *every* state, at which calling and not
calling are both optimal *in s*; the other state is called or left by whatever is best there at that subsidy. Each
function below changes one half of that sentence. `model.whittle.two_state_indices` has the right one.

`never_versus_always` replaces "both optimal in s" by a comparison of two whole policies, always calling and never
calling: it asks for the subsidy at which these two are worth the same from s. Neither need be optimal there: between
the two indices of an arm the best policy is a third one, which calls in one state only. It answers what all of a
caregiver's calls are worth together, where the question is what this one call is worth: with little discounting an arm
gets nearly the same number in both states, even when calls help greatly in one and hardly in the other.

`separate_subsidy` replaces "every state" by the state at hand: the subsidy is paid for passive steps in s only, and the
other state is left to its best action without one. This is what a bisection for one state at a time solves when it adds
the subsidy to the passive value of that state alone, as the one published for SAHELI does (the system: S. Verma et al.
2023, AAAI 37). Where calls help in both states, the other state then is called every week, so that the worth of
coming to R is that of an arm which is always called: D1 of `two_state_indices` in both states, right for the one with
the lower index, and wrong for the one that is called first, where D0 belongs. (A bisection that moves a subsidy for
each state at once, until both break even together, ends at g d_s D1 as well; the two differ only where a call harms.)

Rewards are 1 in R and 0 in U. Discounts strictly between 0 and 1; bad chances are refused as by `two_state_indices`.
"""

import numpy as np
import numpy.typing as npt

from bandicoot_core.model.arm_validation import FloatArray, checked_discount, checked_two_state_arms


def never_versus_always(p_passive: npt.ArrayLike, p_active: npt.ArrayLike, *, discount: float = 0.99) -> FloatArray:
    """The subsidy at which always calling is worth as much as never calling, by the state it starts from.

    With V^a_s the discounted responsive weeks from s under the action a for ever, a subsidy w a week adds w / (1 - g)
    to never calling, so

        w(s) = (1 - g) (V^1_s - V^0_s),   V^a_U = g x_U D / (1 - g),   V^a_R = V^a_U + D,   D = 1 / (1 - g (x_R - x_U)),

    with x the chances under a. p_passive, p_active: ndarray (..., 2), P(next = R | state), states [U, R]. Returns
    ndarray (..., 2), responsive weeks per week. Without the factor 1 - g, as a difference of values, it ranks alike.
    """
    p, q, _ = checked_two_state_arms(p_passive, p_active, None)
    g = checked_discount(discount)

    def scaled_values(x: FloatArray) -> FloatArray:
        """(1 - g) V^a, ndarray (..., 2)."""
        spread = 1.0 / (1.0 - g * (x[..., 1] - x[..., 0]))
        in_u = g * x[..., 0] * spread
        return np.stack([in_u, in_u + (1.0 - g) * spread], axis=-1)

    return scaled_values(q) - scaled_values(p)


def separate_subsidy(p_passive: npt.ArrayLike, p_active: npt.ArrayLike, *, discount: float = 0.99) -> FloatArray:
    """The subsidy, paid for passive steps in s alone, at which both actions are optimal in s.

    At it s may as well be called, and the other state o takes its best action without subsidy; being in R is always
    worth more than being in U, so the best action is the one with the higher chance of R, e_o = max(p_o, q_o):

        w(s) = g (q_s - p_s) D_s,   D_U = 1 / (1 - g (e_R - q_U)),   D_R = 1 / (1 - g (q_R - e_U)).

    p_passive, p_active: ndarray (..., 2), P(next = R | state), states [U, R]. Returns ndarray (..., 2), responsive
    weeks per passive week in s.
    """
    p, q, _ = checked_two_state_arms(p_passive, p_active, None)
    g = checked_discount(discount)
    best = np.maximum(p, q)
    worth_of_r = np.stack(
        [1.0 / (1.0 - g * (best[..., 1] - q[..., 0])), 1.0 / (1.0 - g * (q[..., 1] - best[..., 0]))], axis=-1
    )
    return g * (q - p) * worth_of_r
