"""What has to run, and over which partitions, so that the list of a day can be made: missing or stale parts only.

A plan is read from the lake's manifests alone. Executing it belongs to launch. Closing a day also reads the days before
it again and renews what has become stale by then, whoever starts it: that is the assets' own doing, and the plan only
says so. Hence whether the model is stale is asked when the days are closed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from types import MappingProxyType
from typing import TypeAlias

from bandicoot_core.calendar import days_between, last_closed_week, last_day_of_week, weeks_ending_with
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.daily_staleness import stale_states
from bandicoot_core.pipeline.extraction import EVENT_ASSETS
from bandicoot_core.pipeline.staleness import MODEL_PARTS, why_model_is_stale
from bandicoot_core.settings import ModelOptions, Settings
from bandicoot_core.stores.lake.lake import Lake

DAY_ASSETS = ("caregivers", *EVENT_ASSETS, "caregiver_states")
Damaged: TypeAlias = Mapping[str, Sequence[str]]
"""Asset -> partitions of which a file is gone or not what was written."""

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


def plan_days(
    lake: Lake,
    call_date: date,
    *,
    settings: Settings,
    options: ModelOptions,
    damaged: Damaged = MappingProxyType({}),
) -> list[Step]:
    """The runs that close every day before `call_date` and bring the history that its list and model need.

    `damaged` partitions count as missing.
    """
    week = last_closed_week(call_date)
    last_day = call_date - timedelta(days=1)
    first_event_day = min(
        weeks_ending_with(week, options.training_weeks)[0], last_day - timedelta(days=settings.lookback_days - 1)
    )
    first_night = _first_night(lake, call_date, week, damaged)
    missing = _missing(lake, EVENT_ASSETS, days_between(first_event_day, first_night - timedelta(days=1)), damaged)
    steps = [Step("source_history", *span, why="not yet in the lake") for span in _ranges(missing)]
    if missing and not lake.partitions("caregivers"):
        steps.insert(0, Step("registry", last_day.isoformat(), last_day.isoformat(), why="gives caregivers their keys"))
    why = _why_night(lake, first_night, settings)
    steps.append(Step("nightly", first_night.isoformat(), last_day.isoformat(), why=why))
    return steps


def plan_model_and_list(
    lake: Lake,
    call_date: date,
    *,
    options: ModelOptions,
    champion_week: date | None,
    damaged: Damaged = MappingProxyType({}),
) -> list[Step]:
    """The runs from closed days to the list of `call_date`.

    `champion_week` is the training week of the current champion, None without one. Where anything was damaged, what
    can be made of it is not asked but made again.
    """
    week = last_closed_week(call_date)
    steps = []
    why_stale = "something it is made of was damaged" if damaged else why_model_is_stale(lake, week, options)
    if champion_week is None or (champion_week <= week and why_stale is not None):
        steps.append(Step("weekly_training", week.isoformat(), week.isoformat(), why=why_stale or "no champion yet"))
    steps.append(Step("daily_list", call_date.isoformat(), call_date.isoformat(), why="the list itself"))
    return steps


def damaged_partitions(lake: Lake) -> Damaged:
    """What a plan can make again and is not as it was written; reads every byte of it."""
    found = {asset: tuple(lake.corrupt_partitions(asset)) for asset in (*DAY_ASSETS, *MODEL_PARTS, BUNDLES)}
    return {asset: partitions for asset, partitions in found.items() if partitions}


def _why_night(lake: Lake, first_night: date, settings: Settings) -> str:
    """Why days are closed, and what is read or renewed with them."""
    why = "closes the days before the list"
    if settings.reread_days:
        why += f", reads {_counted(settings.reread_days, 'day')} before again for late rows"
    stale = stale_states(lake, first_night - timedelta(days=1), settings)
    if stale:
        (first, reason), last = next(iter(stale.items())), max(stale)
        span = f"{first}" if first == last else f"{_counted(len(stale), 'day')} from {first} to {last}"
        why += f", renews the states of {span}: {reason}"
    return why


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


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
