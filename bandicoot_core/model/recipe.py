"""The training recipe in one piece: from the history of a window to clusters, assignments and transition models.

Here: the steps of a training run in their order, as functions of a history and the options, so that the model of a
week, an earlier origin of a backtest and another recipe are all trained by the same code. Not here: the steps
themselves (`clusters`, `assignment`, `mapper`, `transitions`), indices, and where a run's tables are kept.
"""

from dataclasses import dataclass
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
from ibis.expr.types import Table

from bandicoot_core.contracts import PASSIVE_COUNTS, PASSIVE_TUPLE, conform
from bandicoot_core.engagement.counts import passive_counts, transition_counts
from bandicoot_core.model.assignment import assigned_by_history, cluster_assignments, features_without_history
from bandicoot_core.model.clusters import ClusterFit, fit_clusters
from bandicoot_core.model.empirical_bayes import cluster_passive_means, joint_passive_means
from bandicoot_core.model.mapper import fit_mapper, mapper_training, predict_clusters
from bandicoot_core.model.posterior import FloatArray
from bandicoot_core.model.transitions import counts_by_cluster, estimate_transitions
from bandicoot_core.settings import ModelOptions

_AFTER_THE_CHANCES = frozenset(
    {
        "prior_weight",
        "discount",
        "interval",
        "n_draws",
        "max_index_shift",
        "min_log_completeness",
        "max_loss_increase",
    }
)
"""Options that act on finished transition models or on their promotion: the chances do not depend on them."""


@dataclass(frozen=True)
class TrainedRecipe:
    """What a training run leaves behind for predicting.

    `assignments` is a table expression over the history that was trained on: caregiver_key, cluster_id, assigned_by;
    caregivers without a cluster are not in it.
    """

    fit: ClusterFit
    transitions: pa.Table
    assignments: Table


def options_behind_chances(options: ModelOptions) -> dict[str, Any]:
    """The options that shape clusters and chances, by name: two runs that agree in them are the same recipe."""
    return options.model_dump(exclude=set(_AFTER_THE_CHANCES))


def train_recipe(history: Table, options: ModelOptions, *, caregivers: Table | None = None) -> TrainedRecipe:
    """Clusters, assignments and transition models from one history.

    Parameters
    ----------
    history : ENGAGEMENT_HISTORY
        An expression bound to an engine, masked to the weeks that may be known (`engagement.history.history_until`).
    options : ModelOptions
        `training_weeks` is not looked at: the weeks are those of the history.
    caregivers : CAREGIVERS, optional
        With a registry, caregivers with too little history get the cluster of their features, as in a training run.
        Without one they have no cluster, and their few weeks count nowhere.

    Returns
    -------
    TrainedRecipe
        With a registry its tables equal those of a training run over the same history and options.

    Raises
    ------
    InvalidInputError
        When the history has no behaviour to cluster.
    """
    counts = conform(passive_counts(history).to_pyarrow(), PASSIVE_COUNTS)
    fit = clusters_of(counts, options)
    own_counts = transition_counts(history)
    by_history = assigned_by_history(
        own_counts, ibis.memtable(fit.tuple_clusters), min_passive_weeks=options.min_passive_weeks
    )
    if caregivers is None:
        assignments = by_history.mutate(assigned_by=ibis.literal("history"))
    else:
        mapper = fit_mapper(mapper_training(caregivers, by_history).to_pyarrow(), seed=options.model_seed).pipeline
        features = features_without_history(caregivers, by_history).to_pyarrow()
        predictions = ibis.memtable(predict_clusters(mapper, features))
        assignments = cluster_assignments(own_counts, caregivers, by_history, predictions)
    assignments = assignments.select("caregiver_key", "cluster_id", "assigned_by")
    passive_means = passive_means_of_clusters(counts, fit.tuple_clusters, fit.clusters.num_rows)
    by_cluster = counts_by_cluster(own_counts, assignments).to_pyarrow()
    return TrainedRecipe(fit, chances_of_clusters(by_cluster, passive_means, options), assignments)


def clusters_of(counts: pa.Table, options: ModelOptions) -> ClusterFit:
    """The clusters that the options ask for, from a table of PASSIVE_COUNTS; raises like `fit_clusters`."""
    return fit_clusters(
        counts,
        n_clusters=options.n_clusters,
        min_cluster_share=options.min_cluster_share,
        seed=options.model_seed,
    )


def passive_means_of_clusters(counts: pa.Table, tuple_clusters: pa.Table, n_clusters: int) -> FloatArray:
    """Empirical-Bayes passive chances of each cluster, (n_clusters, 2), states [U, R].

    `counts` (PASSIVE_COUNTS) is the population that serves as the prior, `tuple_clusters` (TUPLE_CLUSTERS) says which
    of its tuples belong where; tuples without a cluster inform the prior alone.
    """
    clustered = tuple_clusters.select([*PASSIVE_TUPLE, "cluster_id"])
    with_rows = counts.append_column("row", pa.array(np.arange(counts.num_rows)))
    joined = with_rows.join(clustered, list(PASSIVE_TUPLE), join_type="inner").sort_by("row")
    means = joint_passive_means(counts)[joined["row"].to_numpy()]
    return cluster_passive_means(means, joined, joined["cluster_id"].to_numpy(), n_clusters)


def chances_of_clusters(by_cluster: pa.Table, passive_means: FloatArray, options: ModelOptions) -> pa.Table:
    """The transition models [TRANSITION_MODELS] that the options ask for.

    `by_cluster` is the output of `counts_by_cluster`, `passive_means` that of `passive_means_of_clusters`.
    """
    return estimate_transitions(
        by_cluster, interval=options.interval, passive_means=passive_means, n_clusters=len(passive_means)
    )
