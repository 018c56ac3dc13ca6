"""Which partitions of the lake may go, by the days and weeks that are to be kept, and what needs them longer.

Nothing goes that a list to come, a champion, the model a rollback brings back, or the making again of a kept list
needs: those keep their partitions longer than asked. Removing is a step of its own, so that it can be shown first.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import psycopg

from bandicoot_core.calendar import last_closed_week, last_day_of_week, week_of, weeks_ending_with
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.extraction import EVENT_ASSETS
from bandicoot_core.pipeline.other_policies import N_WEEKS
from bandicoot_core.pipeline.told_events import RECEIVED
from bandicoot_core.settings import ListOptions, ModelOptions, Settings
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.published.models import champion, is_held_back, list_models
from bandicoot_core.stores.published.tables import RETIRED

SNAPSHOT_ASSETS = ("caregivers", "caregiver_states")
_LISTS = "call_list"

_MIN_DAYS = 7 * (N_WEEKS + 2)
"""Days of lists and snapshots that reports and charts look back."""


@dataclass(frozen=True)
class Expired:
    """A partition that may go, and the bytes it holds."""

    asset: str
    partition: str
    n_bytes: int


def expired_partitions(
    lake: Lake,
    connection: psycopg.Connection,
    today: date,
    *,
    settings: Settings,
    list_options: ListOptions,
    model_options: ModelOptions,
) -> list[Expired]:
    """The partitions that may go, in the order in which to remove them; none while the settings keep everything.

    `connection` is to the published schema, which knows the champion. CorruptPartitionError names a list's manifest
    that can't be read: what the list needs is not known then.
    """
    week = last_closed_week(today)
    models = _models_in_use(connection)
    found: list[Expired] = []
    lists = dict.fromkeys(lake.partitions(_LISTS))
    if settings.keep_days is not None:
        n_days = max(settings.keep_days, _MIN_DAYS, list_options.pending_days, list_options.cool_down_days)
        first_day = today - timedelta(days=n_days)
        kept_lists = [key for key in lists if date.fromisoformat(key) >= first_day]
        manifests = lake.require_all(_LISTS, kept_lists)
        models |= {str(manifest.facts["model_version"]) for manifest in manifests}
        as_of = {str(manifest.recipe["as_of_date"]) for manifest in manifests}
        first_snapshot = first_day - timedelta(days=1)
        first_event = min(
            first_snapshot - timedelta(days=settings.lookback_days),
            weeks_ending_with(week - timedelta(weeks=1), model_options.training_weeks)[0],
        )
        week_ends = {last_day_of_week(each).isoformat() for each in _kept_weeks(settings, week, lake, models)}
        found += _older(lake, (_LISTS,), first_day)
        found += _older(lake, SNAPSHOT_ASSETS, first_snapshot, keep=as_of | week_ends)
        found += _older(lake, (*EVENT_ASSETS, RECEIVED), first_event)
    else:
        models |= {str(manifest.facts["model_version"]) for manifest in lake.require_all(_LISTS, list(lists))}
    if settings.keep_weeks is not None:
        kept = {each.isoformat() for each in _kept_weeks(settings, week, lake, models)}
        weekly = [
            name for name in lake.assets() if name not in {_LISTS, BUNDLES, RECEIVED, *SNAPSHOT_ASSETS, *EVENT_ASSETS}
        ]
        found += _listed(lake, weekly, lambda key: key not in kept and key < week.isoformat())
        found += _listed(lake, [BUNDLES], lambda version: version not in models and version[:10] not in kept)
    return found


def remove_expired(lake: Lake, expired: Iterable[Expired]) -> None:
    """Remove partitions in their order: a list before its states, older days first, so that no gap is ever left."""
    for each in expired:
        lake.remove(each.asset, each.partition)


def _models_in_use(connection: psycopg.Connection) -> set[str]:
    """The champion, and the model that a rollback brings back."""
    current = champion(connection)
    earlier = [model for model in list_models(connection) if model.status == RETIRED and not is_held_back(model)]
    newest = sorted(earlier, key=lambda model: (model.promoted_at, model.model_version))[-1:]
    return {model.model_version for model in (current, *newest) if model is not None}


def _kept_weeks(settings: Settings, week: date, lake: Lake, models: set[str]) -> list[date]:
    """The newest weeks, and those of the models in use; all weeks when none are to go."""
    if settings.keep_weeks is None:
        first = min((date.fromisoformat(key) for key in lake.partitions("engagement_history")), default=week)
        return weeks_ending_with(week, (week - first).days // 7 + 1) if first <= week else [week]
    kept = set(weeks_ending_with(week, settings.keep_weeks))
    return sorted(kept | {week_of(date.fromisoformat(version[:10])) for version in models})


def _older(lake: Lake, assets: Sequence[str], first_day: date, *, keep: Collection[str] = ()) -> list[Expired]:
    return _listed(lake, assets, lambda key: key < first_day.isoformat() and key not in keep)


def _listed(lake: Lake, assets: Sequence[str], is_expired: Callable[[str], bool]) -> list[Expired]:
    found = []
    for asset in assets:
        keys = [key for key in lake.partitions(asset) if is_expired(key)]
        for key, manifest in zip(keys, lake.manifests(asset, keys), strict=True):
            n_bytes = sum(entry.n_bytes for entry in manifest.entries.values()) if manifest is not None else 0
            found.append(Expired(asset, key, n_bytes))
    return found
