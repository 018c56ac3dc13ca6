"""The policies that are compared: each is a table of priorities, made from what it may believe of a cohort.

Here: `Priorities`, the named policies, and how ties are broken. Not here: the calls themselves (`simulation`), the two
wrong indices (`lookalike_indices`), and the ranking of the real list (`policy.ranking`).

Every policy makes as many calls as its pool's budget and the cool-down allow, whatever they are worth: the list does
so too. Highest priority first; of equal priority who has waited longest since her last call, never called first, if the
policy says so; then at random, drawn anew every week.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bandicoot_core.evaluation.bound import FluidBound, fluid_bound
from bandicoot_core.evaluation.cohorts import Cohort
from bandicoot_core.evaluation.lookalike_indices import never_versus_always, separate_subsidy
from bandicoot_core.evaluation.priced_calls import worth_at_prices
from bandicoot_core.model.arm_validation import FloatArray
from bandicoot_core.model.whittle import sleeping_indices

NO_CALLS = "none"
"""The policy that everything is measured against; its outcome is computed, not simulated."""


@dataclass(frozen=True, eq=False)
class Priorities:
    """Who comes first, by week, arm and state.

    values: ndarray (n_weeks or 1, n_arms, 2), highest first, states [U, R]; one week stands for all.
    is_longest_waiting_first: whether ties go to who has waited longest since her last call; else at random.
    """

    values: FloatArray
    is_longest_waiting_first: bool


PolicyMaker = Callable[[Cohort], Priorities]


def random_calls(cohort: Cohort) -> Priorities:
    """Every week a random choice of those who may be called."""
    return Priorities(np.zeros((1, cohort.n_arms, 2)), is_longest_waiting_first=False)


def round_robin(cohort: Cohort) -> Priorities:
    """Longest since the last call first, never called before all others, in random order among equals.

    With everybody free to be called the order of the first round repeats in every later one but for ties: those called
    in the same week are equals again.
    """
    return Priorities(np.zeros((1, cohort.n_arms, 2)), is_longest_waiting_first=True)


def worst_first(cohort: Cohort) -> Priorities:
    """Unresponsive caregivers first, at random within each state."""
    return Priorities(np.broadcast_to([1.0, 0.0], (1, cohort.n_arms, 2)), is_longest_waiting_first=False)


def myopic(cohort: Cohort) -> Priorities:
    """Largest gain in the chance to be responsive next week, d_s = q_s - p_s, at caregiver level."""
    p_passive, p_active = cohort.beliefs("caregiver")
    return _by_index(p_active - p_passive)


def whittle_caregiver(cohort: Cohort) -> Priorities:
    """Whittle index of each caregiver's own chances, with the cohort's cool-down inside the index."""
    return _whittle(cohort, "caregiver")


def whittle_cluster(cohort: Cohort) -> Priorities:
    """Whittle index of the cluster's chances, as the list uses it; ties by waiting time."""
    return _whittle(cohort, "cluster")


def never_versus_always_calls(cohort: Cohort) -> Priorities:
    """Negative control: the wrong index `never_versus_always`, at caregiver level."""
    return _by_index(never_versus_always(*cohort.beliefs("caregiver"), discount=cohort.discount))


def separate_subsidy_calls(cohort: Cohort) -> Priorities:
    """Negative control: the wrong index `separate_subsidy`, at caregiver level."""
    return _by_index(separate_subsidy(*cohort.beliefs("caregiver"), discount=cohort.discount))


def fluid_lp(cohort: Cohort) -> Priorities:
    """The index of the fluid program at caregiver level: what a call is worth in each week, at the bound's prices."""
    believed = cohort.as_believed("caregiver")
    return priorities_at_prices(believed, fluid_bound(believed))


def priorities_at_prices(cohort: Cohort, bound: FluidBound) -> Priorities:
    """The price I_t(s) at which a call just pays (`worth_at_prices`), when all later calls cost the bound's prices.

    `bound` must be that of `cohort`. Within a pool everybody pays the same price in a week, so that the order by index
    is the order by gain (D. B. Brown and J. E. Smith 2020, Management Science 66(7), the optimal Lagrangian index).
    """
    prices = bound.prices[:, bound.pool_of_arm]
    index, _ = worth_at_prices(cohort.p_passive, cohort.p_active, prices, cohort.cool_down_weeks)
    return Priorities(index, is_longest_waiting_first=True)


POLICIES: dict[str, PolicyMaker] = {
    "random": random_calls,
    "round_robin": round_robin,
    "worst_first": worst_first,
    "myopic": myopic,
    "whittle_caregiver": whittle_caregiver,
    "whittle_cluster": whittle_cluster,
    "fluid_lp": fluid_lp,
    "never_versus_always": never_versus_always_calls,
    "separate_subsidy": separate_subsidy_calls,
}
"""Every policy that makes calls, by the name it has in tables and charts."""


def _whittle(cohort: Cohort, level: str) -> Priorities:
    return _by_index(sleeping_indices(*cohort.beliefs(level), weeks=cohort.cool_down_weeks, discount=cohort.discount))


def _by_index(index: FloatArray) -> Priorities:
    """Priorities that are the same in every week; index: ndarray (n_arms, 2)."""
    return Priorities(index[None], is_longest_waiting_first=True)
