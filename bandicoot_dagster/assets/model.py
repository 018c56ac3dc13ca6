"""The model group: from passive counts to clusters, transition models, Whittle indices and the model version."""

import dagster as dg

from bandicoot_core.contracts import (
    CLUSTER_ASSIGNMENTS,
    CLUSTERS,
    TRANSITION_MODELS,
    WHITTLE_INDICES,
)
from bandicoot_core.evaluation.charts import (
    caregivers_of_clusters,
    chances_by_cluster,
    clusters_plane,
    indices_by_cluster,
)
from bandicoot_core.pipeline.promotion import PROMOTION_CHECKS, decide_model_version
from bandicoot_core.pipeline.training import (
    caregivers_by_cluster,
    materialize_cluster_assignments,
    materialize_clusters,
    materialize_features_only_mapper,
    materialize_transition_models,
    materialize_whittle_indices,
)
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.assets.engagement import engagement_history, passive_counts
from bandicoot_dagster.assets.source import caregivers
from bandicoot_dagster.checks import check_specs
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.config import Training
from bandicoot_dagster.describe import described
from bandicoot_dagster.freshness import MODEL_BY_SUNDAY_AT_SIX
from bandicoot_dagster.metadata import check_results, glance, outcomes_table, partition_metadata, picture, preview
from bandicoot_dagster.partitions import training_window, weekly
from bandicoot_dagster.runtime import day_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version

_registry = dg.AssetDep(caregivers, partition_mapping=training_window(1))


@dg.asset(
    **described(
        CLUSTERS,
        group="model",
        kinds=("scikitlearn", "parquet"),
        description=(
            "Groups of caregivers who behave alike when nobody calls them: how likely each group is to open an SMS "
            "next week, from either state, and how many caregivers it has."
        ),
    ),
    partitions_def=weekly,
    deps=[passive_counts],
    pool=pools.TRAINING,
)
@written_alone()
def clusters(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Clusters of passive behaviour."""
    manifest = materialize_clusters(stores, day_of_run(context), training.options())
    table = stores.lake.read(CLUSTERS, manifest.asset, manifest.partition)
    return dg.MaterializeResult(
        metadata={
            **partition_metadata(manifest),
            "clusters_plane": picture(clusters_plane(table), "Clusters in the plane of their passive probabilities"),
            "clusters": preview(table, n_rows=table.num_rows),
        },
        data_version=data_version(manifest),
    )


@dg.asset(
    **described(
        None,
        group="model",
        kinds=("scikitlearn",),
        description=(
            "Guesses the cluster of a caregiver without history from her registry features, with the accuracy and log "
            "loss it reached on caregivers it had not seen, against always guessing the largest cluster."
        ),
    ),
    partitions_def=weekly,
    deps=[_registry, engagement_history, clusters],
    pool=pools.TRAINING,
)
@written_alone()
def features_only_mapper(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Registry features to cluster."""
    manifest = materialize_features_only_mapper(stores, day_of_run(context), training.options())
    return dg.MaterializeResult(metadata=partition_metadata(manifest), data_version=data_version(manifest))


@dg.asset(
    **described(
        CLUSTER_ASSIGNMENTS,
        group="model",
        kinds=("duckdb", "parquet"),
        description="The cluster of every caregiver, and whether it comes from her history or from her features.",
    ),
    partitions_def=weekly,
    deps=[_registry, engagement_history, clusters, features_only_mapper],
    pool=pools.TRAINING,
)
@written_alone()
def cluster_assignments(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Caregiver to cluster."""
    manifest = materialize_cluster_assignments(stores, day_of_run(context), training.options())
    sizes = caregivers_of_clusters(caregivers_by_cluster(stores, manifest))
    return dg.MaterializeResult(
        metadata={
            **partition_metadata(manifest),
            "caregivers_of_clusters": picture(sizes, "Caregivers per cluster, by how they were assigned"),
            **glance(stores.lake, CLUSTER_ASSIGNMENTS, manifest),
        },
        data_version=data_version(manifest),
    )


@dg.asset(
    **described(
        TRANSITION_MODELS,
        group="model",
        kinds=("scipy", "parquet"),
        description=(
            "Per cluster, state and action: how likely a caregiver is to be responsive next week with and without a "
            "call, the number of weeks behind the estimate, and its interval."
        ),
    ),
    partitions_def=weekly,
    deps=[engagement_history, clusters, cluster_assignments],
    pool=pools.TRAINING,
)
@written_alone()
def transition_models(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """P(next = R | state, action) per cluster."""
    manifest = materialize_transition_models(stores, day_of_run(context), training.options())
    table = stores.lake.read(TRANSITION_MODELS, manifest.asset, manifest.partition)
    return dg.MaterializeResult(
        metadata={
            **partition_metadata(manifest),
            "chances": picture(chances_by_cluster(table), "Chance of a responsive next week, with and without a call"),
            "transition_models": preview(table, n_rows=table.num_rows),
        },
        data_version=data_version(manifest),
    )


@dg.asset(
    **described(
        WHITTLE_INDICES,
        group="model",
        kinds=("numpy", "parquet"),
        description=(
            "What a call is worth for each cluster and state, in responsive weeks, with its interval. The caregivers "
            "with the highest index are called first."
        ),
    ),
    partitions_def=weekly,
    deps=[transition_models, cluster_assignments],
    pool=pools.TRAINING,
)
@written_alone()
def whittle_indices(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """Whittle index per cluster and state."""
    manifest = materialize_whittle_indices(stores, day_of_run(context), training.options())
    table = stores.lake.read(WHITTLE_INDICES, manifest.asset, manifest.partition)
    return dg.MaterializeResult(
        metadata={
            **partition_metadata(manifest),
            "indices": picture(indices_by_cluster(table), "Whittle index per cluster and state with intervals"),
            "whittle_indices": preview(table, n_rows=table.num_rows),
        },
        data_version=data_version(manifest),
    )


@dg.asset(
    **described(
        None,
        group="model",
        kinds=("postgres", "parquet"),
        description=(
            "The model of the week as one versioned bundle, its checks against the champion, and the decision: "
            "promoted to champion, or rejected and why. A rejected model never reaches a list; the champion stays."
        ),
    ),
    partitions_def=weekly,
    deps=[clusters, cluster_assignments, transition_models, whittle_indices, features_only_mapper],
    check_specs=check_specs("model_version", PROMOTION_CHECKS),
    freshness_policy=MODEL_BY_SUNDAY_AT_SIX,
    pool=pools.TRAINING,
)
@written_alone()
def model_version(
    context: dg.AssetExecutionContext,
    stores: dg.ResourceParam[Installation],
    clock: dg.ResourceParam[Clock],
    training: Training,
) -> dg.MaterializeResult:
    """Promote the week's candidate, or say why not."""
    decision = decide_model_version(
        stores, day_of_run(context), training.options(), run_id=context.run.run_id, decided_at=clock()
    )
    indices = stores.lake.read(WHITTLE_INDICES, decision.manifest.asset, decision.manifest.partition, "indices")
    return dg.MaterializeResult(
        metadata={
            "model_version": decision.version,
            "decision": decision.summary,
            "champion": decision.champion_version or "none",
            **partition_metadata(decision.manifest, table="indices"),
            "indices": picture(indices_by_cluster(indices), "Whittle index per cluster and state with intervals"),
            "whittle_indices": preview(indices, n_rows=indices.num_rows),
            "what_its_checks_found": outcomes_table(decision.outcomes),
        },
        check_results=check_results(decision.outcomes, "model_version"),
        data_version=data_version(decision.manifest),
    )
