"""The coverage report of a week: materializing it, and what it says."""

from datetime import date

from bandicoot_core.calendar import days_between, last_day_of_week, weeks_ending_with
from bandicoot_core.contracts import (
    CALLS,
    CAREGIVER_STATES,
    CAREGIVERS,
    CLUSTER_ASSIGNMENTS,
    COVERAGE,
    WHITTLE_INDICES,
)
from bandicoot_core.errors import NoChampionError
from bandicoot_core.evaluation.coverage import coverage
from bandicoot_core.evaluation.coverage_charts import share_called_by_group
from bandicoot_core.evaluation.report import Report
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.published.models import champion

COVERAGE_WEEKS = 4
"""Weeks in which calls are counted, the week of the report included."""


def materialize_coverage_report(stores: Installation, week: date) -> Manifest:
    """Write the `coverage_report` partition of a week: COVERAGE at its end, by the champion's indices.

    NoChampionError before the first promotion; MissingPartitionError when the last day's states are absent.
    """
    last_day = last_day_of_week(week)
    days = days_between(weeks_ending_with(week, COVERAGE_WEEKS)[0], last_day)
    with stores.published() as connection:
        model = champion(connection)
    if model is None:
        raise NoChampionError(
            "no model has been promoted yet, so nobody knows what a call is worth; run weekly_training"
        )
    version = model.model_version
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        table = engine.to_pyarrow(
            coverage(
                reader.scan(CAREGIVER_STATES, "caregiver_states", [last_day.isoformat()]),
                reader.scan(CAREGIVERS, "caregivers", [last_day.isoformat()]),
                reader.scan_existing(CALLS, "calls", [day.isoformat() for day in days]),
                reader.scan(CLUSTER_ASSIGNMENTS, BUNDLES, [version], "assignments"),
                reader.scan(WHITTLE_INDICES, BUNDLES, [version], "indices"),
                day=last_day,
                window_days=len(days),
                lookback_days=stores.settings.lookback_days,
            )
        )
        return stores.lake.write(
            "coverage_report",
            week.isoformat(),
            {"data": (COVERAGE, table)},
            inputs=reader.inputs,
            facts={"model_version": version, "window_days": len(days)},
        )


def read_coverage_report(lake: Lake, week: date) -> Report:
    """The materialized report; MissingPartitionError when it is absent."""
    key = week.isoformat()
    window_days = int(lake.require("coverage_report", key).facts["window_days"])
    table = lake.read(COVERAGE, "coverage_report", key)
    return Report(
        title=f"Whom the calls reached in the {window_days} days up to {last_day_of_week(week)}",
        tables={"coverage": table},
        pictures={"whom the calls reached": share_called_by_group(table, window_days=window_days)},
    )
