"""What comes of each policy: many trials of a cohort, in which all policies meet the same chance.

Here: the simulation of calls and states. Not here: policies (`policies`), the bound (`bound`), and the table in which
policies are compared (`policy_comparison`).

In every trial and week each arm draws one uniform number, the same for all policies and actions: she is responsive next
week if it is below her chance. Policies then differ by what they do, not by luck, and their difference from never
calling, simulated on the same numbers, is far less noisy than either: arms that a policy does not call contribute
nothing to it. What never calling gives is known exactly, so a policy's outcome is estimated as

    exact outcome without calls + mean over trials of (its outcome - outcome without calls on the same numbers).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bandicoot_core.evaluation.cohorts import BoolArray, Cohort, IntArray
from bandicoot_core.evaluation.policies import Priorities
from bandicoot_core.evaluation.priced_calls import expected_without_calls
from bandicoot_core.model.arm_validation import FloatArray

# Trials are worked on together up to this many arms, which keeps the arrays of a week inside the processor's cache.
_ARMS_TOGETHER = 1 << 14
# One bit below what an int64 holds without its sign, so that no key is as large as the one of an arm that sleeps.
_KEY_BITS = 62
_ASLEEP = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Simulation:
    """Outcomes of the trials.

    policies: names, in the order of the first axis.
    n_responsive: ndarray (n_policies, n_trials, n_weeks), responsive arms in weeks 1 to T.
    n_calls: ndarray (n_policies, n_trials, n_weeks), calls in weeks 0 to T - 1.
    n_responsive_without_calls: ndarray (n_trials, n_weeks), when nobody is called, on the same random numbers.
    expected_without_calls: ndarray (n_weeks,), the exact expectation of that.
    """

    policies: tuple[str, ...]
    n_responsive: IntArray
    n_calls: IntArray
    n_responsive_without_calls: IntArray
    expected_without_calls: FloatArray

    def gains(self, policy: str) -> FloatArray:
        """Responsive caregiver-weeks that the policy added in each trial, ndarray (n_trials,)."""
        added = self.n_responsive[self.policies.index(policy)] - self.n_responsive_without_calls
        return added.sum(axis=1).astype(np.float64)


def simulate(
    cohort: Cohort, priorities: Mapping[str, Priorities], *, n_trials: int, seed: int | tuple[int, ...]
) -> Simulation:
    """Run every policy through the same trials of a cohort.

    A call in week t acts on the state of week t + 1. After it the arm cannot be called for the cohort's cool-down.
    Pools of districts are filled each for itself. A trial's random numbers come from (seed, number of the trial): more
    trials leave the earlier ones as they are, and neither the number of policies nor their order changes anything.

    Parameters
    ----------
    cohort : Cohort
    priorities : mapping of policy name to Priorities
        Made for this cohort, for example by the makers in POLICIES.
    n_trials : int
        1 or more.
    seed : int or tuple of int

    Raises
    ------
    ValueError
        For fewer than one trial, or priorities whose shape is not that of the cohort.
    """
    if n_trials < 1:
        raise ValueError(f"n_trials is {n_trials}; expected 1 or more")
    choices = [_Choice(name, cohort, of_policy) for name, of_policy in priorities.items()]
    chances = [np.ascontiguousarray(c) for p in (cohort.p_passive, cohort.p_active) for c in p.T]
    n_responsive = np.empty((len(choices), n_trials, cohort.n_weeks), dtype=np.int64)
    n_calls = np.empty_like(n_responsive)
    without_calls = np.empty((n_trials, cohort.n_weeks), dtype=np.int64)
    n_together = max(1, _ARMS_TOGETHER // max(cohort.n_arms, 1))
    for start in range(0, n_trials, n_together):
        trials = slice(start, min(start + n_together, n_trials))
        generators = [_stream(seed, trial) for trial in range(trials.start, trials.stop)]
        shape = (len(generators), cohort.n_arms)
        untouched = np.broadcast_to(cohort.is_responsive, shape)
        states = [untouched] * len(choices)
        last_calls = [np.zeros(shape, dtype=np.int16) for _ in choices]
        for week in range(cohort.n_weeks):
            # Both draws are made for every policy alike, whether or not it needs them.
            draws = np.stack([generator.random(cohort.n_arms) for generator in generators])
            lots = np.stack([generator.integers(0, 1 << _KEY_BITS, cohort.n_arms) for generator in generators])
            passive_u, passive_r, active_u, active_r = (draws < chance for chance in chances)
            untouched = np.where(untouched, passive_r, passive_u)
            without_calls[trials, week] = np.count_nonzero(untouched, axis=1)
            for number, choice in enumerate(choices):
                state, last_call = states[number], last_calls[number]
                is_called = choice.called(week, state, last_call, lots)
                state = np.where(is_called, np.where(state, active_r, active_u), np.where(state, passive_r, passive_u))
                last_call[is_called] = week + 1
                states[number] = state
                n_responsive[number, trials, week] = np.count_nonzero(state, axis=1)
                n_calls[number, trials, week] = np.count_nonzero(is_called, axis=1)
    return Simulation(
        policies=tuple(priorities),
        n_responsive=n_responsive,
        n_calls=n_calls,
        n_responsive_without_calls=without_calls,
        expected_without_calls=expected_without_calls(cohort.p_passive, cohort.is_responsive, cohort.n_weeks),
    )


def _stream(seed: int | tuple[int, ...], trial: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(trial,)))


class _Choice:
    """Picks whom a policy calls in a week.

    Each arm gets one whole number, smaller first, whose bits hold, from the highest: the rank of its priority; the week
    of its last call, if ties go by it; its lot; and its own number, which makes all of them different. The budget's
    smallest are called: a partial sort finds the last of them.
    """

    def __init__(self, name: str, cohort: Cohort, priorities: Priorities) -> None:
        shape = priorities.values.shape
        if len(shape) != 3 or shape[0] not in (1, cohort.n_weeks) or shape[1:] != (cohort.n_arms, 2):
            raise ValueError(
                f"policy {name}: priorities have the shape {shape}; expected ({cohort.n_weeks} or 1, "
                f"{cohort.n_arms}, 2) as week, arm, state"
            )
        if np.isnan(priorities.values).any():
            raise ValueError(f"policy {name}: {int(np.isnan(priorities.values).sum())} priorities are not a number")
        arm_bits = _n_bits(cohort.n_arms)
        wait_bits = _n_bits(cohort.n_weeks + 1) if priorities.is_longest_waiting_first else 0
        lot_bits = _KEY_BITS - _n_bits(2 * cohort.n_arms) - wait_bits - arm_bits
        self._wait_shift = lot_bits + arm_bits if wait_bits else None
        self._lot_mask = ((1 << lot_bits) - 1) << arm_bits
        rank_shift = wait_bits + lot_bits + arm_bits
        # Rank 0 is the highest priority of the week. Axes: week, state, arm.
        ranks = np.stack([np.unique(-week, return_inverse=True)[1].reshape(week.shape).T for week in priorities.values])
        self._keys = (ranks.astype(np.int64) << rank_shift) + np.arange(cohort.n_arms)
        self._cool_down_weeks = cohort.cool_down_weeks
        _, budgets, pool_of_arm = cohort.pools()
        members = [np.flatnonzero(pool_of_arm == pool) for pool in range(len(budgets))]
        self._pools = [(int(k), arms) for k, arms in zip(budgets, members, strict=True) if k > 0 and len(arms)]

    def called(self, week: int, state: BoolArray, last_call: npt.NDArray[np.int16], lots: IntArray) -> BoolArray:
        """Whom the policy calls; all arrays (n_trials, n_arms).

        last_call: 0 for never, else 1 + the week of the last call. lots: uniform in [0, 2^62).
        """
        in_u, in_r = self._keys[week if len(self._keys) > 1 else 0]
        keys = np.where(state, in_r, in_u)
        keys += lots & self._lot_mask
        if self._wait_shift is not None:
            keys += last_call.astype(np.int64) << self._wait_shift
        if self._cool_down_weeks:
            keys[last_call >= max(week + 1 - self._cool_down_weeks, 1)] = _ASLEEP
        if len(self._pools) == 1 and len(self._pools[0][1]) == state.shape[1]:
            return self._smallest(keys, self._pools[0][0])
        is_called = np.zeros(state.shape, dtype=np.bool_)
        for budget, arms in self._pools:
            is_called[:, arms] = self._smallest(keys[:, arms], budget)
        return is_called

    @staticmethod
    def _smallest(keys: IntArray, budget: int) -> BoolArray:
        is_awake = keys < _ASLEEP
        if budget >= keys.shape[1]:
            return is_awake
        last = np.partition(keys, budget - 1, axis=1)[:, budget - 1 : budget]
        return (keys <= last) & is_awake


def _n_bits(n_values: int) -> int:
    return max(n_values - 1, 0).bit_length()
