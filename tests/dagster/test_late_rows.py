"""Late rows through Dagster: whatever starts the night reads them, and the UI and the operator see what is stale."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from bandicoot_core.pipeline.daily_staleness import stale_states
from bandicoot_dagster.cli_status import status_lines
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from tests.small_programme import CALL_DATE, Programme

YESTERDAY = CALL_DATE - timedelta(days=1)
EARLIER = CALL_DATE - timedelta(days=3)


def stale_partitions(programme: Programme, asset: str, days: Sequence[date]) -> dict[date, list[str]]:
    """What Dagster marks as stale of some partitions, and why."""
    graph = build_definitions(programme.installation.settings, programme.clock).resolve_asset_graph()
    with open_instance(programme.installation) as instance:
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        key = dg.AssetKey(asset)
        return {
            day: [f"{cause.reason}: {cause.dependency}" for cause in resolver.get_stale_causes(key, day.isoformat())]
            for day in days
            if resolver.get_status(key, day.isoformat()) == StaleStatus.STALE
        }


def add_late_open(programme: Programme, opened_at: datetime) -> str:
    """Somebody who had opened nothing for long did so, and the row comes only now; her id."""
    with programme.installation.published() as connection:
        row = connection.execute(
            """
            INSERT INTO suvita_production.sms_logs
                (message_id, caregiver_id, message_type, sent_at, delivered_at, opened_at, status)
            SELECT 'late-' || caregiver_id, caregiver_id, 'reminder', %(at)s - interval '1 hour',
                %(at)s - interval '1 hour', %(at)s, 'delivered'
            FROM bandicoot.caregiver_states AS known
            WHERE state = 'U' AND NOT EXISTS (SELECT FROM suvita_production.sms_logs AS late
                WHERE late.message_id = 'late-' || known.caregiver_id) AND status = 'active'
            ORDER BY caregiver_id LIMIT 1
            RETURNING caregiver_id
            """,
            {"at": opened_at},
        ).fetchone()
    assert row is not None
    return str(row[0])


def materialized(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, dg.AssetMaterialization]:
    return {str(event.partition): event for event in result.asset_materializations_for_node(asset)}


@pytest.fixture(scope="module")
def late_night(programme: Programme) -> dg.ExecuteInProcessResult:
    """A late row three days back, and the night as the schedule or a person starts it."""
    add_late_open(programme, programme.clock() - timedelta(days=3))
    return programme.run("nightly", YESTERDAY.isoformat())


def test_the_night_reads_late_rows_and_renews_the_states_that_depend_on_them(
    programme: Programme, late_night: dg.ExecuteInProcessResult
) -> None:
    assert late_night.success
    events = materialized(late_night, "sms_events")
    assert set(events) == {EARLIER.isoformat(), YESTERDAY.isoformat()}
    again = events[YESTERDAY.isoformat()].metadata["read_again"].value
    before = [(YESTERDAY - timedelta(days=n)).isoformat() for n in (3, 2, 1)]
    assert again == {before[0]: "unchanged", before[1]: "changed", before[2]: "unchanged"}
    states = materialized(late_night, "caregiver_states")
    assert set(states) == {day.isoformat() for day in (EARLIER, EARLIER + timedelta(days=1), YESTERDAY)}
    assert states[EARLIER.isoformat()].metadata["renewed_because"].value == "sms_events have changed since"
    installation = programme.installation
    assert stale_states(installation.lake, YESTERDAY, installation.settings) == {}


def test_a_data_version_is_the_digest_of_the_partition(
    programme: Programme, late_night: dg.ExecuteInProcessResult
) -> None:
    lake = programme.installation.lake
    for asset in ("caregivers", "sms_events", "vaccinations", "calls", "caregiver_states"):
        for partition, event in materialized(late_night, asset).items():
            assert event.tags["dagster/data_version"] == lake.require(asset, partition).digest, (asset, partition)


def test_dagster_marks_the_list_that_went_out_and_nothing_that_was_renewed(
    programme: Programme, late_night: dg.ExecuteInProcessResult
) -> None:
    days = [CALL_DATE - timedelta(days=n) for n in range(1, 4)]
    assert stale_partitions(programme, "caregiver_states", days) == {}
    assert list(stale_partitions(programme, "call_list", [CALL_DATE])) == [CALL_DATE]


def test_the_same_night_again_changes_nothing(programme: Programme, late_night: dg.ExecuteInProcessResult) -> None:
    again = programme.run("nightly", YESTERDAY.isoformat())
    for asset in ("sms_events", "vaccinations", "calls", "caregiver_states"):
        events = materialized(again, asset)
        assert set(events) == {YESTERDAY.isoformat()}, asset
        version = events[YESTERDAY.isoformat()].tags["dagster/data_version"]
        assert version == materialized(late_night, asset)[YESTERDAY.isoformat()].tags["dagster/data_version"]


def test_the_operator_is_told_which_lists_are_stale_and_they_stay(programme: Programme) -> None:
    said: list[str] = []
    next_day = CALL_DATE + timedelta(days=1)
    went_out = programme.published()
    later = Programme(programme.installation, programme.model_options, lambda: programme.clock() + timedelta(days=1))
    later.catch_up(say=said.append)
    add_late_open(programme, programme.clock() - timedelta(days=1))
    later.catch_up(next_day, say=said.append)
    planned = [line for line in said if line.startswith("nightly")]
    assert f"nightly: {CALL_DATE} (closes the days before the list, reads 3 days before again for late rows)" in planned
    assert (
        f"the list of {CALL_DATE} went out and stays, though caregiver_states of {YESTERDAY} have changed" in said[-1]
    )
    told = status_lines(programme.installation, next_day + timedelta(days=1))
    assert any(line.startswith(f"the list of {CALL_DATE} went out and stays") for line in told)
    assert told[-1] == "no incident is open"
    assert told[0] == f"a run for the list of {next_day + timedelta(days=1)} would do:"
    lists = materialized(later.run("daily_list", next_day.isoformat()), "call_list")
    stale = lists[next_day.isoformat()].metadata["stale_earlier_lists"].value
    assert list(stale) == [CALL_DATE.isoformat()]  # type: ignore[call-overload]
    assert len(went_out) == len(programme.published())
