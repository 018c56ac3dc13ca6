"""How far caregivers move between two models, on tables small enough to check by eye."""

import ibis
import pytest

from bandicoot_core.evaluation.model_comparison import movement
from bandicoot_core.evaluation.model_comparison_charts import change_of_index


def told(*rows: tuple[int, int, float]) -> ibis.Table:
    schema = {"caregiver_key": "int64", "cluster_id": "int16", "own_index": "float64"}
    keys, clusters, indices = zip(*rows, strict=True) if rows else ((), (), ())
    return ibis.memtable({"caregiver_key": keys, "cluster_id": clusters, "own_index": indices}, schema=schema)


FIRST = told((1, 0, 0.5), (2, 0, 0.4), (3, 1, 0.3), (4, 1, 0.2), (9, 0, 0.9))
SECOND = told((1, 0, 0.505), (2, 1, 0.1), (3, 1, 0.45), (4, 0, 0.2), (8, 0, 0.9))


def test_movement_counts_those_whom_both_models_know() -> None:
    moved = movement(FIRST, SECOND, n_top=2)
    assert (moved.n_caregivers, moved.n_other_cluster, moved.n_other_index) == (4, 2, 2)
    # The first two were 1 and 2, and are 1 and 3.
    assert (moved.n_top, moved.n_top_in_both) == (2, 1)


def test_bins_hold_everybody_once_and_lie_around_the_changes() -> None:
    bins = movement(FIRST, SECOND, n_top=2).bins
    width = bins["width"][0].as_py()
    assert bins["n_caregivers"].to_pylist() == [1, 2, 1]
    for middle, change in zip(bins["change"].to_pylist(), (-0.3, 0.0, 0.15), strict=True):
        assert middle == pytest.approx(change, abs=width / 2 + 1e-12)
    assert change_of_index(bins).startswith(b"\x89PNG")


def test_the_same_model_moves_nobody() -> None:
    moved = movement(FIRST, FIRST, n_top=100)
    assert (moved.n_other_cluster, moved.n_other_index, moved.n_top, moved.n_top_in_both) == (0, 0, 5, 5)
    assert moved.bins["change"].to_pylist() == [0.0]


def test_nobody_known_to_both_is_no_movement() -> None:
    assert movement(FIRST, told((7, 0, 0.1)), n_top=2).n_caregivers == 0
