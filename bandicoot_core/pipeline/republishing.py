"""The published tables again, from what the lake keeps: models with their tables, lists, and everybody's current state.

What the lake does not keep is not made up: keys, draws, outcomes, who was forgotten, and the keys of the service exist
in PostgreSQL alone and come from its backup (KEPT_NOWHERE_ELSE). What the database still has stays as it is.

Moments and run ids of what was lost are lost as well: rows that are made again carry those of the rebuilding. Who the
champion was follows from the lake: the model promoted last, unless the lists made since were ranked by another, which
somebody then had promoted or brought back by hand.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import psycopg

from bandicoot_core.contracts import CLUSTERS, WHITTLE_INDICES
from bandicoot_core.errors import InvalidInputError, OutdatedPartitionError
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.call_list import materialize_published_call_list
from bandicoot_core.pipeline.rereading import days_with_other_calls
from bandicoot_core.pipeline.unknown_keys import find_unknown_keys
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.published.call_lists import count_published_rows, last_publication
from bandicoot_core.stores.published.keys import highest_key
from bandicoot_core.stores.published.models import champion, list_models, promote, register_model, reject
from bandicoot_core.stores.published.recorded_calls import has_calls
from bandicoot_core.stores.published.tables import CANDIDATE, PUBLISHED_TABLES, REJECTED

REBUILT = ("call_list", "list_publications", "caregiver_states", "model_versions", "clusters", "whittle_indices")
"""Tables of schema `bandicoot` that the lake can bring back."""

KEPT_NOWHERE_ELSE = tuple(name for name in PUBLISHED_TABLES if name not in REBUILT)
"""Tables that only a backup can bring back."""

RUN_ID = "rebuilt from the lake"
"""What stands as run of what was made again here."""

_LISTS = "call_list"
_DECISIONS = "model_version"
_REFUSED = "rejected"
"""How the decision about a week's model begins when its checks refused it."""


@dataclass(frozen=True)
class _Model:
    """A model the lake has: its bundle, and what was decided about it; nothing was when another took its week."""

    version: str
    training_week: date
    recipe: Mapping[str, Any]
    decision: str | None
    checks: Mapping[str, Any]

    @property
    def is_refused(self) -> bool:
        return self.decision is not None and self.decision.startswith(_REFUSED)

    @property
    def is_promoted(self) -> bool:
        return self.decision is not None and not self.is_refused


@dataclass(frozen=True)
class Rebuilding:
    """What has to be brought back, or was."""

    models: tuple[str, ...]
    """Versions to register, the oldest week first."""
    champion: str | None
    """The version to promote; None when the database's own champion stays."""
    lists: tuple[date, ...]
    """Days to publish, the newest first."""
    other_calls: tuple[date, ...]
    """Days whose recorded calls are not those the lake has: the next night makes the lake follow the table."""


def plan_rebuilding(stores: Installation) -> Rebuilding:
    """What the published tables lack of what the lake has; nothing is written.

    InvalidInputError when the tables that come from a backup alone are not there yet: keys the lake knows, or every
    outcome although the lake has calls.
    """
    lake = stores.lake
    with stores.published() as connection:
        _require_what_only_a_backup_has(connection, lake)
        known = {model.model_version for model in list_models(connection)}
        models = _models(lake)
        lists = _published_lists(lake)
        missing = [day for day in lists if not _is_whole(connection, day)]
        # The newest one brings everybody's current state as well, which may be lost where its rows are not.
        newest = [max(lists)] if lists else []
        others = days_with_other_calls(connection, lake, before=max(lists)) if lists else []
        return Rebuilding(
            models=tuple(model.version for model in models if model.version not in known),
            champion=_champion_to_promote(connection, models, lists, known),
            lists=tuple(sorted({*missing, *newest}, reverse=True)),
            other_calls=tuple(others),
        )


def rebuild_published(stores: Installation, *, rebuilt_at: datetime) -> Rebuilding:
    """Bring back what plan_rebuilding finds, and return it; calling it again finishes what was interrupted.

    Each model and each list is a transaction of its own. Errors are those of plan_rebuilding, and for a list those of
    its publication: InvalidInputError when the database does not know one of its caregivers.
    """
    plan = plan_rebuilding(stores)
    with stores.published() as connection:
        models = {model.version: model for model in _models(stores.lake)}
        for place, version in enumerate(plan.models):
            # Registered in their order, so that the newest model is listed first.
            earlier = timedelta(microseconds=len(plan.models) - place)
            _register(connection, stores.lake, models[version], registered_at=rebuilt_at - earlier)
        _promote(connection, models, plan, promoted_at=rebuilt_at)
    # The newest first: it brings the states, and the older ones leave them as they are then.
    for day in plan.lists:
        with stores.sole_writer("published_call_list", [day.isoformat()], holder=RUN_ID):
            materialize_published_call_list(
                stores, day, run_id=RUN_ID, published_at=rebuilt_at, has_states=_has_states(stores.lake, day)
            )
    return plan


def _require_what_only_a_backup_has(connection: psycopg.Connection, lake: Lake) -> None:
    if lake.partitions("caregivers") and not highest_key(connection):
        raise InvalidInputError(
            "bandicoot.caregiver_keys is empty, so that nobody in the lake can be recognized; restore what only a "
            "backup has first (docs/recovery.md), or begin with an empty lake"
        )
    unknown = find_unknown_keys(connection, lake)
    if unknown:
        raise InvalidInputError(
            f"{len(unknown)} partitions of the lake have keys that this database has never given (first: "
            f"{unknown[0].asset}/{unknown[0].partition}); run `bandicoot lake reconcile`, then this again"
        )
    n_calls = sum(manifest.n_rows() for manifest in lake.require_all("calls", lake.partitions("calls")))
    if n_calls and not has_calls(connection):
        raise InvalidInputError(
            f"bandicoot.call_outcomes is empty, and the lake has {n_calls:,} calls, which the next night would take "
            "out of it to follow the table; restore what only a backup has first (docs/recovery.md)"
        )


def _models(lake: Lake) -> list[_Model]:
    """Every model that has a bundle, by week and version; the one that was decided about last in its week."""
    decided = {
        str(manifest.facts["model_version"]): manifest
        for manifest in lake.require_all(_DECISIONS, lake.partitions(_DECISIONS))
    }
    bundles = lake.require_all(BUNDLES, lake.partitions(BUNDLES))
    found = [_model(bundle, decided.get(bundle.partition)) for bundle in bundles]
    return sorted(found, key=lambda model: (model.training_week, model.decision is not None, model.version))


def _model(bundle: Manifest, decision: Manifest | None) -> _Model:
    return _Model(
        version=bundle.partition,
        training_week=date.fromisoformat(bundle.facts["last_week"]),
        recipe=bundle.facts["recipe"],
        decision=str(decision.facts["decision"]) if decision else None,
        checks=decision.facts["checks"] if decision else {},
    )


def _register(connection: psycopg.Connection, lake: Lake, model: _Model, *, registered_at: datetime) -> None:
    """Register a model with its tables; one whose tables this release cannot keep is passed over if it was refused."""
    try:
        register_model(
            connection,
            model.version,
            training_week=model.training_week,
            checks=model.checks,
            recipe=model.recipe,
            clusters=lake.read(CLUSTERS, BUNDLES, model.version, "clusters"),
            indices=lake.read(WHITTLE_INDICES, BUNDLES, model.version, "indices"),
            run_id=RUN_ID,
            created_at=registered_at,
            status=REJECTED if model.is_refused else CANDIDATE,
            note=model.decision.removeprefix(f"{_REFUSED}: ") if model.decision and model.is_refused else None,
        )
    except (InvalidInputError, OutdatedPartitionError):
        if not model.is_refused:
            raise


def _published_lists(lake: Lake) -> dict[date, str]:
    """The days whose list passed its checks, and the model of each."""
    manifests = lake.require_all(_LISTS, lake.partitions(_LISTS))
    return {
        date.fromisoformat(manifest.partition): str(manifest.facts["model_version"])
        for manifest in manifests
        if not manifest.facts["refusals"]
    }


def _has_states(lake: Lake, day: date) -> bool:
    """Whether the lake still has what everybody's state at a list's making follows from; if not, a run makes it."""
    made = lake.require(_LISTS, day.isoformat())
    states = lake.manifest("caregiver_states", str(made.recipe["as_of_date"]))
    return states is not None and lake.manifest(BUNDLES, str(made.facts["model_version"])) is not None


def _is_whole(connection: psycopg.Connection, day: date) -> bool:
    """Whether a list is published with as many rows as its publication says."""
    publication = last_publication(connection, day)
    return publication is not None and count_published_rows(connection, day) == publication.n_rows


def _champion_to_promote(
    connection: psycopg.Connection, models: Sequence[_Model], lists: Mapping[date, str], known: Collection[str]
) -> str | None:
    """The lake's champion when the database has lost it, or has none."""
    by_version = {model.version: model for model in models}
    promoted = [model for model in models if model.is_promoted]
    newest = promoted[-1] if promoted else None
    if lists:
        last_day = max(lists)
        ranked_by = by_version.get(lists[last_day])
        # The training of a week ends on the Sunday after it, at the earliest in time for that day's list.
        if ranked_by is not None and (newest is None or newest.training_week + timedelta(days=7) < last_day):
            newest = ranked_by
    if newest is None:
        return None
    # What the database knows of a model, a person may have decided: only one that it has lost is promoted here.
    is_lost = newest.version not in known
    return newest.version if is_lost or champion(connection) is None else None


def _promote(
    connection: psycopg.Connection, models: Mapping[str, _Model], plan: Rebuilding, *, promoted_at: datetime
) -> None:
    """Make the lost models champion one after the other, so that those before the last can be brought back.

    One of a later week than the champion's was taken back by hand; it is held back again.
    """
    if plan.champion is None:
        return
    lost = [model for version, model in models.items() if version in plan.models and model.is_promoted]
    for place, model in enumerate([*(m for m in lost if m.version != plan.champion), models[plan.champion]]):
        moment = promoted_at + timedelta(microseconds=place)
        promote(connection, model.version, promoted_at=moment, run_id=RUN_ID)
    for model in lost:
        if model.training_week > models[plan.champion].training_week:
            reject(connection, model.version, note=f"{RUN_ID}: the lists made last were ranked by {plan.champion}")
