"""Two runs of one partition at once: one waits for the other, or says who is in the way."""

import time
from functools import partial

from tests.faults.child_run import ChildRun, Outcome
from tests.faults.conftest import N_TRIES
from tests.faults.list_reader import ListReader
from tests.faults.site_under_fault import BUDGETS, CALL_DATE, Site, Work, run_work


def test_two_runs_of_a_day_at_once_publish_one_whole_list(site: Site, reader: ListReader) -> None:
    fault = "two runs of one partition at once"
    for gap in site.generator(fault).uniform(0, 0.8 * site.seconds[Work.LIST], size=N_TRIES):
        site.prepare(Work.LIST)
        before = site.look()
        first = site.start(Work.LIST, BUDGETS[0])
        time.sleep(gap)
        second = site.start(Work.LIST, BUDGETS[1])
        outcomes = [first.finish(), second.finish()]
        print(f"{fault}, {gap:.2f} s apart: {[outcome.message for outcome in outcomes]}")
        assert all(outcome.is_success for outcome in outcomes), [outcome.trace for outcome in outcomes]
        after = site.look()
        # Whichever list it is, the lake holds the same one.
        n_rows = after.rows.num_rows
        assert n_rows in BUDGETS
        assert after.lake == site.references[n_rows].lake
        site.answer(fault, Work.LIST, before, outcomes[0], wanted=n_rows, reader=reader)


def test_a_run_that_may_not_wait_says_who_writes_the_partition(site: Site, reader: ListReader) -> None:
    fault = "second run that may not wait"
    impatient = site.settings_with().model_copy(update={"writer_wait_seconds": 0.1})
    for _ in range(N_TRIES):
        budget = site.prepare(Work.LIST)
        before = site.look()
        with site.installation.sole_writer("call_list", [CALL_DATE.isoformat()], holder="run 4711 on a desk"):
            outcome: Outcome = ChildRun(partial(run_work, impatient, Work.LIST, budget)).finish()
        assert outcome.error_class == "PartitionHeldError"
        assert f"call_list/{CALL_DATE} is being written by run 4711 on a desk writes call_list" in outcome.message
        site.answer(fault, Work.LIST, before, outcome, wanted=budget, reader=reader)
