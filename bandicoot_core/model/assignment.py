"""Which cluster each caregiver belongs to: by her own history where it suffices, else by her registry features.

Table expressions only, engine-neutral: tables in, table out. How clusters are formed belongs to `clusters`, how
features predict one to `mapper`.
"""

import ibis
from ibis.expr.types import Column, IntegerValue, Table

from bandicoot_core.contracts import ACTIVE_TUPLE, BY_FEATURES, BY_HISTORY, PASSIVE_TUPLE

FEATURE_COLUMNS = ("age", "district", "parity", "phone_reliable", "enrollment_source")
"""The registry features that stand in for history, all nullable."""

_TEXT_FEATURES = ("district", "enrollment_source")
# Below every value the contract of caregivers allows.
_NO_NUMBER = -1


def assigned_by_history(counts: Table, tuple_clusters: Table, *, min_passive_weeks: int) -> Table:
    """Caregivers with enough passive weeks, and the cluster of their tuple: caregiver_key, cluster_id.

    `counts` is the output of transition_counts (n_rr, n_ru, n_ur, n_uu in weeks), `tuple_clusters` a table of
    TUPLE_CLUSTERS. A caregiver with fewer than `min_passive_weeks` passive weeks, or with a tuple the clusters were
    not fitted on, does not appear.
    """
    passive_weeks: IntegerValue = sum((counts[name].cast("int64") for name in PASSIVE_TUPLE), ibis.literal(0))
    return (
        counts.filter(passive_weeks >= min_passive_weeks)
        .inner_join(tuple_clusters.select(*PASSIVE_TUPLE, "cluster_id"), list(PASSIVE_TUPLE))
        .select("caregiver_key", "cluster_id")
    )


def features_without_history(caregivers: Table, by_history: Table) -> Table:
    """The distinct feature rows (FEATURE_COLUMNS) of the caregivers that `by_history` does not assign."""
    return caregivers.anti_join(by_history, "caregiver_key").select(*FEATURE_COLUMNS).distinct()


def mapper_training(caregivers: Table, history_assignments: Table) -> Table:
    """What the mapper learns from: the distinct feature rows of caregivers assigned by history, and their clusters.

    Columns FEATURE_COLUMNS, cluster_id and n_caregivers, how many share both. Its size does not grow with the number
    of caregivers, but with how many combinations of features and cluster exist.
    """
    return (
        caregivers.select("caregiver_key", *FEATURE_COLUMNS)
        .inner_join(history_assignments.select("caregiver_key", "cluster_id"), "caregiver_key")
        .group_by(*FEATURE_COLUMNS, "cluster_id")
        .aggregate(n_caregivers=lambda t: t.count())
    )


def cluster_assignments(counts: Table, caregivers: Table, by_history: Table, predictions: Table) -> Table:
    """Every caregiver of the snapshot once, with her cluster, how she was assigned, and her counts.

    Features are matched null to null: a caregiver without a recorded age has the prediction for an unrecorded age.

    Parameters
    ----------
    counts : transition_counts
        Caregivers that are not in it have zero counts; those that are not in `caregivers` are left out.
    caregivers : CAREGIVERS
        The snapshot.
    by_history : output of `assigned_by_history`
        Takes precedence over features.
    predictions : output of `predict_clusters`
        FEATURE_COLUMNS and cluster_id for at least the rows of `features_without_history`. For a caregiver whose
        features are missing from it cluster_id is null, which the contract refuses when the table is written.

    Returns
    -------
    table of CLUSTER_ASSIGNMENTS
    """
    names = (*PASSIVE_TUPLE, *ACTIVE_TUPLE)
    own_counts = counts.select("caregiver_key", *names)
    by_own_history = by_history.select("caregiver_key", history_cluster="cluster_id")
    by_features = _null_safe(predictions).select(*_NULL_SAFE, features_cluster="cluster_id").distinct()
    joined = (
        _null_safe(caregivers)
        .select("caregiver_key", *_NULL_SAFE)
        .left_join(own_counts, "caregiver_key")
        .drop("caregiver_key_right")
        .left_join(by_own_history, "caregiver_key")
        .drop("caregiver_key_right")
        .left_join(by_features, list(_NULL_SAFE))
    )
    return joined.select(
        "caregiver_key",
        cluster_id=ibis.coalesce(joined.history_cluster, joined.features_cluster).cast("int16"),
        assigned_by=ibis.ifelse(joined.history_cluster.notnull(), BY_HISTORY, BY_FEATURES),
        **{name: ibis.coalesce(joined[name], 0).cast("int16") for name in names},
    )


_NULL_SAFE = tuple(f"{name}_or_none" for name in FEATURE_COLUMNS)


def _null_safe(table: Table) -> Table:
    """The table with columns of features that are never null and are equal exactly when the features are.

    An ordinary equality of such columns is a hash join on every engine; a null-safe one is not allowed in an outer
    join on some.
    """
    return table.mutate(**{f"{name}_or_none": _never_null(table, name) for name in FEATURE_COLUMNS})


def _never_null(table: Table, name: str) -> Column:
    column = table[name]
    if name in _TEXT_FEATURES:
        # The prefix keeps an empty text apart from a missing one.
        return ibis.ifelse(column.isnull(), "none", ibis.literal("=") + column)
    return ibis.coalesce(column.cast("int64"), _NO_NUMBER)
