"""The most that any policy can reach: the fluid linear program of a finite horizon, with the budget in every week.

Here: the program, its solution, the certificate that the bound is valid, and what one more call would be worth. Not
here: what one caregiver is worth at given prices (`priced_calls`), and policies (`policies`).

The program lets every class of alike caregivers be split in any shares, and keeps each week's budget on average only.
Every policy that keeps the budget always, whatever it knows of the past, has occupations that satisfy it: so its
optimum bounds them all (P. Whittle 1988, J. Appl. Probab. 25A; with one constraint per step, D. B. Brown and J. E.
Smith 2020, "Index policies and performance bounds for dynamic selection problems", Management Science 66(7)). It is
the optimum for one arm with a call in every week, and is approached by good policies as cohorts grow.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from bandicoot_core.evaluation.cohorts import Cohort, IntArray
from bandicoot_core.evaluation.priced_calls import (
    chances_when_awake,
    expected_without_calls,
    gains_of_one_call,
    worth_at_prices,
)
from bandicoot_core.model.arm_validation import FloatArray

# Primal and dual must agree to this share of the weeks at stake; the solver's own tolerance is 1e-7 a constraint.
LARGEST_GAP = 1e-6


@dataclass(frozen=True, eq=False)
class FluidBound:
    """The bound of a cohort, the occupation that reaches it, and the prices that certify it.

    without_calls: responsive caregiver-weeks, weeks 1 to T, when nobody is called; exact.
    gain: responsive caregiver-weeks that no policy can add to them.
    class_of_arm: ndarray (n_arms,); arms of a class have equal chances and compete for the same calls.
    occupation: ndarray (T, n_classes, 2, 2), expected awake caregivers by week, class, state [U, R] and action
        [passive, active]. Those who are missing from a class are asleep in that week.
    pool_names, pool_budgets: who competes for which calls; budgets in calls a week, ndarray (n_pools,).
    prices: ndarray (T, n_pools), what one more call in that week and pool is worth, in responsive weeks. Where the
        worth of a call more and of a call less differ, a value between the two.
    """

    without_calls: float
    gain: float
    class_of_arm: IntArray
    occupation: FloatArray
    pool_names: tuple[str, ...]
    pool_budgets: IntArray
    pool_of_arm: IntArray
    prices: FloatArray

    @property
    def responsive_weeks(self) -> float:
        """Responsive caregiver-weeks that no policy can exceed in expectation."""
        return self.without_calls + self.gain

    @property
    def calls(self) -> FloatArray:
        """Expected calls by week and pool, ndarray (T, n_pools)."""
        n_classes = self.occupation.shape[1]
        pool_of_class = np.zeros(n_classes, dtype=np.int64)
        pool_of_class[self.class_of_arm] = self.pool_of_arm
        by_class = self.occupation[..., 1].sum(axis=2)
        return by_class @ np.eye(len(self.pool_names))[pool_of_class]


def fluid_bound(cohort: Cohort) -> FluidBound:
    """The bound on expected responsive weeks of a cohort, from its true chances.

    Unknowns are x[t, c, s, a] >= 0, the awake caregivers of class c in week t, state s and action a. With P the
    passive rows and K the active row followed by N passive ones,

        maximize    sum of m_t(c, s) x[t, c, s, 1]            (m: what one call adds, `gains_of_one_call`)
        subject to  sum_a x[t, c, s', a] = sum_s P(s' | s) x[t-1, c, s, 0] + sum_s K(s' | s) x[t-1-N, c, s, 1],
                    sum_{c in pool, s} x[t, c, s, 1] <= budget of the pool,

    week 0 being given. Sleeping weeks need no unknowns of their own: they are passive, and count in m already. The
    gain that is returned is the value of the dual at the solver's prices, raised to 0 where they are below: valid as a
    bound whatever the solver's tolerance, by weak duality.

    Takes about 0.6 s for 500 classes and 12 weeks, 9 s for 4,500; classes count, not arms.

    Raises
    ------
    ArithmeticError
        When the solver fails, or primal and dual differ by more than LARGEST_GAP of the weeks at stake.
    """
    pool_names, pool_budgets, pool_of_arm = cohort.pools()
    keys = np.column_stack([cohort.p_passive, cohort.p_active, pool_of_arm])
    distinct, class_of_arm = np.unique(keys, axis=0, return_inverse=True)
    class_of_arm = class_of_arm.reshape(-1)
    n_classes = len(distinct)
    p, q, pool_of_class = distinct[:, :2], distinct[:, 2:4], distinct[:, 4].astype(np.int64)
    at_start = np.zeros((n_classes, 2))
    np.add.at(at_start, (class_of_arm, cohort.is_responsive.astype(np.int64)), 1.0)

    gains = gains_of_one_call(p, q, cohort.n_weeks)
    balance, inflow = _balance(p, q, at_start, cohort.n_weeks, cohort.cool_down_weeks)
    usage = _usage(pool_of_class, len(pool_names), cohort.n_weeks)
    cost = np.stack([np.zeros_like(gains), -gains], axis=-1)
    limits = np.tile(pool_budgets.astype(np.float64), cohort.n_weeks)
    solved = linprog(cost.ravel(), A_ub=usage, b_ub=limits, A_eq=balance, b_eq=inflow, method="highs-ipm")
    if solved.x is None or solved.status != 0:
        raise ArithmeticError(
            f"cohort {cohort.name}: the fluid program of {n_classes} classes and {cohort.n_weeks} weeks was not "
            f"solved ({solved.message}); report the cohort's chances"
        )
    prices = np.maximum(0.0, -solved.ineqlin.marginals).reshape(cohort.n_weeks, len(pool_names))
    _, worth = worth_at_prices(p, q, prices[:, pool_of_class], cohort.cool_down_weeks)
    gain = float((worth * at_start).sum() + (prices @ pool_budgets).sum())
    at_stake = max(1.0, cohort.n_arms * cohort.n_weeks)
    if abs(gain + solved.fun) > LARGEST_GAP * at_stake:
        raise ArithmeticError(
            f"cohort {cohort.name}: the fluid program gives {-solved.fun:.9g} responsive weeks and its "
            f"prices {gain:.9g}; expected both within {LARGEST_GAP:g} of the {at_stake:,.0f} weeks at stake"
        )
    return FluidBound(
        without_calls=float(expected_without_calls(cohort.p_passive, cohort.is_responsive, cohort.n_weeks).sum()),
        gain=gain,
        class_of_arm=class_of_arm,
        occupation=solved.x.reshape(cohort.n_weeks, n_classes, 2, 2),
        pool_names=pool_names,
        pool_budgets=pool_budgets,
        pool_of_arm=pool_of_arm,
        prices=prices,
    )


def _balance(
    p: FloatArray, q: FloatArray, at_start: FloatArray, n_weeks: int, cool_down_weeks: int
) -> tuple[sparse.csr_array, FloatArray]:
    """The rows "awake = came from passive weeks + woke up", with their right-hand side.

    Rows are ordered [t, c, s'], columns [t, c, s, a].
    """
    n_classes = len(p)
    into = {0: p, 1: chances_when_awake(p, q, cool_down_weeks)}
    later = {0: 1, 1: 1 + cool_down_weeks}
    row = np.arange(n_weeks * n_classes * 2).reshape(n_weeks, n_classes, 2)
    column = np.arange(row.size * 2).reshape(n_weeks, n_classes, 2, 2)
    rows, columns, values = [np.repeat(row.ravel(), 2)], [column.ravel()], [np.ones(column.size)]
    for action, weeks in later.items():
        to_r = into[action]
        for next_state, chances in enumerate((1.0 - to_r, to_r)):
            target = row[weeks:, :, next_state, None]
            source = column[: max(n_weeks - weeks, 0), :, :, action]
            rows.append(np.broadcast_to(target, source.shape).ravel())
            columns.append(source.ravel())
            values.append(-np.broadcast_to(chances, source.shape).ravel())
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    inflow = np.zeros(row.shape)
    inflow[0] = at_start
    return sparse.csr_array(entries, shape=(row.size, column.size)), inflow.ravel()


def _usage(pool_of_class: IntArray, n_pools: int, n_weeks: int) -> sparse.csr_array:
    """The rows "calls of a week and pool", ordered [t, pool], over columns [t, c, s, a]."""
    n_classes = len(pool_of_class)
    called = np.arange(n_weeks * n_classes * 4).reshape(n_weeks, n_classes, 2, 2)[..., 1]
    row = np.arange(n_weeks)[:, None, None] * n_pools + pool_of_class[None, :, None]
    entries = (np.ones(called.size), (np.broadcast_to(row, called.shape).ravel(), called.ravel()))
    return sparse.csr_array(entries, shape=(n_weeks * n_pools, n_weeks * n_classes * 4))
