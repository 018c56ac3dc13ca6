"""The hidden chains of the demo, week by week: who is responsive, who is called, who will be responsive next.

A caregiver of type t in state s in week k is responsive in week k+1 with chance p_active[t, s] when a call was
attempted in week k, whatever came of it, else p_passive[t, s]. The first state, in the week of her enrolment (or in
week 0), is drawn from the passive chain's stationary distribution. The chain runs on after an opt-out, unseen. How
states show in messages belongs to `messages`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bandicoot_core.demo.calls import WeekCalls, choose_calls
from bandicoot_core.demo.population import BoolArray, Population
from bandicoot_core.demo.programme import Programme
from bandicoot_core.demo.streams import Stream, stream

_NEVER_CALLED = -1_000_000


@dataclass(frozen=True)
class ChainWeek:
    """One week of everybody enrolled by its end; arrays have the shape (n_enrolled_by_week,)."""

    week: int
    is_responsive: BoolArray
    is_called: BoolArray
    is_responsive_next: BoolArray
    calls: WeekCalls


def weekly_chains(programme: Programme, population: Population, *, is_control: BoolArray) -> Iterator[ChainWeek]:
    """All weeks that begin before as_of_date, in order; a partial last week is simulated whole.

    is_control: ndarray (n_caregivers,), who is never called. Memory is that of one week.
    """
    chances = programme.transition_chances()
    state_before = np.zeros(0, dtype=np.bool_)
    state_next = np.zeros(0, dtype=np.bool_)
    last_called_week = np.zeros(0, dtype=np.int32)
    for week in range(programme.n_started_weeks):
        n_before, n = len(state_next), population.n_enrolled_by_week(week)
        state = np.concatenate([state_next, _first_states(programme, population, week, n_before, n)])
        last_called_week = np.concatenate([last_called_week, np.full(n - n_before, _NEVER_CALLED, dtype=np.int32)])
        calls = choose_calls(
            programme,
            population,
            week,
            # Nothing is known of those who were not there in the week before: they count as unresponsive.
            was_responsive=np.concatenate([state_before, np.zeros(n - len(state_before), dtype=np.bool_)]),
            last_called_week=last_called_week,
            is_control=is_control[:n],
        )
        last_called_week[calls.caregiver] = week
        is_called = last_called_week == week
        p_next = chances[population.type_id[:n], is_called.astype(np.int8), state.astype(np.int8)]
        state_next = stream(programme.seed, Stream.TRANSITION, week).random(n) < p_next
        yield ChainWeek(week, state, is_called, state_next, calls)
        state_before = state


def _first_states(programme: Programme, population: Population, week: int, n_before: int, n: int) -> BoolArray:
    """States of the caregivers n_before .. n-1 in their first week, from their stationary distribution."""
    share = np.array([kind.stationary_share for kind in programme.types])
    draw = stream(programme.seed, Stream.INITIAL_STATE, week).random(n - n_before)
    return draw < share[population.type_id[n_before:n]]
