"""How long Whittle indices take: the closed forms for a million arms, the general solver against a public one.

Run `python -m benchmarks.bench_whittle [--arms N] [--states N] [--repeats N]`. Both solvers see the same arms in the
same run, one after the other, and the ratio is what counts: seconds depend on the machine. The public solver
(markovianbandit-pkg, by the authors of the method) is compared if it is installed; if not, the output says so.
"""

import argparse
import importlib
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt

from bandicoot_core.model.whittle import sleeping_indices, two_state_indices, whittle_indices

DISCOUNT = 0.99


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def report(name: str, times: list[float]) -> None:
    """Print the first, the median and the best of some repeats."""
    print(f"{name:<44} first {times[0]:.3f} s   median {statistics.median(times):.3f} s   best {min(times):.3f} s")


def bench_closed_forms(n_arms: int, n_repeats: int) -> None:
    """Time the closed forms on random arms."""
    rng = np.random.default_rng(0)
    p_passive, p_active = rng.random((n_arms, 2)), rng.random((n_arms, 2))
    rewards = rng.random((n_arms, 2, 2))
    for name, work in {
        "two_state_indices": lambda: two_state_indices(p_passive, p_active),
        "two_state_indices, own rewards": lambda: two_state_indices(p_passive, p_active, rewards=rewards),
        "sleeping_indices, 2 weeks": lambda: sleeping_indices(p_passive, p_active, weeks=2),
    }.items():
        report(f"{name}, {n_arms:,} arms", [seconds(work) for _ in range(n_repeats)])


def public_solver() -> Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], Callable[[], object]] | None:
    """A maker of timed calls to the public solver with its test of indexability; None if it is not installed."""
    try:
        with np.errstate():  # the package changes numpy's error state when it is imported
            markovianbandit = importlib.import_module("markovianbandit.markovianbandit")
    except ImportError:
        return None

    def prepared(moves: npt.NDArray[np.float64], rewards: npt.NDArray[np.float64]) -> Callable[[], object]:
        arm = markovianbandit.restless_bandit_from_P0P1_R0R1(*moves, *rewards.T)
        return lambda: arm.whittle_indices(discount=DISCOUNT)

    return prepared


def solver_times(n_states: int, n_repeats: int) -> tuple[list[float], list[float]]:
    """Seconds of both solvers on the same random arms, a new arm for each repeat; (ours, theirs).

    The second list is empty when the public solver is not installed.
    """
    rng = np.random.default_rng(1)
    prepared = public_solver()
    ours: list[float] = []
    theirs: list[float] = []
    if prepared is not None:
        prepared(*_arm(4, rng))()  # compiles
    for _ in range(n_repeats):
        moves, rewards = _arm(n_states, rng)
        if prepared is not None:
            theirs.append(seconds(prepared(moves, rewards)))
        ours.append(seconds(partial(whittle_indices, moves, rewards, discount=DISCOUNT)))
    return ours, theirs


def bench_solver(n_states: int, n_repeats: int) -> None:
    """Time both solvers and print the ratio."""
    ours, theirs = solver_times(n_states, n_repeats)
    report(f"whittle_indices, {n_states} states", ours)
    if not theirs:
        print("markovianbandit-pkg is not installed: no public solver to compare with")
        return
    report(f"markovianbandit-pkg, {n_states} states", theirs)
    ratio = statistics.median(theirs) / statistics.median(ours)
    print(f"whittle_indices is {ratio:.1f} times as fast as the public solver (medians)")


def _arm(n_states: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    return rng.dirichlet(np.ones(n_states), (2, n_states)), rng.random((n_states, 2))


def main() -> None:
    """Run both benchmarks."""
    parser = argparse.ArgumentParser(description="Time the Whittle indices.")
    parser.add_argument("--arms", type=int, default=1_000_000)
    parser.add_argument("--states", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    bench_closed_forms(options.arms, options.repeats)
    bench_solver(options.states, options.repeats)


if __name__ == "__main__":
    main()
