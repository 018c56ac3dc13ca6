"""A killed run of the command line does not stay under way in Dagster, where others would wait for it."""

import time
from functools import partial

import dagster as dg

from bandicoot_dagster.abandoned_runs import PROCESS_TAG, end_abandoned_runs
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.sensors import abandoned_runs
from tests.faults.child_run import ChildRun
from tests.faults.site_under_fault import Site, Work, run_work


def test_a_killed_run_is_ended_and_a_living_one_is_left_alone(site: Site) -> None:
    budget = site.prepare(Work.LIST)
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    with open_instance(site.installation) as instance:
        end_abandoned_runs(instance)
        run = ChildRun(partial(run_work, site.settings, Work.LIST, budget))
        deadline = time.monotonic() + 60
        while not instance.get_runs(started) and time.monotonic() < deadline:
            time.sleep(0.02)
        [under_way] = instance.get_runs(started)
        assert str(run.pid) in under_way.tags[PROCESS_TAG]
        assert end_abandoned_runs(instance) == []
        run.kill()
        run.finish()
        said = abandoned_runs(dg.build_sensor_context(instance=instance))
        assert isinstance(said, dg.SkipReason)
        assert under_way.run_id in (said.skip_message or "")
        ended = instance.get_run_by_id(under_way.run_id)
        assert ended is not None
        assert ended.status == dg.DagsterRunStatus.FAILURE
    site.must_run(Work.LIST, budget)
