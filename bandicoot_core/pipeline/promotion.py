"""The model version of a week: one bundle from the week's partitions, checked, kept, and promoted or rejected.

The bundle is stored under its version and never changes, so that a list can be made again from its version alone.
"""

from dataclasses import dataclass
from datetime import date, datetime

from bandicoot_core.calendar import last_day_of_week
from bandicoot_core.checks import CheckOutcome, blocking_failures
from bandicoot_core.contracts import (
    BEHAVIOURAL_TYPES,
    CLUSTER_ASSIGNMENTS,
    CLUSTER_TYPES,
    CLUSTERS,
    TRANSITION_MODELS,
    TUPLE_CLUSTERS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
)
from bandicoot_core.errors import InvalidInputError, OutdatedPartitionError
from bandicoot_core.model.versions import CANDIDATE_CHECKS, ModelBundle, bundle_digest, candidate_checks, model_version
from bandicoot_core.pipeline.bundles import BUNDLE_FORMAT, BUNDLES, load_bundle
from bandicoot_core.pipeline.guarding import GUARDED, guard_outcomes
from bandicoot_core.pipeline.training import MAPPER_FILE, MIXES, TYPES
from bandicoot_core.settings import ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.published.models import ModelRecord, champion, is_held_back, promote, register_model, reject

PROMOTION_CHECKS = {
    **CANDIDATE_CHECKS,
    **GUARDED,
    "not_older_than_champion": "The candidate's last training week is not before the champion's",
}
"""Names of the checks between a candidate and its promotion, and what each demands."""

_PARTS = ("clusters", "cluster_assignments", "transition_models", "whittle_indices", "features_only_mapper")


@dataclass(frozen=True)
class Decision:
    """What became of a candidate."""

    version: str
    is_promoted: bool
    champion_version: str | None
    """The champion after the decision."""
    outcomes: tuple[CheckOutcome, ...]
    summary: str
    manifest: Manifest


def decide_model_version(
    stores: Installation, week: date, options: ModelOptions, *, run_id: str, decided_at: datetime
) -> Decision:
    """Bundle the model of a week, check it against the champion, and promote or reject it.

    The bundle is in the lake and the candidate in bandicoot.model_versions before anything is decided (unless its
    tables break the contracts there, which rejects it); promotion is one transaction. A version that is the champion
    already stays so, and one that was rolled back is left to a person. MissingPartitionError names the asset to
    materialize when the week's model is incomplete.
    """
    key = week.isoformat()
    with stores.published() as connection:
        current = champion(connection)
        bundle = _bundle(stores, week, options)
        version = model_version(week, bundle_digest(bundle))
        outcomes = _outcomes(stores, week, bundle, current, options)
        manifest = _keep(stores, week, version, bundle, outcomes)
        checks = {
            outcome.name: {
                "is_passed": bool(outcome.is_passed),
                "is_blocking": outcome.is_blocking,
                "found": outcome.description,
            }
            for outcome in outcomes
        }
        registered = current
        is_champion_already = current is not None and current.model_version == version
        failures = blocking_failures(outcomes)
        if not is_champion_already:
            try:
                registered = register_model(
                    connection,
                    version,
                    training_week=week,
                    checks=checks,
                    recipe=dict(bundle.recipe),
                    clusters=bundle.clusters,
                    indices=bundle.indices,
                    run_id=run_id,
                    created_at=decided_at,
                )
            except InvalidInputError:
                # A candidate too broken for the registry's contracts is rejected all the same: its bundle and the
                # verdict are in the lake. Of a candidate that passed its checks this must not happen.
                if not failures:
                    raise
                registered = None
        if failures:
            why = "; ".join(f"{failure.name}: {failure.description}" for failure in failures)
            summary = f"rejected: {why}"
            if registered is not None and not is_champion_already:
                reject(connection, version, note=why)
        elif is_champion_already:
            summary = "unchanged: this content is the champion already"
        elif registered is not None and is_held_back(registered):
            summary = (
                f"not promoted: this content was champion and was taken back ({registered.note}); "
                f"`bandicoot model promote {version}` brings it back"
            )
        else:
            promote(connection, version, promoted_at=decided_at, run_id=run_id)
            summary = f"promoted in place of {current.model_version}" if current else "promoted as the first champion"
        after = champion(connection)
    stores.lake.write(
        "model_version",
        key,
        {},
        inputs={part: stores.lake.digest(part, [key]) for part in _PARTS},
        recipe={
            **options.model_dump(include={"max_index_shift", "min_log_completeness", "max_loss_increase"}),
            "bundle_format": BUNDLE_FORMAT,
        },
        facts={"model_version": version, "decision": summary, "checks": checks},
    )
    return Decision(
        version=version,
        is_promoted=after is not None and after.model_version == version,
        champion_version=after.model_version if after else None,
        outcomes=outcomes,
        summary=summary,
        manifest=manifest,
    )


def _bundle(stores: Installation, week: date, options: ModelOptions) -> ModelBundle:
    lake, key = stores.lake, week.isoformat()
    history = lake.require("engagement_history", key)
    # Assignments, mapper and behavioural types are part of the model: another content of theirs is another version.
    parts = {
        part: lake.digest(part, [key]) for part in ("cluster_assignments", "features_only_mapper", "transition_models")
    }
    return ModelBundle(
        clusters=lake.read(CLUSTERS, "clusters", key),
        tuple_clusters=lake.read(TUPLE_CLUSTERS, "clusters", key, "tuple_clusters"),
        transitions=lake.read(TRANSITION_MODELS, "transition_models", key),
        indices=lake.read(WHITTLE_INDICES, "whittle_indices", key),
        tuple_indices=lake.read(TUPLE_INDICES, "whittle_indices", key, "tuple_indices"),
        recipe={**options.model_dump(), **parts},
        first_week=date.fromisoformat(history.facts["first_week_date"]),
        last_week=week,
    )


def _outcomes(
    stores: Installation, week: date, bundle: ModelBundle, current: ModelRecord | None, options: ModelOptions
) -> tuple[CheckOutcome, ...]:
    lake, key = stores.lake, week.isoformat()
    last_week = lake.require("engagement_history", key).facts["weekly_shares"][-1]
    is_itself = current is not None and current.model_version == model_version(week, bundle_digest(bundle))
    # The champion made again is compared with itself: its stored bundle may be what has to be repaired.
    champion_bundle = bundle if is_itself else _comparable(stores, current)
    return (
        *candidate_checks(
            bundle,
            champion_bundle,
            engagement_share=last_week["n_responsive"] / max(last_week["n_observed"], 1),
            n_caregivers=lake.require("caregivers", last_day_of_week(week).isoformat()).n_rows(),
            n_assigned=lake.require("cluster_assignments", key).n_rows(),
            max_index_shift=options.max_index_shift,
        ),
        *guard_outcomes(stores, week, options, candidate=bundle, champion=champion_bundle),
        _not_older_than(current, week),
    )


def _comparable(stores: Installation, current: ModelRecord | None) -> ModelBundle | None:
    """The champion's bundle; None without a champion, or when the software kept other tables when it was made."""
    try:
        return load_bundle(stores, current.model_version) if current else None
    except OutdatedPartitionError:
        return None


def _not_older_than(current: ModelRecord | None, week: date) -> CheckOutcome:
    is_passed = current is None or current.training_week <= week
    found = "there is no champion yet" if current is None else f"the champion's last week is {current.training_week}"
    remedy = "" if is_passed else f"; the candidate of {week} is kept but not promoted"
    return CheckOutcome("not_older_than_champion", is_passed, True, found + remedy)


def _keep(
    stores: Installation, week: date, version: str, bundle: ModelBundle, outcomes: tuple[CheckOutcome, ...]
) -> Manifest:
    """Store the bundle under its version; the same version has the same content, so a second time changes nothing."""
    lake, key = stores.lake, week.isoformat()
    with stores.engine() as engine, lake.reader(engine) as reader:
        assignments = reader.scan(CLUSTER_ASSIGNMENTS, "cluster_assignments", [key])
        return lake.write(
            BUNDLES,
            version,
            {
                "clusters": (CLUSTERS, bundle.clusters),
                "tuple_clusters": (TUPLE_CLUSTERS, bundle.tuple_clusters),
                "transitions": (TRANSITION_MODELS, bundle.transitions),
                "indices": (WHITTLE_INDICES, bundle.indices),
                "tuple_indices": (TUPLE_INDICES, bundle.tuple_indices),
                TYPES: (BEHAVIOURAL_TYPES, lake.read(BEHAVIOURAL_TYPES, "transition_models", key, TYPES)),
                MIXES: (CLUSTER_TYPES, lake.read(CLUSTER_TYPES, "transition_models", key, MIXES)),
                "assignments": (CLUSTER_ASSIGNMENTS, assignments),
            },
            engine=engine,
            files={MAPPER_FILE: lake.read_bytes("features_only_mapper", key, MAPPER_FILE)},
            facts={
                "recipe": dict(bundle.recipe),
                "first_week": bundle.first_week.isoformat(),
                "last_week": bundle.last_week.isoformat(),
                "n_checks_failed": len(blocking_failures(outcomes)),
            },
        )
