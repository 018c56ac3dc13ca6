"""What follows by conditions, over evaluations in a row and real materializations: once, only when it has to."""

from collections.abc import Iterator
from datetime import date, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.asset_daemon_cursor import AssetDaemonCursor

from bandicoot_core.calendar import last_closed_week
from bandicoot_dagster.abandoned_runs import this_process
from bandicoot_dagster.automation import FOLLOWED, what_follows
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from bandicoot_dagster.partitions import list_days
from tests.small_programme import CALL_DATE, NOON, Programme

TODAY = CALL_DATE.isoformat()
YESTERDAY = (CALL_DATE - timedelta(days=1)).isoformat()
WEEK = last_closed_week(CALL_DATE)
Requests = set[tuple[str, str]]


class Daemon:
    """Evaluates the conditions as Dagster's daemon does, tick after tick, and makes by hand what a person would."""

    def __init__(self, programme: Programme, instance: dg.DagsterInstance) -> None:
        self._definitions = build_definitions(programme.installation.settings, programme.clock)
        self.instance = instance
        self._cursor: AssetDaemonCursor | None = None
        self.tick()  # the first one only notes where everything stands

    def tick(self) -> Requests:
        """What is requested now: asset and partition."""
        result = dg.evaluate_automation_conditions(
            self._definitions,
            instance=self.instance,
            asset_selection=what_follows.asset_selection,
            evaluation_time=NOON,
            cursor=self._cursor,
        )
        self._cursor = result.cursor
        return {
            (each.key.to_user_string(), key)
            for each in result.results
            for key in each.true_subset.expensively_compute_partition_keys()
        }

    def run(self, job: str, partition: str, *only: str, tags: dict[str, str] | None = None) -> None:
        """Materialize the assets of a job, or only some of them."""
        made = self._definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(name) for name in only] or None,
            tags=tags,
        )
        assert made.success

    def pretend(self, asset: str, partition: str, tags: dict[str, str] | None = None) -> None:
        """A materialization of an asset in a run of its own that makes nothing."""
        spec = self._definitions.resolve_asset_graph().get(dg.AssetKey(asset))

        @dg.asset(name=asset, partitions_def=spec.partitions_def)
        def made_by_hand() -> None: ...

        assert dg.materialize([made_by_hand], instance=self.instance, partition_key=partition, tags=tags).success


@pytest.fixture
def daemon(programme: Programme) -> Iterator[Daemon]:
    with open_instance(programme.installation) as instance:
        yield Daemon(programme, instance)


def test_a_list_that_is_published_again_by_hand_has_its_cache_filled_once(daemon: Daemon) -> None:
    assert daemon.tick() == set()
    daemon.run("daily_list", TODAY, "published_call_list")
    assert daemon.tick() == {("index_cache", TODAY)}
    assert daemon.tick() == set()  # it was requested
    daemon.run("daily_list", TODAY, "index_cache")
    assert daemon.tick() == set()


def test_the_job_of_the_list_has_filled_the_cache_itself(daemon: Daemon) -> None:
    daemon.run("daily_list", TODAY)
    assert daemon.tick() == set()
    assert daemon.tick() == set()


def test_nothing_is_requested_while_the_run_that_publishes_has_yet_to_fill_the_cache(daemon: Daemon) -> None:
    between: list[Requests] = []

    @dg.asset(partitions_def=list_days)
    def published_call_list() -> None: ...

    @dg.asset(partitions_def=list_days, deps=[published_call_list])
    def index_cache() -> None:
        between.append(daemon.tick())

    assets = [published_call_list, index_cache]
    assert dg.materialize(assets, instance=daemon.instance, partition_key=TODAY).success
    assert between == [set()]
    assert daemon.tick() == set()


def test_an_old_list_that_is_published_again_leaves_the_cache_alone(daemon: Daemon) -> None:
    daemon.pretend("published_call_list", (CALL_DATE - timedelta(days=9)).isoformat())
    assert daemon.tick() == set()
    daemon.pretend("published_call_list", YESTERDAY)
    assert daemon.tick() == {("index_cache", YESTERDAY)}


def test_events_that_are_read_again_by_hand_renew_the_newest_states_once(daemon: Daemon) -> None:
    daemon.run("source_history", (CALL_DATE - timedelta(days=5)).isoformat())
    assert daemon.tick() == {("caregiver_states", YESTERDAY)}
    daemon.run("nightly", YESTERDAY, "caregiver_states")
    assert daemon.tick() == set()


@pytest.mark.parametrize("tags", [FOLLOWED, this_process()])
def test_what_a_night_or_the_command_line_reads_is_followed_by_them(daemon: Daemon, tags: dict[str, str]) -> None:
    for asset in ("sms_events", "calls", "caregivers"):
        daemon.pretend(asset, YESTERDAY, tags)
    daemon.pretend("model_version", WEEK.isoformat(), tags)
    assert daemon.tick() == set()


def test_events_that_are_told_late_wait_for_the_night(daemon: Daemon) -> None:
    daemon.instance.report_runless_asset_event(dg.AssetMaterialization("received_events", partition=YESTERDAY))
    assert daemon.tick() == set()


def test_a_night_requests_nothing(daemon: Daemon) -> None:
    daemon.run("nightly", YESTERDAY)
    assert daemon.tick() == set()


def test_events_before_the_window_of_the_newest_states_renew_nothing(daemon: Daemon) -> None:
    daemon.pretend("sms_events", "2024-02-01")
    assert daemon.tick() == set()


def test_a_model_that_is_made_by_hand_is_followed_by_the_report_that_takes_no_options(daemon: Daemon) -> None:
    older: date = WEEK - timedelta(weeks=3)
    daemon.pretend("model_version", older.isoformat())
    assert daemon.tick() == set()
    daemon.pretend("model_version", WEEK.isoformat())
    assert daemon.tick() == {("coverage_report", WEEK.isoformat())}
    assert daemon.tick() == set()


def test_jobs_that_are_followed_say_so_in_their_runs(programme: Programme) -> None:
    definitions = build_definitions(programme.installation.settings, programme.clock)
    for job in ("nightly", "weekly_training"):
        assert FOLLOWED.items() <= definitions.resolve_job_def(job).tags.items()
    for job in ("source_history", "registry"):
        assert not FOLLOWED.items() <= definitions.resolve_job_def(job).tags.items()
