"""What has to run, and over which partitions, so that the list of a day can be made: missing or stale parts only.

A plan is read from the lake's manifests alone. Executing it belongs to launch.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import TypeAlias

from bandicoot_core.calendar import days_between, last_closed_week, last_day_of_week, weeks_ending_with
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.staleness import MODEL_PARTS, why_model_is_stale
from bandicoot_core.settings import ModelOptions, Settings
from bandicoot_core.stores.lake import Lake

EVENT_ASSETS = ("sms_events", "vaccinations", "calls")
DAY_ASSETS = ("caregivers", *EVENT_ASSETS, "caregiver_states")
Damaged: TypeAlias = Mapping[str, Sequence[str]]
"""Asset -> partitions of which a file is gone or not what was written."""

REREAD_DAYS = 3
"""Days before the list whose events are always read again, for rows that reached the source late."""
STATE_DAYS = 14
"""Days of states that a first run computes, so that the chart of states shows a fortnight."""


@dataclass(frozen=True)
class Step:
    """One run: a job over one partition or a range of daily ones, and why it is needed."""

    job: str
    first_partition: str
    last_partition: str
    why: str

    @property
    def n_days(self) -> int:
        """Daily partitions in the range; 1 for a week."""
        return (date.fromisoformat(self.last_partition) - date.fromisoformat(self.first_partition)).days + 1


def plan_list(
    lake: Lake,
    call_date: date,
    *,
    settings: Settings,
    options: ModelOptions,
    champion_week: date | None,
    damaged: Damaged = MappingProxyType({}),
) -> list[Step]:
    """The runs that bring everything up to the list of `call_date`, in order.

    `champion_week` is the training week of the current champion, None without one. `damaged` partitions count as
    missing; where there are any, what can be made of them is not asked but made again.
    """
    week = last_closed_week(call_date)
    last_day = call_date - timedelta(days=1)
    first_event_day = min(
        weeks_ending_with(week, options.training_weeks)[0], last_day - timedelta(days=settings.lookback_days - 1)
    )
    first_night = _first_night(lake, call_date, week, damaged)
    before = days_between(first_event_day, first_night - timedelta(days=1))
    reread = [day for day in before if day >= call_date - timedelta(days=REREAD_DAYS)]
    missing = _missing(lake, EVENT_ASSETS, before, damaged)
    steps = [
        Step("source_history", *span, why="not yet in the lake, or read again for late rows")
        for span in _ranges(sorted({*missing, *reread}))
    ]
    if missing and not lake.partitions("caregivers"):
        steps.insert(0, Step("registry", last_day.isoformat(), last_day.isoformat(), why="gives caregivers their keys"))
    steps.append(Step("nightly", first_night.isoformat(), last_day.isoformat(), why="closes the days before the list"))
    why_stale = "something it is made of was damaged" if damaged else why_model_is_stale(lake, week, options)
    if champion_week is None or (champion_week <= week and why_stale is not None):
        steps.append(Step("weekly_training", week.isoformat(), week.isoformat(), why=why_stale or "no champion yet"))
    steps.append(Step("daily_list", call_date.isoformat(), call_date.isoformat(), why="the list itself"))
    return steps


def damaged_partitions(lake: Lake) -> Damaged:
    """What a plan can make again and is not as it was written; reads every byte of it."""
    found = {asset: tuple(lake.corrupt_partitions(asset)) for asset in (*DAY_ASSETS, *MODEL_PARTS, BUNDLES)}
    return {asset: partitions for asset, partitions in found.items() if partitions}


def _first_night(lake: Lake, call_date: date, week: date, damaged: Damaged) -> date:
    """The first day the nightly job has to cover: the day before the list, or an earlier one without states.

    Snapshots that exist are not taken again: the registry of a past day can't be read from today's.
    """
    last_day = call_date - timedelta(days=1)
    earliest = min(call_date - timedelta(days=STATE_DAYS), last_day_of_week(week))
    missing = _missing(lake, ("caregivers", "caregiver_states"), days_between(earliest, last_day), damaged)
    return min([last_day, *missing])


def _missing(lake: Lake, assets: Iterable[str], days: Sequence[date], damaged: Damaged) -> list[date]:
    existing = [set(lake.partitions(asset)) - set(damaged.get(asset, ())) for asset in assets]
    return [day for day in days if any(day.isoformat() not in partitions for partitions in existing)]


def _ranges(days: Sequence[date]) -> list[tuple[str, str]]:
    """Consecutive days as (first, last) pairs of partition keys."""
    ranges: list[list[date]] = []
    for day in days:
        if ranges and day - ranges[-1][-1] == timedelta(days=1):
            ranges[-1].append(day)
        else:
            ranges.append([day])
    return [(span[0].isoformat(), span[-1].isoformat()) for span in ranges]
