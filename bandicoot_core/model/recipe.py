"""The training recipe in one piece: from the history of a window to clusters, assignments and transition models.

Here: the steps of a training run in their order, as functions of a history and the options, so that the model of a
week, an earlier origin of a backtest and another recipe are all trained by the same code. Not here: the steps
themselves (`clusters`, `assignment`, `mapper`, `chances`), indices, and where a run's tables are kept.
"""

from dataclasses import dataclass
from typing import Any

import ibis
import pyarrow as pa
from ibis.expr.types import Table

from bandicoot_core.contracts import BY_HISTORY, PASSIVE_COUNTS, conform
from bandicoot_core.engagement.counts import passive_counts, recent_transition_counts, transition_counts
from bandicoot_core.model.assignment import assigned_by_history, cluster_assignments, features_without_history
from bandicoot_core.model.chances import FittedChances, fit_chances, member_tuples
from bandicoot_core.model.clusters import ClusterFit, fit_clusters
from bandicoot_core.model.mapper import fit_mapper, mapper_training, predict_clusters
from bandicoot_core.settings import ModelOptions

_AFTER_THE_CHANCES = frozenset(
    {
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


def train_recipe(
    history: Table, options: ModelOptions, *, n_weeks: int | None = None, caregivers: Table | None = None
) -> TrainedRecipe:
    """Clusters, assignments and transition models from one history.

    Parameters
    ----------
    history : ENGAGEMENT_HISTORY
        An expression bound to an engine, masked to the weeks that may be known (`engagement.history.history_until`).
    options : ModelOptions
        `training_weeks` is not looked at: the weeks are those of the history.
    n_weeks : int, optional
        Weeks of the window, from the first bit to the last week that may be known; needed with a half-life, which is
        counted back from there.
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
    ValueError
        When the options have a half-life and n_weeks is missing.
    """
    counts = conform(passive_counts(history).to_pyarrow(), PASSIVE_COUNTS)
    fit = clusters_of(counts, options)
    own_counts = transition_counts(history)
    by_history = assigned_by_history(
        own_counts, ibis.memtable(fit.tuple_clusters), min_passive_weeks=options.min_passive_weeks
    )
    if caregivers is None:
        assignments = by_history.mutate(assigned_by=ibis.literal(BY_HISTORY))
    else:
        mapper = fit_mapper(mapper_training(caregivers, by_history).to_pyarrow(), seed=options.model_seed).pipeline
        features = features_without_history(caregivers, by_history).to_pyarrow()
        predictions = ibis.memtable(predict_clusters(mapper, features))
        assignments = cluster_assignments(own_counts, caregivers, by_history, predictions)
    assignments = assignments.select("caregiver_key", "cluster_id", "assigned_by")
    chances = chances_of_members(weighted_counts(history, options, n_weeks=n_weeks), assignments, fit.clusters, options)
    return TrainedRecipe(fit, chances.transitions, assignments)


def clusters_of(counts: pa.Table, options: ModelOptions) -> ClusterFit:
    """The clusters that the options ask for, from a table of PASSIVE_COUNTS; raises like `fit_clusters`."""
    return fit_clusters(
        counts,
        n_clusters=options.n_clusters,
        min_cluster_share=options.min_cluster_share,
        seed=options.model_seed,
    )


def weighted_counts(history: Table, options: ModelOptions, *, n_weeks: int | None) -> Table:
    """Each caregiver's transition counts, and with a half-life the sums in which recent weeks weigh more.

    ValueError when there is a half-life and n_weeks, the weeks of the window, is missing.
    """
    if options.half_life_weeks is None:
        return transition_counts(history)
    if n_weeks is None:
        raise ValueError("n_weeks is missing; with half_life_weeks the weeks of the window must be given")
    return recent_transition_counts(history, n_weeks=n_weeks, half_life_weeks=options.half_life_weeks)


def chances_of_members(counts: Table, assignments: Table, clusters: pa.Table, options: ModelOptions) -> FittedChances:
    """The chances that the options ask for, from `weighted_counts` and who belongs to which of the CLUSTERS."""
    tuples = member_tuples(counts, assignments).to_pyarrow()
    return fit_chances(tuples, clusters, estimator=options.estimator, interval=options.interval)
