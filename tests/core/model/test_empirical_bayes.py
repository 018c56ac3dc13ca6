import numpy as np
import pyarrow as pa
import pytest

from bandicoot_core.contracts import PASSIVE_TUPLE
from bandicoot_core.model.empirical_bayes import joint_passive_means


def table(rows: list[tuple[int, int, int, int, int]]) -> pa.Table:
    """Rows of n_rr, n_ru, n_ur, n_uu, n_caregivers."""
    names = (*PASSIVE_TUPLE, "n_caregivers")
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})


def simulated(types: np.ndarray, n_caregivers: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """Tuples of 25 weeks of chains that start in their stationary state, and the true [p_u, p_r] sums per tuple."""
    random = np.random.default_rng(seed)
    p = types[random.integers(0, len(types), n_caregivers)]
    state = (random.random(n_caregivers) < p[:, 0] / (p[:, 0] + 1 - p[:, 1])).astype(int)
    tallies = np.zeros((n_caregivers, 2, 2), dtype=np.int64)
    everyone = np.arange(n_caregivers)
    for _ in range(25):
        following = (random.random(n_caregivers) < p[everyone, state]).astype(int)
        tallies[everyone, state, following] += 1
        state = following
    rows = tallies[:, [1, 1, 0, 0], [1, 0, 1, 0]]
    tuples, inverse, sizes = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    true = np.stack([np.bincount(inverse, p[:, s]) / sizes for s in range(2)], axis=-1)
    return pa.table({**dict(zip(PASSIVE_TUPLE, tuples.T, strict=True)), "n_caregivers": sizes}), true


TYPES = np.array([[0.70, 0.95], [0.05, 0.70], [0.30, 0.50], [0.02, 0.30]])


def test_those_never_seen_unresponsive_get_the_chance_of_those_like_them() -> None:
    counts, true = simulated(TYPES, 20_000, seed=1)
    means = joint_passive_means(counts)
    rows = {tuple(row[name] for name in PASSIVE_TUPLE): i for i, row in enumerate(counts.to_pylist())}
    always = rows[25, 0, 0, 0]
    never = rows[0, 0, 0, 25]
    assert means[always] == pytest.approx([0.70, 0.95], abs=0.06)
    assert means[never, 0] == pytest.approx(true[never, 0], abs=0.02)


def test_means_are_unbiased_over_any_set_chosen_by_counts_and_pooled_shares_are_not() -> None:
    counts, true = simulated(TYPES, 40_000, seed=2)
    means, n = joint_passive_means(counts), counts["n_caregivers"].to_numpy()
    lucky = (counts["n_ur"].to_numpy() > counts["n_uu"].to_numpy()) & (counts["n_uu"].to_numpy() > 2)
    to_r, to_u = (counts[name].to_numpy()[lucky] @ n[lucky] for name in ("n_ur", "n_uu"))
    truth = np.average(true[lucky, 0], weights=n[lucky])
    assert np.average(means[lucky, 0], weights=n[lucky]) == pytest.approx(truth, abs=0.03)
    assert to_r / (to_r + to_u) > truth + 0.05


def test_the_means_of_all_tuples_have_the_mean_of_the_truth_and_a_smaller_error_than_own_shares() -> None:
    counts, true = simulated(TYPES, 20_000, seed=3)
    means, n = joint_passive_means(counts), counts["n_caregivers"].to_numpy()
    assert np.average(means, axis=0, weights=n) == pytest.approx(np.average(true, axis=0, weights=n), abs=0.02)
    n_ur, n_uu = counts["n_ur"].to_numpy(), counts["n_uu"].to_numpy()
    own = (n_ur + 1) / (n_ur + n_uu + 2)
    error = np.average((means[:, 0] - true[:, 0]) ** 2, weights=n)
    assert error < 0.5 * np.average((own - true[:, 0]) ** 2, weights=n)


def test_the_order_of_the_rows_and_pooling_change_nothing() -> None:
    counts, _ = simulated(TYPES, 2_000, seed=4)
    means = joint_passive_means(counts)
    shuffled = np.random.default_rng(0).permutation(counts.num_rows)
    assert joint_passive_means(counts.take(shuffled)) == pytest.approx(means[shuffled], abs=1e-9)
    doubled = counts.set_column(4, "n_caregivers", pa.array(counts["n_caregivers"].to_numpy() * 2))
    assert joint_passive_means(doubled) == pytest.approx(means, abs=1e-9)


def test_a_caregiver_without_weeks_has_the_mean_of_all_and_no_rows_give_no_means() -> None:
    counts, _ = simulated(TYPES, 2_000, seed=5)
    with_nobody = pa.concat_tables([counts, table([(0, 0, 0, 0, 1)]).cast(counts.schema)])
    means, n = joint_passive_means(with_nobody), counts["n_caregivers"].to_numpy()
    assert means[-1] == pytest.approx(np.average(means[:-1], axis=0, weights=n), abs=0.02)
    assert joint_passive_means(counts.slice(0, 0)).shape == (0, 2)
