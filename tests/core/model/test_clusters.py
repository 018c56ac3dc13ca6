from random import Random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from bandicoot_core.contracts import PASSIVE_COUNTS, PASSIVE_TUPLE
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.model.clusters import (
    ClusterFit,
    fit_clusters,
    suggest_n_clusters,
    weighted_k_means,
)
from bandicoot_core.model.empirical_bayes import joint_passive_means


def counts_table(rows: list[tuple[int, int, int, int, int]]) -> pa.Table:
    """Rows of n_rr, n_ru, n_ur, n_uu, n_caregivers."""
    names = (*PASSIVE_TUPLE, "n_caregivers")
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})


def fit(
    counts: pa.Table, n_clusters: int = 3, min_cluster_share: float = 0.0, min_passive_weeks: int = 1
) -> ClusterFit:
    return fit_clusters(
        counts,
        n_clusters=n_clusters,
        min_cluster_share=min_cluster_share,
        seed=7,
        min_passive_weeks=min_passive_weeks,
    )


def simulated_counts(n_caregivers: int, seed: int) -> pa.Table:
    """Passive counts of 25 transitions of three behavioural types."""
    random = np.random.default_rng(seed)
    p = np.array([[0.05, 0.60], [0.30, 0.70], [0.70, 0.95]])[random.integers(0, 3, n_caregivers)]
    tallies = np.zeros((n_caregivers, 2, 2), dtype=np.int64)
    state = random.integers(0, 2, n_caregivers)
    everyone = np.arange(n_caregivers)
    for _ in range(25):
        following = (random.random(n_caregivers) < p[everyone, state]).astype(np.int64)
        tallies[everyone, state, following] += 1
        state = following
    tuples, sizes = np.unique(tallies[:, [1, 1, 0, 0], [1, 0, 1, 0]], axis=0, return_counts=True)
    columns = dict(zip(PASSIVE_TUPLE, tuples.T, strict=True))
    return pa.table({**columns, "n_caregivers": sizes})


THREE_KINDS = counts_table(
    [
        (9, 1, 2, 0, 40),
        (8, 1, 2, 1, 30),
        (1, 4, 1, 6, 20),
        (0, 5, 0, 7, 50),
        (6, 6, 6, 6, 60),
    ]
)


def test_alike_tuples_share_a_cluster_and_ids_ascend_with_their_chances() -> None:
    result = fit(THREE_KINDS)
    assert result.tuple_clusters.select([*PASSIVE_TUPLE, "cluster_id"]).to_pylist() == [
        {"n_rr": 0, "n_ru": 5, "n_ur": 0, "n_uu": 7, "cluster_id": 0},
        {"n_rr": 1, "n_ru": 4, "n_ur": 1, "n_uu": 6, "cluster_id": 0},
        {"n_rr": 6, "n_ru": 6, "n_ur": 6, "n_uu": 6, "cluster_id": 1},
        {"n_rr": 8, "n_ru": 1, "n_ur": 2, "n_uu": 1, "cluster_id": 2},
        {"n_rr": 9, "n_ru": 1, "n_ur": 2, "n_uu": 0, "cluster_id": 2},
    ]
    assert result.clusters["n_caregivers"].to_pylist() == [70, 60, 70]
    assert result.clusters["n_tuples"].to_pylist() == [2, 1, 2]
    assert result.notes == ()


def test_centroids_are_the_weighted_means_of_their_tuples() -> None:
    result = fit(THREE_KINDS)
    points = joint_passive_means(result.tuple_clusters)
    np.testing.assert_allclose(
        [result.clusters["p_passive_u"][0].as_py(), result.clusters["p_passive_r"][0].as_py()],
        (50 * points[0] + 20 * points[1]) / 70,
        atol=1e-11,
    )


def test_k_means_on_weighted_tuples_equals_k_means_on_all_caregivers_from_the_same_start() -> None:
    counts = simulated_counts(4000, seed=1)
    points, weights = joint_passive_means(counts), counts["n_caregivers"].to_numpy()
    everyone = np.repeat(points, weights, axis=0)
    start = points[np.linspace(0, len(points) - 1, 6).astype(int)]
    pooled = KMeans(6, init=start, n_init=1, tol=0, max_iter=1000).fit(points, sample_weight=weights)
    single = KMeans(6, init=start, n_init=1, tol=0, max_iter=1000).fit(everyone)
    assert np.array_equal(np.repeat(pooled.labels_, weights), single.labels_)
    np.testing.assert_allclose(pooled.cluster_centers_, single.cluster_centers_, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fit_on_weighted_tuples_equals_the_fit_on_all_caregivers(seed: int) -> None:
    counts = simulated_counts(4000, seed=seed)
    result = fit_clusters(counts, n_clusters=6, min_cluster_share=0.0, seed=7)
    points, weights = joint_passive_means(result.tuple_clusters), counts["n_caregivers"].to_numpy()
    everyone = np.repeat(np.round(points, 12), weights, axis=0)
    labels = weighted_k_means(everyone, np.ones(len(everyone)), n_clusters=6, seed=7)
    centroids = np.stack([everyone[labels == k].mean(axis=0) for k in range(6)])
    order = np.lexsort((centroids[:, 1], centroids[:, 0]))
    fitted = np.stack([result.clusters[name].to_numpy() for name in ("p_passive_u", "p_passive_r")], axis=-1)
    np.testing.assert_allclose(fitted, centroids[order], atol=1e-9)
    assert np.array_equal(np.repeat(result.tuple_clusters["cluster_id"].to_numpy(), weights), np.argsort(order)[labels])


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_the_order_of_the_rows_changes_nothing(random: Random, n_clusters: int) -> None:
    counts = simulated_counts(300, seed=3)
    order = list(range(counts.num_rows))
    random.shuffle(order)
    assert fit(counts.take(order), n_clusters, 0.05) == fit(counts, n_clusters, 0.05)


@st.composite
def any_counts(draw: st.DrawFn) -> pa.Table:
    tuples = draw(st.lists(st.tuples(*[st.integers(0, 15)] * 4), min_size=1, max_size=25, unique=True))
    tuples = [row for row in tuples if sum(row) > 0] or [(1, 0, 0, 0)]
    sizes = draw(st.lists(st.integers(1, 1000), min_size=len(tuples), max_size=len(tuples)))
    return counts_table([(*row, size) for row, size in zip(tuples, sizes, strict=True)])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(any_counts(), st.integers(1, 8), st.sampled_from([0.0, 0.02, 0.3]))
def test_every_fit_is_a_partition_with_contiguous_ids_in_stable_order(
    counts: pa.Table, n_clusters: int, min_cluster_share: float
) -> None:
    result = fit(counts, n_clusters, min_cluster_share)
    clusters, tuples = result.clusters, result.tuple_clusters
    centroids = list(zip(clusters["p_passive_u"].to_pylist(), clusters["p_passive_r"].to_pylist(), strict=True))
    sizes = clusters["n_caregivers"].to_numpy()
    assert clusters["cluster_id"].to_pylist() == list(range(clusters.num_rows))
    assert 1 <= clusters.num_rows <= n_clusters
    assert centroids == sorted(centroids)
    assert sizes.sum() == sum(counts["n_caregivers"].to_pylist())
    assert clusters.num_rows == 1 or sizes.min() >= min_cluster_share * sizes.sum()
    assert tuples.num_rows == counts.num_rows
    assert set(tuples["cluster_id"].to_pylist()) == set(range(clusters.num_rows))


def test_more_clusters_than_forms_of_behaviour_are_reduced_with_a_note() -> None:
    result = fit(THREE_KINDS, n_clusters=20)
    assert result.clusters.num_rows == 5
    assert result.notes == ("20 clusters were asked for, but behaviour takes only 5 distinct forms",)


def test_every_tuple_lies_nearest_to_its_own_cluster() -> None:
    result = fit(simulated_counts(4000, seed=1), n_clusters=8)
    points = joint_passive_means(result.tuple_clusters)
    centroids = np.stack([result.clusters[name].to_numpy() for name in ("p_passive_u", "p_passive_r")], axis=-1)
    nearest = ((points[:, None] - centroids) ** 2).sum(axis=-1).argmin(axis=1)
    assert np.array_equal(nearest, result.tuple_clusters["cluster_id"].to_numpy())


def test_a_tiny_cluster_is_merged_into_the_nearest_with_a_note() -> None:
    rows = [(9, 1, 2, 0, 1000), (7, 2, 2, 1, 2), (0, 5, 0, 7, 1000)]
    assert fit(counts_table(rows)).clusters["n_caregivers"].to_pylist() == [1000, 2, 1000]
    merged = fit(counts_table(rows), min_cluster_share=0.01)
    assert merged.clusters["n_caregivers"].to_pylist() == [1000, 1002]
    assert merged.clusters["n_tuples"].to_pylist() == [1, 2]
    points = joint_passive_means(merged.tuple_clusters)
    expected = (2 * points[1, 0] + 1000 * points[2, 0]) / 1002
    assert merged.clusters["p_passive_u"][1].as_py() == pytest.approx(expected, abs=1e-11)
    assert len(merged.notes) == 1
    assert "has 2 of 2002 caregivers, less than the share 0.01: merged" in merged.notes[0]


def test_tuples_with_too_few_weeks_inform_the_prior_but_are_not_clustered() -> None:
    rows = [(0, 0, 0, 0, 500), (0, 0, 3, 0, 10), (0, 5, 0, 7, 20)]
    assert fit(counts_table(rows), min_passive_weeks=3).clusters["n_caregivers"].to_pylist() == [20, 10]
    result = fit(counts_table(rows), min_passive_weeks=4)
    assert result.tuple_clusters.num_rows == 1
    assert result.clusters["n_caregivers"].to_pylist() == [20]
    expected = joint_passive_means(counts_table(rows))[2]
    assert result.clusters["p_passive_u"][0].as_py() == pytest.approx(expected[0], abs=1e-11)


def test_caregivers_without_any_passive_week_are_not_clustered() -> None:
    result = fit(counts_table([(0, 0, 0, 0, 500), (0, 5, 0, 7, 20)]))
    assert result.clusters["n_caregivers"].to_pylist() == [20]


def test_a_state_nobody_was_in_is_noted() -> None:
    result = fit(counts_table([(0, 0, 2, 6, 3), (0, 0, 5, 1, 3)]), n_clusters=2)
    assert result.notes == (
        "no clustered tuple has a passive week that starts in R: P(R | R, passive) is the prior for all",
    )


def test_an_empty_table_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidInputError, match=r"passive_counts: the table is empty.*materialize engagement_history"):
        fit(PASSIVE_COUNTS.empty())


def test_too_short_a_history_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidInputError, match=r"none of the 2 tuples has 4 .*most is 3.*BANDICOOT_MIN_PASSIVE_WEEKS"):
        fit(counts_table([(0, 0, 3, 0, 10), (1, 1, 0, 0, 20)]), min_passive_weeks=4)


def test_a_repeated_tuple_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"1 tuples occur more than once .*'n_rr': 1"):
        fit(counts_table([(1, 2, 3, 4, 10), (0, 1, 1, 1, 5), (1, 2, 3, 4, 20)]))


def test_fewer_than_one_cluster_is_refused() -> None:
    with pytest.raises(ValueError, match=r"n_clusters is 0; expected 1 or more"):
        fit(THREE_KINDS, n_clusters=0)


def test_the_smallest_k_that_explains_enough_is_suggested() -> None:
    choice = suggest_n_clusters(THREE_KINDS, candidates=(5, 1, 2, 3), seed=7, min_explained=0.95)
    shares = dict(choice.explained_shares)
    assert choice.n_clusters == 3
    assert choice.is_criterion_met
    assert list(shares) == [1, 2, 3, 5]
    assert shares[1] == pytest.approx(0.0, abs=1e-12)
    assert shares[2] < 0.95 <= shares[3] < shares[5] == pytest.approx(1.0)


def test_the_largest_candidate_is_suggested_when_none_explains_enough() -> None:
    choice = suggest_n_clusters(THREE_KINDS, candidates=(1, 2), seed=7, min_explained=0.999)
    assert (choice.n_clusters, choice.is_criterion_met) == (2, False)


def test_one_form_of_behaviour_needs_one_cluster() -> None:
    choice = suggest_n_clusters(counts_table([(1, 2, 3, 4, 9)]), candidates=(1, 2), seed=7)
    assert choice.explained_shares == ((1, 1.0), (2, 1.0))
    assert choice.n_clusters == 1


def test_no_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match=r"candidates are \[\]"):
        suggest_n_clusters(THREE_KINDS, candidates=(), seed=7)
