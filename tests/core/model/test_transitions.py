from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import ACTIVE_TUPLE, PASSIVE_TUPLE, TRANSITION_MODELS
from bandicoot_core.model.transitions import cell_arrays, counts_by_cluster, estimate_transitions, transition_arrays

COUNT_NAMES = (*PASSIVE_TUPLE, *ACTIVE_TUPLE)


def by_cluster(rows: dict[int, tuple[int, ...]]) -> pa.Table:
    """Per cluster n_rr, n_ru, n_ur, n_uu, then the same of active weeks."""
    counts = {name: [row[i] for row in rows.values()] for i, name in enumerate(COUNT_NAMES)}
    return pa.table({"cluster_id": pa.array(rows.keys(), pa.int16()), **counts})


def test_counts_are_summed_over_the_caregivers_of_a_cluster(engine: Backend) -> None:
    counts = ibis.memtable(
        pa.table(
            {
                "caregiver_key": [1, 2, 3, 9],
                "n_rr": pa.array([30_000, 30_000, 5, 7], pa.int16()),
                "n_ru": pa.array([1, 2, 6, 7], pa.int16()),
                "n_ur": pa.array([1, 0, 7, 7], pa.int16()),
                "n_uu": pa.array([0, 0, 8, 7], pa.int16()),
                "n_active_rr": pa.array([1, 1, 0, 7], pa.int16()),
                "n_active_ru": pa.array([0, 2, 0, 7], pa.int16()),
                "n_active_ur": pa.array([0, 3, 0, 7], pa.int16()),
                "n_active_uu": pa.array([0, 4, 1, 7], pa.int16()),
            }
        )
    )
    assignments = ibis.memtable(
        pa.table(
            {
                "caregiver_key": [1, 2, 3, 4],
                "cluster_id": pa.array([0, 0, 1, 2], pa.int16()),
                **{name: pa.array([0] * 4, pa.int16()) for name in PASSIVE_TUPLE},
            }
        )
    )
    result = engine.to_pyarrow(counts_by_cluster(counts, assignments).order_by("cluster_id"))
    assert result.column_names == ["cluster_id", *COUNT_NAMES]
    assert {result.schema.field(name).type for name in COUNT_NAMES} == {pa.int64()}
    assert [tuple(row.values()) for row in result.to_pylist()] == [
        (0, 60_000, 3, 1, 0, 2, 2, 3, 4),
        (1, 5, 6, 7, 8, 0, 0, 0, 1),
        (2, 0, 0, 0, 0, 0, 0, 0, 0),
    ]


def test_each_chance_is_the_posterior_mean_of_its_own_counts() -> None:
    result = estimate_transitions(by_cluster({0: (7, 1, 2, 6, 3, 0, 4, 2)}), interval=0.9)
    cells = {(row["state"], row["action"]): row for row in result.to_pylist()}
    found = {cell: (row["n_to_r"], row["n_to_u"], row["p_next_r"]) for cell, row in cells.items()}
    assert found == {
        ("R", "passive"): (7, 1, 8 / 10),
        ("U", "passive"): (2, 6, 3 / 10),
        ("R", "active"): (3, 0, 4 / 5),
        ("U", "active"): (4, 2, 5 / 8),
    }
    # Beta(4, 1) has the distribution function x**4.
    assert cells["R", "active"]["p_low"] == pytest.approx(0.05**0.25)
    assert cells["R", "active"]["p_high"] == pytest.approx(0.95**0.25)


def test_a_cluster_without_counts_has_the_prior_and_says_so_by_its_counts() -> None:
    result = estimate_transitions(by_cluster({1: (7, 1, 2, 6, 3, 0, 4, 2)}), interval=0.9, n_clusters=3)
    assert result["cluster_id"].to_pylist() == [0] * 4 + [1] * 4 + [2] * 4
    unseen = result.slice(8)
    assert unseen["p_next_r"].to_pylist() == [0.5] * 4
    assert unseen["n_to_r"].to_pylist() == unseen["n_to_u"].to_pylist() == [0] * 4
    np.testing.assert_allclose(unseen["p_low"].to_numpy(), 0.05, rtol=1e-12)


def test_the_order_of_the_clusters_changes_nothing() -> None:
    rows = {2: (7, 1, 2, 6, 3, 0, 4, 2), 0: (1, 2, 3, 4, 5, 6, 7, 8), 1: (0, 0, 0, 1, 0, 0, 0, 0)}
    ordered = dict(sorted(rows.items()))
    assert estimate_transitions(by_cluster(rows), interval=0.9) == estimate_transitions(
        by_cluster(ordered), interval=0.9
    )


def test_arrays_are_laid_out_unresponsive_first() -> None:
    counts = by_cluster({0: (7, 1, 2, 6, 3, 0, 4, 2), 1: (0, 0, 0, 0, 0, 0, 0, 0)})
    transitions = estimate_transitions(counts, interval=0.9)
    p_passive, p_active = transition_arrays(transitions.take([5, 0, 3, 1, 2, 7, 6, 4]))
    assert p_passive.tolist() == [[0.3, 0.8], [0.5, 0.5]]
    assert p_active.tolist() == [[5 / 8, 4 / 5], [0.5, 0.5]]
    assert cell_arrays(transitions, "n_to_r")[0].tolist() == [[2, 4], [7, 3]]


@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 1, 2, 2, 3], [4, 5, 6, 7]])
def test_incomplete_repeated_or_gappy_transitions_have_no_arrays(rows: list[int]) -> None:
    counts = by_cluster({0: (7, 1, 2, 6, 3, 0, 4, 2), 1: (0, 0, 0, 0, 0, 0, 0, 0)})
    transitions = estimate_transitions(counts, interval=0.9)
    with pytest.raises(ValueError, match=r"expected clusters 0 to 0, each with both states and both actions once"):
        transition_arrays(transitions.take(rows))


def test_no_transitions_have_empty_arrays() -> None:
    p_passive, p_active = transition_arrays(TRANSITION_MODELS.empty())
    assert p_passive.shape == p_active.shape == (0, 2)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 100_000), min_size=8, max_size=8), st.floats(0.1, 0.99))
def test_every_estimate_lies_inside_its_interval_and_between_0_and_1(counts: list[int], interval: float) -> None:
    result = estimate_transitions(by_cluster({0: tuple(counts)}), interval=interval)
    p, low, high = (result[name].to_numpy() for name in ("p_next_r", "p_low", "p_high"))
    assert ((low > 0) & (low < high) & (high < 1) & (p > 0) & (p < 1)).all()
    # An equal-tailed interval of moderate width holds the mean, save for posteriors piled up at an end.
    assert interval < 0.5 or ((low <= p) & (p <= high)).all()


def test_nine_in_ten_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(11)
    truth = random.random((1000, 4))
    n = random.integers(1, 200, (1000, 4))
    to_r = random.binomial(n, truth)
    # Cells in the order of the counts: R passive, U passive, R active, U active.
    columns = np.stack([to_r, n - to_r], axis=-1).reshape(1000, 8)
    table = pa.table({"cluster_id": np.arange(1000, dtype=np.int16), **dict(zip(COUNT_NAMES, columns.T, strict=True))})
    result = estimate_transitions(table, interval=0.9)
    low, high = cell_arrays(result, "p_low"), cell_arrays(result, "p_high")
    true_cells = truth.reshape(1000, 2, 2).transpose(0, 2, 1)[:, ::-1, :]
    # Truths drawn from the prior are covered with the stated probability exactly: 4000 cells, deviation 0.005.
    assert ((low <= true_cells) & (true_cells <= high)).mean() == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interval": 1.0}, "interval is 1.0"),
        ({"interval": 0.9, "prior": (0.0, 1.0)}, "prior is"),
        ({"interval": 0.9, "n_clusters": 1}, r"expected ids from 0 to 0"),
    ],
)
def test_numbers_out_of_bounds_are_refused(arguments: dict[str, Any], message: str) -> None:
    counts = by_cluster({1: (7, 1, 2, 6, 3, 0, 4, 2)})
    with pytest.raises(ValueError, match=message):
        estimate_transitions(counts, **arguments)


def test_a_cluster_that_occurs_twice_is_refused() -> None:
    counts = by_cluster({0: (7, 1, 2, 6, 3, 0, 4, 2)})
    with pytest.raises(ValueError, match="a cluster occurs twice"):
        estimate_transitions(pa.concat_tables([counts, counts]), interval=0.9)
