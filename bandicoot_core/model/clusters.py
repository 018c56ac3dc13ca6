"""Clusters of passive behaviour: weighted k-means on the distinct tuples of passive counts.

Here: the fit, what becomes of tiny clusters, the stable order of ids, and the criterion that suggests k. Not here:
which caregiver belongs to which cluster (`assignment`) and what clusters do when called (`transitions`).

Caregivers with equal counts have equal posterior means, so k-means over all caregivers is k-means over the few
thousand distinct tuples, each weighing as many as have it: the cost does not grow with the number of caregivers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from bandicoot_core.contracts import CLUSTERS, PASSIVE_COUNTS, PASSIVE_TUPLE, TUPLE_CLUSTERS, conform
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.model.empirical_bayes import joint_passive_means
from bandicoot_core.model.posterior import FloatArray, passive_evidence

IntArray = npt.NDArray[np.int64]

_N_STARTS = 10
_MAX_ITERATIONS = 1000
# Means that agree to this many decimals are one point: rounding errors must not count as different behaviour.
_DECIMALS = 12


@dataclass(frozen=True)
class ClusterFit:
    """CLUSTERS, TUPLE_CLUSTERS, and a sentence for everything that did not go as asked."""

    clusters: pa.Table
    tuple_clusters: pa.Table
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ClusterChoice:
    """The k that was suggested, whether it meets the criterion, and what each candidate explains."""

    n_clusters: int
    is_criterion_met: bool
    explained_shares: tuple[tuple[int, float], ...]
    """Pairs of a candidate k and the share of the weighted between-tuple variance that it explains."""


def fit_clusters(
    counts: pa.Table,
    *,
    n_clusters: int,
    min_cluster_share: float,
    seed: int,
    min_passive_weeks: int = 1,
) -> ClusterFit:
    """Clusters of the distinct tuples, and which cluster each tuple belongs to.

    Tuples with fewer than `min_passive_weeks` passive weeks inform the prior, but are not clustered: they sit at the
    prior mean for want of evidence, and their caregivers are assigned by features.

    A cluster with less than `min_cluster_share` of the caregivers is merged into the one with the nearest centroid,
    smallest first, until none is left; of equals the one with the lower P(R|U), then P(R|R), goes first. Ids ascend
    with (P(R|U), P(R|R)) of the centroids, which are means of their members. Rows are sorted first, k-means runs from
    10 seeded starts in one thread and stops only when no label changes; the result does not depend on the order of
    the rows, on the number of cores, or on whether equal caregivers are pooled.

    Parameters
    ----------
    counts : table of PASSIVE_COUNTS
    n_clusters : int
        k; with fewer distinct points the number of points is taken, with a note.
    min_cluster_share : float
        Share of the clustered caregivers, in [0, 1).
    seed : int
        Of the starts.
    min_passive_weeks : int
        Passive weeks a tuple needs to be clustered.

    Raises
    ------
    InvalidInputError
        When no tuple has enough passive weeks, or a tuple occurs twice.
    ValueError
        When n_clusters is below 1, or a column is missing.
    """
    if n_clusters < 1:
        raise ValueError(f"n_clusters is {n_clusters}; expected 1 or more")
    counts, points = _clustered_points(counts, min_passive_weeks=min_passive_weeks)
    weights = np.asarray(counts["n_caregivers"].to_numpy(), dtype=np.float64)
    notes = _notes_on_missing_states(counts)
    n_points = len(np.unique(points, axis=0))
    if n_points < n_clusters:
        notes.append(f"{n_clusters} clusters were asked for, but behaviour takes only {n_points} distinct forms")
    labels = weighted_k_means(points, weights, n_clusters=min(n_clusters, n_points), seed=seed)
    labels, merges = _merge_tiny(points, weights, labels, min_cluster_share)
    labels = _in_stable_order(points, weights, labels)
    centroids = _centroids(points, weights, labels)
    clusters = pa.table(
        {
            "cluster_id": np.arange(len(centroids)),
            "p_passive_u": centroids[:, 0],
            "p_passive_r": centroids[:, 1],
            "n_caregivers": np.bincount(labels, weights).astype(np.int64),
            "n_tuples": np.bincount(labels),
        }
    )
    tuple_clusters = counts.append_column("cluster_id", pa.array(labels))
    return ClusterFit(conform(clusters, CLUSTERS), conform(tuple_clusters, TUPLE_CLUSTERS), (*notes, *merges))


def suggest_n_clusters(
    counts: pa.Table,
    *,
    candidates: Sequence[int] = (2, 3, 4, 6, 8, 10, 15, 20, 30, 40),
    seed: int,
    min_explained: float = 0.95,
    min_passive_weeks: int = 1,
) -> ClusterChoice:
    """The smallest candidate k that explains at least `min_explained` of how passive behaviour varies.

    Explained share = 1 - W/T, with T the squared distances of the tuples' points to their common mean and W those to
    the centroids of their clusters, both weighted by caregivers. Every further cluster divides the scarce weeks with
    calls once more, so the smallest k that suffices is suggested, not the best fit. When no candidate suffices the
    largest is returned and `is_criterion_met` is False. Raises like `fit_clusters`, and ValueError without candidates.
    """
    if not candidates or min(candidates) < 1:
        raise ValueError(f"candidates are {list(candidates)}; expected at least one number, each 1 or more")
    counts, points = _clustered_points(counts, min_passive_weeks=min_passive_weeks)
    weights = np.asarray(counts["n_caregivers"].to_numpy(), dtype=np.float64)
    n_points = len(np.unique(points, axis=0))
    total = _scatter(points, weights, np.zeros(len(points), dtype=np.int64))
    explained = []
    for k in sorted(set(candidates)):
        labels = weighted_k_means(points, weights, n_clusters=min(k, n_points), seed=seed)
        share = 1.0 if n_points == 1 else 1.0 - _scatter(points, weights, labels) / total
        explained.append((k, share))
    sufficient = [k for k, share in explained if share >= min_explained]
    return ClusterChoice(
        n_clusters=sufficient[0] if sufficient else explained[-1][0],
        is_criterion_met=bool(sufficient),
        explained_shares=tuple(explained),
    )


def weighted_k_means(points: FloatArray, weights: FloatArray, *, n_clusters: int, seed: int) -> IntArray:
    """Labels 0 .. k-1 of the best of 10 seeded k-means runs; points (n, 2), weights (n,), in a fixed order.

    The tolerance is zero because scikit-learn's would depend on how often a point is repeated.
    """
    k_means = KMeans(n_clusters, n_init=_N_STARTS, max_iter=_MAX_ITERATIONS, tol=0.0, random_state=seed)
    with threadpool_limits(limits=1):
        labels = k_means.fit(points, sample_weight=weights).labels_
    return _without_gaps(labels)


def _clustered_points(counts: pa.Table, *, min_passive_weeks: int) -> tuple[pa.Table, FloatArray]:
    counts = conform(counts, PASSIVE_COUNTS)
    _refuse_repeated_tuples(counts)
    if counts.num_rows == 0:
        raise InvalidInputError(
            "passive_counts: the table is empty, so there is no behaviour to cluster; materialize engagement_history "
            "and passive_counts for a week whose training window contains SMS events and enrolled caregivers"
        )
    points = np.round(joint_passive_means(counts), _DECIMALS)
    _, weeks = passive_evidence(counts)
    is_clustered = weeks.sum(axis=1) >= min_passive_weeks
    if not is_clustered.any():
        raise InvalidInputError(
            f"passive_counts: none of the {counts.num_rows} tuples has {min_passive_weeks} or more passive weeks (the "
            f"most is {int(weeks.sum(axis=1).max())}), so there is no behaviour to cluster; wait for more weeks of "
            "history, lengthen the window (BANDICOOT_TRAINING_WEEKS) or lower BANDICOOT_MIN_PASSIVE_WEEKS"
        )
    return counts.filter(pa.array(is_clustered)), points[is_clustered]


def _refuse_repeated_tuples(counts: pa.Table) -> None:
    tuples = np.stack([counts[name].to_numpy() for name in PASSIVE_TUPLE], axis=-1)
    repeated = np.flatnonzero((tuples[1:] == tuples[:-1]).all(axis=1))
    if len(repeated):
        first = dict(zip(PASSIVE_TUPLE, tuples[repeated[0]].tolist(), strict=True))
        raise InvalidInputError(
            f"passive_counts: {len(repeated)} tuples occur more than once (first: {first}); expected one row per "
            "distinct tuple; materialize passive_counts again"
        )


def _notes_on_missing_states(counts: pa.Table) -> list[str]:
    _, weeks = passive_evidence(counts)
    return [
        f"no clustered tuple has a passive week that starts in {state}: P(R | {state}, passive) is the prior for all"
        for state, total in zip(("U", "R"), weeks.sum(axis=0), strict=True)
        if total == 0
    ]


def _merge_tiny(
    points: FloatArray, weights: FloatArray, labels: IntArray, min_share: float
) -> tuple[IntArray, list[str]]:
    notes = []
    total = weights.sum()
    while labels.max() > 0:
        labels = _in_stable_order(points, weights, labels)
        sizes = np.bincount(labels, weights)
        tiny = int(np.argmin(sizes))
        if sizes[tiny] >= min_share * total:
            break
        centroids = _centroids(points, weights, labels)
        distances = ((centroids - centroids[tiny]) ** 2).sum(axis=1)
        distances[tiny] = np.inf
        nearest = int(np.argmin(distances))
        notes.append(
            f"the cluster at P(R|U) {centroids[tiny, 0]:.3f}, P(R|R) {centroids[tiny, 1]:.3f} has "
            f"{int(sizes[tiny])} of {int(total)} caregivers, less than the share {min_share:g}: merged into the one at "
            f"P(R|U) {centroids[nearest, 0]:.3f}, P(R|R) {centroids[nearest, 1]:.3f}"
        )
        labels = _without_gaps(np.where(labels == tiny, nearest, labels))
    return labels, notes


def _in_stable_order(points: FloatArray, weights: FloatArray, labels: IntArray) -> IntArray:
    centroids = _centroids(points, weights, labels)
    ranks = np.empty(len(centroids), dtype=np.int64)
    ranks[np.lexsort((centroids[:, 1], centroids[:, 0]))] = np.arange(len(centroids))
    return ranks[labels]


def _centroids(points: FloatArray, weights: FloatArray, labels: IntArray) -> FloatArray:
    sizes = np.bincount(labels, weights)
    return np.stack([np.bincount(labels, weights * points[:, s]) / sizes for s in (0, 1)], axis=-1)


def _scatter(points: FloatArray, weights: FloatArray, labels: IntArray) -> float:
    distances = ((points - _centroids(points, weights, labels)[labels]) ** 2).sum(axis=1)
    return float(weights @ distances)


def _without_gaps(labels: npt.NDArray[np.integer]) -> IntArray:
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)
