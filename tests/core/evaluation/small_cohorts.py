"""Cohorts small enough to enumerate, and exact references for them in plain Python."""

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np

from bandicoot_core.evaluation.cohorts import Cohort

# An arm as the reference sees it: whether it is responsive, and for how many weeks it still sleeps.
Arm = tuple[bool, int]
Joint = tuple[Arm, ...]


def small_cohort(p_passive, p_active, is_responsive, **options) -> Cohort:
    """A cohort of one cluster and one district unless `options` say otherwise; every belief is the truth."""
    p_passive, p_active = np.array(p_passive, dtype=float), np.array(p_active, dtype=float)
    n_arms = len(p_passive)
    defaults = {
        "name": "small",
        "cluster_id": np.zeros(n_arms, dtype=np.int64),
        "district": np.zeros(n_arms, dtype=np.int64),
        "cluster_p_passive": p_passive.mean(axis=0, keepdims=True),
        "cluster_p_active": p_active.mean(axis=0, keepdims=True),
        "own_p_passive": p_passive,
        "own_p_active": p_active,
        "budget": 1,
        "n_weeks": 3,
    }
    return Cohort(
        p_passive=p_passive, p_active=p_active, is_responsive=np.array(is_responsive, dtype=bool), **defaults | options
    )


def best_responsive_weeks(cohort: Cohort) -> float:
    """What the best of all policies reaches in expectation: dynamic programming over the joint states of all arms."""

    @cache
    def value(week: int, arms: Joint) -> float:
        if week == cohort.n_weeks:
            return 0.0
        return max(outcome(week, arms, calls) for calls in allowed_calls(cohort, arms))

    def outcome(week: int, arms: Joint, calls: tuple[int, ...]) -> float:
        return expectation(cohort, arms, calls, lambda after: value(week + 1, after))

    return value(0, start(cohort))


def responsive_weeks_of(cohort: Cohort, choose: Callable[[int, Joint, list[int]], tuple[int, ...]]) -> float:
    """What one policy reaches in expectation; choose(week, arms, awake) names the arms it calls."""

    def value(week: int, arms: Joint) -> float:
        if week == cohort.n_weeks:
            return 0.0
        awake = [i for i, (_, asleep) in enumerate(arms) if not asleep]
        return expectation(cohort, arms, choose(week, arms, awake), lambda after: value(week + 1, after))

    return value(0, start(cohort))


def start(cohort: Cohort) -> Joint:
    return tuple((bool(state), 0) for state in cohort.is_responsive)


def allowed_calls(cohort: Cohort, arms: Joint) -> list[tuple[int, ...]]:
    """Every set of awake arms that keeps the budget of every pool."""
    _, budgets, pool_of_arm = cohort.pools()
    awake = [i for i, (_, asleep) in enumerate(arms) if not asleep]
    sets = itertools.chain.from_iterable(itertools.combinations(awake, n) for n in range(len(awake) + 1))
    return [
        calls
        for calls in sets
        if all(sum(pool_of_arm[i] == pool for i in calls) <= budget for pool, budget in enumerate(budgets))
    ]


def expectation(cohort: Cohort, arms: Joint, calls: tuple[int, ...], value: Callable[[Joint], float]) -> float:
    """Expected responsive arms of the next week plus the expected value of what follows."""
    chances = [
        float((cohort.p_active if i in calls else cohort.p_passive)[i, int(state)]) for i, (state, _) in enumerate(arms)
    ]
    asleep = [cohort.cool_down_weeks if i in calls else max(left - 1, 0) for i, (_, left) in enumerate(arms)]
    total = 0.0
    for states in itertools.product((False, True), repeat=len(arms)):
        weight = float(np.prod([c if state else 1.0 - c for c, state in zip(chances, states, strict=True)]))
        if weight:
            total += weight * (sum(states) + value(tuple(zip(states, asleep, strict=True))))
    return total
