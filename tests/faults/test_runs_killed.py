"""The run's own process is killed: at every boundary between its steps, and at random."""

import os
import signal
from functools import partial

import dagster as dg
import pytest
from dagster._core.events.log import EventLogEntry

from bandicoot_core.settings import Settings
from tests.faults.child_run import ChildRun
from tests.faults.conftest import N_TRIES, drawn_for_this_pass
from tests.faults.list_reader import ListReader
from tests.faults.site_under_fault import Site, Work, run_work

_BOUNDARIES = (dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_SUCCESS)


def run_to_boundary(settings: Settings, budget: int, n_boundaries: int, *, is_stored: bool) -> None:
    """The night and the list, killed at the n-th boundary: when it is stored, or just before."""
    n_seen = 0
    store = dg.DagsterInstance.handle_new_event

    def handle(self: dg.DagsterInstance, event: EventLogEntry, **options: object) -> None:
        nonlocal n_seen
        if event.is_dagster_event and event.get_dagster_event().event_type in _BOUNDARIES:
            n_seen += 1
            if n_seen == n_boundaries:
                if is_stored:
                    store(self, event, **options)
                os.kill(os.getpid(), signal.SIGKILL)
        store(self, event, **options)

    dg.DagsterInstance.handle_new_event = handle
    run_work(settings, Work.NIGHT_AND_LIST, budget)
    raise AssertionError(f"the run had only {n_seen} boundaries")


def n_step_boundaries(site: Site) -> int:
    """Boundaries between steps in a run of the night and the list."""
    budget = site.prepare(Work.NIGHT_AND_LIST)
    outcome = ChildRun(partial(run_to_boundary, site.settings, budget, 10_000, is_stored=True)).finish()
    assert outcome.message.startswith("the run had only ")
    return int(outcome.message.split()[4])


def test_a_run_killed_at_a_step_boundary_is_made_good_by_the_next(site: Site, reader: ListReader) -> None:
    fault = "run killed (-9) at a step boundary"
    n_boundaries = n_step_boundaries(site)
    # A long pass takes every boundary, a short one draws one.
    boundaries = site.generator(fault).permutation(n_boundaries)[: N_TRIES if N_TRIES == 1 else n_boundaries] + 1
    for place, boundary in enumerate(boundaries):
        budget = site.prepare(Work.NIGHT_AND_LIST)
        before = site.look()
        run = ChildRun(partial(run_to_boundary, site.settings, budget, int(boundary), is_stored=place % 2 == 0))
        outcome = run.finish()
        assert outcome.is_killed, outcome
        print(f"{fault}: boundary {boundary} of {n_boundaries}")
        site.answer(fault, Work.NIGHT_AND_LIST, before, outcome, wanted=budget, reader=reader)


@pytest.mark.parametrize("work", drawn_for_this_pass([Work.LIST, Work.NIGHT_AND_LIST], 1))
def test_a_run_killed_at_random_is_made_good_by_the_next(site: Site, reader: ListReader, work: Work) -> None:
    fault = "run killed (-9) at random"
    for moment in site.generator(f"{fault} {work}").uniform(0, 1.2 * site.seconds[work], size=N_TRIES):
        budget = site.prepare(work)
        before = site.look()
        outcome = site.start(work, budget).finish(kill_after=moment)
        print(f"{fault}, after {moment:.2f} s: {'killed' if outcome.is_killed else 'had ended'}")
        site.answer(fault, work, before, outcome, wanted=budget, reader=reader)
