"""The tables in which policies are compared: what each reaches at each budget, and what one more call is worth.

Here: what is averaged, and how far each number can be trusted. Not here: the simulation, the bound, and the pictures
(`simulation_charts`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.stats import t as student_t

from bandicoot_core.contracts import CALL_WORTH, POLICY_SIMULATION, conform
from bandicoot_core.evaluation.bound import FluidBound, fluid_bound
from bandicoot_core.evaluation.cohorts import Cohort, with_budget
from bandicoot_core.evaluation.policies import (
    NO_CALLS,
    POLICIES,
    PolicyMaker,
    Priorities,
    fluid_lp,
    priorities_at_prices,
)
from bandicoot_core.evaluation.simulation import simulate
from bandicoot_core.model.arm_validation import FloatArray

AT_BEST = "fluid_bound"
"""The name under which the bound stands among the policies."""


def simulation_table(
    cohorts: Sequence[Cohort],
    *,
    policies: Mapping[str, PolicyMaker] = POLICIES,
    budgets: Sequence[int] | None = None,
    n_trials: int,
    seed: int,
    interval: float = 0.9,
) -> pa.Table:
    """What each policy reaches on each kind of cohort at each budget, with intervals.

    With E_t the responsive caregivers in week t = 1..T and E_0 those in week 0, the drops of a policy are D = sum over
    t of (E_0 - E_t); drops prevented = 1 - D(policy) / D(no calls); share of the achievable gain = (G(policy) - G(no
    calls)) / (G(bound) - G(no calls)) in responsive weeks G = sum over t of E_t. Both are averaged over cohorts, and in
    each cohort over trials. No calls and the bound are exact; a policy's gain is its mean difference from no calls on
    the same random numbers (`simulation`).

    Intervals: with several cohorts of a kind, Student's t over the cohorts' own averages, which holds the difference
    between cohorts and the chance of the trials alike; with one cohort, Student's t over its trials: how exact the
    figure is for this cohort, not how other cohorts would fare. With one trial of one cohort they are empty. The rows
    of no calls and, for drops prevented, the bound have intervals over cohorts only.

    Parameters
    ----------
    cohorts : sequence of Cohort
        Those with the same name are repetitions of one kind.
    policies : mapping of name to maker
    budgets : sequence of int, optional
        Calls a week to go through; by default each cohort's own.
    n_trials, seed : int
        Of each cohort; the trials of cohort j draw from (seed, j) at every budget.
    interval : float
        Probability inside the intervals, strictly between 0 and 1.

    Returns
    -------
    table of POLICY_SIMULATION
        Every policy, no calls (`none`) and the bound (`fluid_bound`).

    Raises
    ------
    ValueError
        For an interval out of bounds, no cohorts, or a policy with the name of the bound or of no calls.
    """
    if not 0 < interval < 1:
        raise ValueError(f"interval is {interval}; expected a probability strictly between 0 and 1")
    if not cohorts:
        raise ValueError("cohorts is empty; expected at least one")
    taken = {NO_CALLS, AT_BEST} & set(policies)
    if taken:
        raise ValueError(f"policies has {sorted(taken)}, which the table fills in by itself; choose other names")
    found: dict[tuple[str, int, str], list[_Outcome]] = {}
    for number, cohort in enumerate(cohorts):
        for budget in budgets or (cohort.budget,):
            for outcome in _outcomes(with_budget(cohort, budget), policies, n_trials, (seed, number)):
                found.setdefault((cohort.name, budget, outcome.policy), []).append(outcome)
    rows = [
        {
            "cohort": name,
            "policy": policy,
            "budget": budget,
            "n_cohorts": len(outcomes),
            "n_trials": n_trials,
            **_estimate("drops_prevented", [outcome.drops_prevented for outcome in outcomes], interval),
            **_estimate("share_of_gain", [outcome.share_of_gain for outcome in outcomes], interval),
            "responsive_weeks": float(np.mean([outcome.responsive_weeks for outcome in outcomes])),
        }
        for (name, budget, policy), outcomes in found.items()
    ]
    return conform(pa.Table.from_pylist(rows, schema=POLICY_SIMULATION.arrow_schema()), POLICY_SIMULATION)


def call_worth_table(cohorts: Sequence[Cohort]) -> pa.Table:
    """What one more call would be worth, by week and pool, from the bound's prices; averaged over cohorts of a name.

    A price is the slope of the bound in the budget of its week and pool. Where a call more is worth less than a call
    fewer would cost, it lies between the two. To compare districts, give them calls of their own
    (`cohorts.with_district_shares`): among those who share calls, one call more is worth the same to all. Pools
    without caregivers are left out. Cohorts of one name must have the same weeks.
    """
    found: dict[tuple[str, int, str], list[tuple[float, float, float, float]]] = {}
    for cohort in cohorts:
        bound = fluid_bound(cohort)
        n_caregivers = np.bincount(bound.pool_of_arm, minlength=len(bound.pool_names))
        calls = bound.calls
        for pool in np.flatnonzero(n_caregivers):
            for week in range(cohort.n_weeks):
                found.setdefault((cohort.name, week, bound.pool_names[pool]), []).append(
                    (n_caregivers[pool], bound.pool_budgets[pool], calls[week, pool], bound.prices[week, pool])
                )
    rows = []
    for (name, week, pool_name), of_cohorts in found.items():
        n_members, budget, n_calls, worth = (float(mean) for mean in np.mean(of_cohorts, axis=0))
        rows.append(
            {
                "cohort": name,
                "week": week + 1,
                "pool": pool_name,
                "n_cohorts": len(of_cohorts),
                "n_caregivers": n_members,
                "budget": budget,
                "n_calls": n_calls,
                "worth_of_one_more_call": worth,
            }
        )
    return conform(pa.Table.from_pylist(rows, schema=CALL_WORTH.arrow_schema()), CALL_WORTH)


class _Outcome(NamedTuple):
    """One policy on one cohort; the two shares by trial, or a single number where they are exact."""

    policy: str
    drops_prevented: FloatArray | None
    share_of_gain: FloatArray | None
    responsive_weeks: float


def _outcomes(
    cohort: Cohort, policies: Mapping[str, PolicyMaker], n_trials: int, seed: tuple[int, ...]
) -> Iterator[_Outcome]:
    bound = fluid_bound(cohort)
    simulated = simulate(cohort, _priorities(cohort, policies, bound), n_trials=n_trials, seed=seed)
    drops = cohort.n_weeks * int(np.count_nonzero(cohort.is_responsive)) - bound.without_calls
    gains = {NO_CALLS: np.zeros(1), AT_BEST: np.array([bound.gain])}
    gains.update({policy: simulated.gains(policy) for policy in policies})
    for policy, gain in gains.items():
        yield _Outcome(
            policy,
            drops_prevented=gain / drops if drops > 0 else None,
            share_of_gain=gain / bound.gain if bound.gain > 0 else None,
            responsive_weeks=bound.without_calls + float(gain.mean()),
        )


def _priorities(cohort: Cohort, policies: Mapping[str, PolicyMaker], bound: FluidBound) -> dict[str, Priorities]:
    """Every policy's priorities; the fluid program is not solved twice when the truth is what is believed."""
    is_truth_known = cohort.own_p_passive is cohort.p_passive and cohort.own_p_active is cohort.p_active
    return {
        name: priorities_at_prices(cohort, bound) if maker is fluid_lp and is_truth_known else maker(cohort)
        for name, maker in policies.items()
    }


def _estimate(name: str, by_cohort: Sequence[FloatArray | None], interval: float) -> dict[str, float | None]:
    """The mean over cohorts with the ends of its interval; empty when a cohort has no value."""
    values = [value for value in by_cohort if value is not None]
    if len(values) < len(by_cohort):
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    means = np.array([value.mean() for value in values])
    sample = means if len(means) > 1 else values[0]
    mean = float(means.mean())
    if len(sample) < 2:
        return {name: mean, f"{name}_low": None, f"{name}_high": None}
    half_width = student_t.ppf((1 + interval) / 2, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample))
    return {name: mean, f"{name}_low": mean - float(half_width), f"{name}_high": mean + float(half_width)}
