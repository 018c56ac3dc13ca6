"""Materializing a model of one week: clusters, mapper, assignments, transitions and indices, from its history."""

from datetime import date

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import last_day_of_week
from bandicoot_core.contracts import (
    ACTIVE_TUPLE,
    BEHAVIOURAL_TYPES,
    CAREGIVERS,
    CLUSTER_ASSIGNMENTS,
    CLUSTER_TYPES,
    CLUSTERS,
    ENGAGEMENT_HISTORY,
    PASSIVE_COUNTS,
    PASSIVE_TUPLE,
    TRANSITION_MODELS,
    TUPLE_CLUSTERS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
)
from bandicoot_core.engagement.counts import transition_counts
from bandicoot_core.errors import InvalidSettingError
from bandicoot_core.model.assignment import (
    assigned_by_history,
    cluster_assignments,
    features_without_history,
)
from bandicoot_core.model.behavioural_types import BehaviouralTypes, own_index_table
from bandicoot_core.model.indices import index_table
from bandicoot_core.model.mapper import dump_mapper, fit_mapper, load_mapper, mapper_training, predict_clusters
from bandicoot_core.model.recipe import chances_of_members, clusters_of, weighted_counts
from bandicoot_core.settings import ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.lake.reader import LakeReader

MAPPER_FILE = "mapper.skops"
TYPES, MIXES = "behavioural_types", "cluster_types"
"""Tables of a partition of transition_models, beside the chances of clusters."""

_BEFORE_THE_CHANCES = ("engagement_history", "clusters", "features_only_mapper", "cluster_assignments")
"""Parts of a model that its chances are made from."""


def materialize_clusters(stores: Installation, week: date, options: ModelOptions) -> Manifest:
    """Write the `clusters` partition: clusters, and which cluster each distinct tuple belongs to."""
    key = week.isoformat()
    counts = stores.lake.read(PASSIVE_COUNTS, "passive_counts", key)
    fit = clusters_of(counts, options)
    return stores.lake.write(
        "clusters",
        key,
        {"data": (CLUSTERS, fit.clusters), "tuple_clusters": (TUPLE_CLUSTERS, fit.tuple_clusters)},
        inputs={"passive_counts": stores.lake.digest("passive_counts", [key])},
        recipe=options.model_dump(include={"n_clusters", "min_cluster_share", "model_seed"}),
        facts={"n_clusters": fit.clusters.num_rows, "notes": list(fit.notes)},
    )


def materialize_features_only_mapper(stores: Installation, week: date, options: ModelOptions) -> Manifest:
    """Write the `features_only_mapper` partition: the fitted mapper and its held-out report."""
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        caregivers = _registry(reader, week)
        by_history = _assigned_by_history(reader, engine, week, options)
        training = mapper_training(caregivers, by_history).to_pyarrow()
        fit = fit_mapper(training, seed=options.model_seed)
        return stores.lake.write(
            "features_only_mapper",
            week.isoformat(),
            {},
            files={MAPPER_FILE: dump_mapper(fit)},
            inputs=reader.inputs,
            recipe=options.model_dump(include={"min_passive_weeks", "model_seed"}),
            facts=dict(fit.report),
        )


def materialize_cluster_assignments(stores: Installation, week: date, options: ModelOptions) -> Manifest:
    """Write the `cluster_assignments` partition: every caregiver of the week's registry, by history or features."""
    key = week.isoformat()
    mapper = load_mapper(stores.lake.read_bytes("features_only_mapper", key, MAPPER_FILE))
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        caregivers = _registry(reader, week)
        by_history = _assigned_by_history(reader, engine, week, options)
        features = features_without_history(caregivers, by_history).to_pyarrow()
        predictions = ibis.memtable(predict_clusters(mapper, features))
        assignments = cluster_assignments(_counts(reader, engine, week), caregivers, by_history, predictions)
        table = engine.create_table("assignments", assignments, temp=True)
        methods = table.group_by("assigned_by").agg(n=table.count()).to_pyarrow().to_pylist()
        n_by_method = {row["assigned_by"]: row["n"] for row in methods}
        return stores.lake.write(
            "cluster_assignments",
            key,
            {"data": (CLUSTER_ASSIGNMENTS, table)},
            engine=engine,
            inputs={**reader.inputs, "features_only_mapper": stores.lake.digest("features_only_mapper", [key])},
            recipe=options.model_dump(include={"min_passive_weeks"}),
            facts={
                "n_assigned_by_history": n_by_method.get("history", 0),
                "n_assigned_by_features": n_by_method.get("features", 0),
            },
        )


def caregivers_by_cluster(stores: Installation, manifest: Manifest) -> pa.Table:
    """Caregivers of a `cluster_assignments` partition by cluster: cluster_id, assigned_by and n_caregivers."""
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        rows = reader.scan(CLUSTER_ASSIGNMENTS, manifest.asset, [manifest.partition])
        counted = rows.group_by("cluster_id", "assigned_by").agg(n_caregivers=rows.count())
        return counted.order_by("cluster_id", "assigned_by").to_pyarrow()


def materialize_transition_models(stores: Installation, week: date, options: ModelOptions) -> Manifest:
    """Write the `transition_models` partition: per cluster, state and action, with counts and intervals.

    InvalidSettingError when the week's history, clusters or assignments were made with other options: the model's
    recipe would tell of clusters that it does not have.
    """
    lake, key = stores.lake, week.isoformat()
    _require_same_options(stores, key, options)
    clusters = lake.read(CLUSTERS, "clusters", key)
    with stores.engine() as engine, lake.reader(engine) as reader:
        assignments = reader.scan(CLUSTER_ASSIGNMENTS, "cluster_assignments", [key])
        history = reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [key])
        n_weeks = int(lake.require("engagement_history", key).facts["n_weeks"])
        fitted = chances_of_members(weighted_counts(history, options, n_weeks=n_weeks), assignments, clusters, options)
        inputs = {**reader.inputs, "clusters": lake.digest("clusters", [key])}
    types, cluster_types = fitted.types.tables()
    return lake.write(
        "transition_models",
        key,
        {
            "data": (TRANSITION_MODELS, fitted.transitions),
            TYPES: (BEHAVIOURAL_TYPES, types),
            MIXES: (CLUSTER_TYPES, cluster_types),
        },
        inputs=inputs,
        recipe=options.model_dump(include={"interval", "estimator", "half_life_weeks"}),
        facts=_transition_facts(fitted.transitions),
    )


def materialize_whittle_indices(stores: Installation, week: date, options: ModelOptions) -> Manifest:
    """Write the `whittle_indices` partition: the index per cluster and state, and per distinct tuple for ties."""
    key = week.isoformat()
    transitions = stores.lake.read(TRANSITION_MODELS, "transition_models", key)
    types = BehaviouralTypes.from_tables(
        stores.lake.read(BEHAVIOURAL_TYPES, "transition_models", key, TYPES),
        stores.lake.read(CLUSTER_TYPES, "transition_models", key, MIXES),
    )
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        assignments = reader.scan(CLUSTER_ASSIGNMENTS, "cluster_assignments", [key])
        names = (*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id", "assigned_by")
        combos = assignments.select(*names).distinct().to_pyarrow().sort_by([(name, "ascending") for name in names])
        inputs = {**reader.inputs, "transition_models": stores.lake.digest("transition_models", [key])}
    indices = index_table(
        transitions,
        discount=options.discount,
        interval=options.interval,
        n_draws=options.n_draws,
        seed=options.model_seed,
    )
    own = own_index_table(combos, types, discount=options.discount)
    return stores.lake.write(
        "whittle_indices",
        key,
        {"data": (WHITTLE_INDICES, indices), "tuple_indices": (TUPLE_INDICES, own)},
        inputs=inputs,
        recipe=options.model_dump(include={"discount", "interval", "n_draws", "model_seed"}),
        facts={"n_tuple_indices": own.num_rows},
    )


def _require_same_options(stores: Installation, key: str, options: ModelOptions) -> None:
    chosen = options.model_dump()
    for asset in _BEFORE_THE_CHANCES:
        manifest = stores.lake.require(asset, key)
        for name, value in manifest.recipe.items():
            if name in chosen and chosen[name] != value:
                raise InvalidSettingError(
                    f"{asset}/{key} was made with {name} {value}, but this run has {chosen[name]}; give the run "
                    f"{value}, or make all of the week's model with one choice (job weekly_training)"
                )


def _registry(reader: LakeReader, week: date) -> ibis.Table:
    return reader.scan(CAREGIVERS, "caregivers", [last_day_of_week(week).isoformat()])


def _counts(reader: LakeReader, engine: Backend, week: date) -> ibis.Table:
    """Each caregiver's transition counts, computed once per engine."""
    if "transition_counts" not in engine.list_tables():
        history = reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [week.isoformat()])
        engine.create_table("transition_counts", transition_counts(history), temp=True)
    return engine.table("transition_counts")


def _assigned_by_history(reader: LakeReader, engine: Backend, week: date, options: ModelOptions) -> ibis.Table:
    tuples = reader.scan(TUPLE_CLUSTERS, "clusters", [week.isoformat()], table="tuple_clusters")
    counts = _counts(reader, engine, week)
    return assigned_by_history(counts, tuples, min_passive_weeks=options.min_passive_weeks)


def _transition_facts(transitions: pa.Table) -> dict[str, int]:
    n_by_action = transitions.group_by("action").aggregate([("n_to_r", "sum"), ("n_to_u", "sum")]).to_pylist()
    return {f"n_{row['action']}_transitions": int(row["n_to_r_sum"] + row["n_to_u_sum"]) for row in n_by_action}
