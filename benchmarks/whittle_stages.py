"""Whittle indices as stages of the table of figures; the case's size is the number of arms, or of states.

Stages for `python -m benchmarks.whittle_stages <stage> <case>`. More about both is printed by `bench_whittle`.
"""

import statistics
import sys
from dataclasses import replace

import numpy as np

from bandicoot_core.model.whittle import two_state_indices
from benchmarks.bench_whittle import solver_times
from benchmarks.measure import Case, Fact, Measured, Outcome, repeat, serve


def closed_form(case: Case) -> Measured:
    """Whittle indices of as many two-state arms as the case has caregivers, each with chances of its own."""
    chances = np.random.default_rng(0).random((2, case.n_caregivers, 2))
    return repeat(lambda: Outcome(len(two_state_indices(chances[0], chances[1]))), repeats=case.repeats)


def solver(case: Case) -> Measured:
    """The general solver on arms of as many states as the case has caregivers.

    Facts: the median seconds of the public solver on the same arms, when it is installed.
    """
    ours, theirs = solver_times(case.n_caregivers, case.repeats)
    facts: dict[str, Fact] = {"public_seconds": statistics.median(theirs)} if theirs else {}
    return replace(repeat(lambda: Outcome(case.n_caregivers, facts), repeats=1), seconds=ours, cpu_seconds=[])


STAGES = (closed_form, solver)

if __name__ == "__main__":
    serve(STAGES, sys.argv[1:])
