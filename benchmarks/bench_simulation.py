"""How long the policy simulation takes, per policy, and how long its bound takes.

Run `python -m benchmarks.bench_simulation [--arms N] [--weeks N] [--trials N] [--classes N]`. Each policy is simulated
by itself on the standard cohort, with the random numbers and the trials without calls that every simulation makes; then
all of them together, which share these. The bound is timed apart: its time depends on how many caregivers differ, not
on how many there are.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

from bandicoot_core.evaluation.bound import fluid_bound
from bandicoot_core.evaluation.cohort_generators import public_cohort
from bandicoot_core.evaluation.policies import POLICIES
from bandicoot_core.evaluation.simulation import simulate

# Needs the bound's prices, and is simulated like any other index once it has them.
NOT_TIMED = "fluid_lp"


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def bench_policies(n_arms: int, n_weeks: int, n_trials: int) -> None:
    """Time the making of priorities and the simulation of each policy, and of all together."""
    cohort = public_cohort(0, n_arms=n_arms, budget=n_arms * 60 // 500, n_weeks=n_weeks)
    print(f"{n_arms:,} arms x {n_weeks} weeks x {n_trials} trials, {cohort.budget:,} calls a week")
    made = {}
    for name, maker in POLICIES.items():
        if name != NOT_TIMED:
            start = time.perf_counter()
            made[name] = maker(cohort)
            making = time.perf_counter() - start
            time_of_one = seconds(partial(simulate, cohort, {name: made[name]}, n_trials=n_trials, seed=0))
            print(f"{name:<24} priorities {making:6.3f} s   simulation {time_of_one:6.2f} s")
    of_none = seconds(partial(simulate, cohort, {}, n_trials=n_trials, seed=0))
    print(f"{'random numbers, no calls':<24} {'':<19} simulation {of_none:6.2f} s")
    of_all = seconds(partial(simulate, cohort, made, n_trials=n_trials, seed=0))
    print(f"{f'all {len(made)} together':<24} {'':<19} simulation {of_all:6.2f} s")


def bench_bound(n_classes: int) -> None:
    """Time the bound of as many caregivers as there are classes, 12 weeks."""
    cohort = public_cohort(0, n_arms=n_classes, budget=n_classes * 60 // 500)
    print(f"fluid bound, {n_classes:,} classes x {cohort.n_weeks} weeks: {seconds(partial(fluid_bound, cohort)):.2f} s")


def main() -> None:
    """Time the policies, then the bound."""
    parser = argparse.ArgumentParser(description="Time the policy simulation.")
    parser.add_argument("--arms", type=int, default=10_000)
    parser.add_argument("--weeks", type=int, default=52)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--classes", type=int, default=500)
    options = parser.parse_args()
    bench_policies(options.arms, options.weeks, options.trials)
    bench_bound(options.classes)


if __name__ == "__main__":
    main()
