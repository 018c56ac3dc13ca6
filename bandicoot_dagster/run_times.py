"""How long runs took, as Dagster's storage knows it: what the cost report is computed from."""

from datetime import UTC, datetime

import dagster as dg

from bandicoot_core.costs.spending import RunTime

_AT_ONCE = 500


def run_times(instance: dg.DagsterInstance, *, since: datetime, until: datetime) -> list[RunTime]:
    """Every run that was made from `since` (UTC) on, up to `until` or to its end if that came first."""
    found: list[RunTime] = []
    cursor: str | None = None
    while True:
        records = instance.get_run_records(dg.RunsFilter(created_after=since), limit=_AT_ONCE, cursor=cursor)
        for record in records:
            if record.start_time is None:
                continue
            end = min(record.end_time or until.timestamp(), until.timestamp())
            started_at = datetime.fromtimestamp(record.start_time, UTC)
            seconds = max(end - record.start_time, 0.0)
            found.append(RunTime(record.dagster_run.job_name, started_at, seconds))
        if len(records) < _AT_ONCE:
            return found
        cursor = records[-1].dagster_run.run_id
