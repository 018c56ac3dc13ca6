"""The historic policy of the demo: whom it called in a week, when, and what came of it.

What a call does to the caregiver's next state belongs to `chains`; the budget and the rules are parameters of
`programme`.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bandicoot_core.demo.population import BoolArray, IntArray, Population
from bandicoot_core.demo.programme import SECONDS_PER_DAY, SECONDS_PER_WEEK, Programme
from bandicoot_core.demo.streams import Stream, stream

_FIRST_HOUR, _LAST_HOUR = 9, 18
_N_CALL_DAYS = 6  # Monday to Saturday


@dataclass(frozen=True)
class WeekCalls:
    """Attempted calls of one week in the order of their instants; all arrays have the shape (n_calls,)."""

    week: int
    caregiver: IntArray
    attempted_second: IntArray
    """Instant, in seconds since 1970 UTC."""
    outcome: npt.NDArray[np.int8]
    """Index into CALL_OUTCOMES."""


def choose_calls(
    programme: Programme,
    population: Population,
    week: int,
    *,
    was_responsive: BoolArray,
    last_called_week: npt.NDArray[np.int32],
    is_control: BoolArray,
) -> WeekCalls:
    """The calls of a week, chosen on its Sunday from what was known then.

    All arrays have the shape (n,), n = caregivers enrolled by the end of the week: was_responsive is the state in the
    week before, last_called_week a week number far below zero for those never called. A part of the budget goes to a
    random draw from everybody who may be called, the rest to a random draw from the unresponsive among the others.
    Where too few may be called, the budget stays unspent.
    """
    n = len(was_responsive)
    policy = programme.policy
    week_start = programme.week_start_second(week)
    is_callable = (
        (population.enrolled_second[:n] < week_start - policy.warm_up_weeks * SECONDS_PER_WEEK)
        & (population.opted_out_week[:n] > week)
        & (week - last_called_week > policy.cool_down_weeks)
        & ~is_control
    )
    draws = stream(programme.seed, Stream.CALLS, week)
    priority = draws.random(n)
    candidates = np.flatnonzero(is_callable)
    candidates = candidates[np.argsort(priority[candidates], kind="stable")]

    n_random = round(policy.random_share * programme.weekly_budget)
    others = candidates[n_random:]
    targeted = others[~was_responsive[others]][: programme.weekly_budget - n_random]
    called = np.concatenate([candidates[:n_random], targeted])

    day_offset = (1 + np.arange(len(called)) % _N_CALL_DAYS) * SECONDS_PER_DAY
    hours = _LAST_HOUR - _FIRST_HOUR
    second_of_day = _FIRST_HOUR * 3600 + (draws.random(len(called)) * hours * 3600).astype(np.int64)
    attempted = week_start + day_offset + second_of_day
    outcome = _outcomes(programme, population.is_phone_reliable[called], draws.random(len(called)))
    order = np.lexsort((called, attempted))
    return WeekCalls(week, called[order], attempted[order], outcome[order])


def _outcomes(
    programme: Programme, is_phone_reliable: BoolArray, draw: npt.NDArray[np.float64]
) -> npt.NDArray[np.int8]:
    chances = np.array([programme.policy.p_outcomes_unreliable, programme.policy.p_outcomes])
    bounds = np.cumsum(chances, axis=1)[:, :-1]
    return (draw[:, None] >= bounds[is_phone_reliable.astype(np.int64)]).sum(axis=1).astype(np.int8)
