"""A run killed at a random moment leaves the old list or the new one, whole, and the next run repairs everything."""

import os
import signal
import sys
import time
from datetime import timedelta

import numpy as np

from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from bandicoot_dagster.launch import execute_step
from bandicoot_dagster.plan import Step
from tests.small_programme import CALL_DATE, Programme

N_KILLS = 50
SEED = 20261121


def run_list(programme: Programme, budget: int, *, with_night: bool = True) -> None:
    """The day before, unless left out, and the list again, as the nightly runs do."""
    definitions = build_definitions(programme.installation.settings, programme.clock)
    day = (CALL_DATE - timedelta(days=1)).isoformat()
    key = CALL_DATE.isoformat()
    config = {"ops": {"call_list": {"config": {"budget": budget}}}}
    with open_instance(programme.installation) as instance:
        if with_night:
            execute_step(definitions, instance, Step("nightly", day, day, why="test"))
        execute_step(definitions, instance, Step("daily_list", key, key, why="test"), run_config=config)


def run_and_kill(programme: Programme, budget: int, seconds: float, *, with_night: bool) -> bool:
    """Run in a forked process (its imports are done) and kill it after some time; True when it was still running."""
    child = os.fork()
    if child == 0:
        os.setsid()
        sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the process ends by a signal
        try:
            run_list(programme, budget, with_night=with_night)
        finally:
            os._exit(0)
    time.sleep(seconds)
    done, _status = os.waitpid(child, os.WNOHANG)
    if done:
        return False
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def test_a_run_killed_fifty_times_never_leaves_part_of_a_list(programme: Programme) -> None:
    generator = np.random.default_rng(SEED)
    lists, seconds = {}, {}
    for budget, with_night in ((20, True), (35, False)):
        started = time.monotonic()
        run_list(programme, budget, with_night=with_night)
        seconds[with_night] = time.monotonic() - started
        lists[budget] = programme.published()
        assert len(lists[budget]) == budget
    n_killed = n_old = n_new = 0
    current = 35
    for attempt in range(N_KILLS):
        wanted = 20 if current == 35 else 35
        with_night = attempt % 3 == 0
        # A fork is slower than the run that was timed: some moments have to lie beyond it.
        moment = generator.uniform(0, 1.5 * seconds[with_night])
        n_killed += run_and_kill(programme, wanted, moment, with_night=with_night)
        found = programme.published()
        assert found in (lists[20], lists[35]), f"{len(found)} rows are neither the old list nor the new one"
        n_old, n_new = n_old + (found == lists[current]), n_new + (found == lists[wanted])
        current = len(found)
    print(f"seed {SEED}: {n_killed} of {N_KILLS} runs killed, {n_old} left the old list, {n_new} the new one")
    assert n_killed >= N_KILLS // 3
    run_list(programme, 20)
    assert programme.published() == lists[20]
