"""Half-lives and member tuples; the estimators themselves are tested in test_estimators and test_call_effects."""

import ibis
import numpy as np
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend
from scipy.special import logit

from bandicoot_core.contracts import ACTIVE_TUPLE, BY_FEATURES, BY_HISTORY, PASSIVE_TUPLE
from bandicoot_core.engagement.counts import RECENT_ACTIVE_TUPLE, RECENT_PASSIVE_TUPLE
from bandicoot_core.evaluation.simulated_programmes import simulate_programme
from bandicoot_core.model.chances import RECENT_TUPLE, fit_chances, member_tuples, pooled_counts
from bandicoot_core.model.transitions import cell_arrays

NAMES = (*PASSIVE_TUPLE, *ACTIVE_TUPLE)
TYPES = np.array([[[0.10, 0.40], [0.60, 0.80]], [[0.40, 0.50], [0.85, 0.90]], [[0.03, 0.10], [0.30, 0.35]]])


def counts_of(*rows: tuple[float, ...], recent: bool = False) -> ibis.Table:
    """Rows of caregiver_key and 8 counts, and with `recent` 8 weighted ones."""
    names = ("caregiver_key", *NAMES, *(RECENT_TUPLE if recent else ()))
    return ibis.memtable(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}))


def assignments_of(*rows: tuple[int, int, str]) -> ibis.Table:
    names = ("caregiver_key", "cluster_id", "assigned_by")
    return ibis.memtable(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}))


def rows_of(engine: Backend, table: ibis.Table) -> list[tuple[object, ...]]:
    return sorted(tuple(row.values()) for row in engine.to_pyarrow(table).to_pylist())


def test_caregivers_with_equal_counts_cluster_and_assignment_are_one_row(engine: Backend) -> None:
    counts = counts_of(
        (1, 5, 1, 1, 0, 0, 0, 1, 0), (2, 5, 1, 1, 0, 0, 0, 1, 0), (3, 5, 1, 1, 0, 0, 0, 0, 1), (9, *[7] * 8)
    )
    assignments = assignments_of((1, 0, BY_HISTORY), (2, 0, BY_HISTORY), (3, 0, BY_HISTORY), (4, 1, BY_FEATURES))
    assert rows_of(engine, member_tuples(counts, assignments)) == [
        (0, 0, 0, 0, 0, 0, 0, 0, 1, BY_FEATURES, 1),  # without counts
        (5, 1, 1, 0, 0, 0, 0, 1, 0, BY_HISTORY, 1),
        (5, 1, 1, 0, 0, 0, 1, 0, 0, BY_HISTORY, 2),
    ]


def test_weighted_weeks_are_summed_over_the_caregivers_of_a_row(engine: Backend) -> None:
    weeks = (5, 1, 1, 0, 0, 0, 1, 0)
    counts = counts_of(
        (1, *weeks, 2.5, 0.5, 0.25, 0.0, 0.0, 0.0, 1.0, 0.0),
        (2, *weeks, 2.5, 0.25, 0.5, 0.0, 0.0, 0.0, 0.5, 0.0),
        recent=True,
    )
    assignments = assignments_of((1, 0, BY_HISTORY), (2, 0, BY_HISTORY))
    tuples = engine.to_pyarrow(member_tuples(counts, assignments))
    assert [tuples[name].to_pylist() for name in RECENT_TUPLE] == [[5], [0.75], [0.75], [0], [0], [0], [1.5], [0]]
    assert pooled_counts(tuples, 1)[0].tolist() == [[[2, 0], [2, 0]], [[10, 2], [0, 0]]]
    assert pooled_counts(tuples, 1, is_weighted=True)[0].tolist() == [[[0.75, 0], [1.5, 0]], [[5, 0.75], [0, 0]]]


def programme_tuples() -> tuple[pa.Table, pa.Table]:
    random = np.random.default_rng(1)
    drawn = simulate_programme(
        TYPES, np.full(3, 1 / 3), random, n_caregivers=4000, n_active=80, n_clusters=8, spread=0.2
    )
    return drawn.tuples, drawn.clusters


def weighted(tuples: pa.Table, factor: dict[str, float]) -> pa.Table:
    """The rows with sums of weighted weeks, each count times its factor (1 where none is given)."""
    n = tuples["n_caregivers"].to_numpy()
    for name, recent in zip(NAMES, RECENT_TUPLE, strict=True):
        tuples = tuples.append_column(recent, pa.array(factor.get(name, 1.0) * n * tuples[name].to_numpy()))
    return tuples


@pytest.mark.parametrize("estimator", ["joint", "common_lift", "laplace"])
def test_weights_of_one_change_nothing(estimator: str) -> None:
    tuples, clusters = programme_tuples()
    plain = fit_chances(tuples, clusters, estimator=estimator, interval=0.9).transitions
    same = fit_chances(weighted(tuples, {}), clusters, estimator=estimator, interval=0.9).transitions
    for name in ("p_next_r", "n_to_r", "n_to_u"):
        assert cell_arrays(same, name) == pytest.approx(cell_arrays(plain, name))


@pytest.mark.parametrize("estimator", ["joint", "common_lift"])
def test_recent_weeks_move_the_chances_of_clusters_and_leave_counts_and_types_alone(estimator: str) -> None:
    tuples, clusters = programme_tuples()
    plain = fit_chances(tuples, clusters, estimator=estimator, interval=0.9)
    # Lately half as many weeks of either action led from U to R.
    later = fit_chances(
        weighted(tuples, {"n_ur": 0.5, "n_active_ur": 0.5}), clusters, estimator=estimator, interval=0.9
    )
    change = logit(cell_arrays(later.transitions, "p_next_r")) - logit(cell_arrays(plain.transitions, "p_next_r"))
    # The odds fall by half, active ones as far as they are not shrunk; cluster 7 is hardly ever in U.
    assert change[:7, 0, 0] == pytest.approx(np.full(7, np.log(0.5)), abs=0.08)
    assert (change[:7, 0, 1] < -0.2).all()
    assert (change[7, 0] < 0).all()
    assert np.abs(change[:, 1]).max() < 0.15
    for name in ("n_to_r", "n_to_u"):
        assert np.array_equal(cell_arrays(later.transitions, name), cell_arrays(plain.transitions, name))
    of_types = [fitted.types.p_passive @ fitted.types.share for fitted in (later, plain)]
    assert of_types[0] == pytest.approx(of_types[1], abs=0.01)


def test_old_weeks_that_weigh_little_leave_less_certainty() -> None:
    tuples, clusters = programme_tuples()
    plain = fit_chances(tuples, clusters, estimator="joint", interval=0.9).transitions
    faded = fit_chances(weighted(tuples, dict.fromkeys(NAMES, 0.05)), clusters, estimator="joint", interval=0.9)
    ratio = cell_arrays(faded.transitions, "n_effective") / cell_arrays(plain, "n_effective")
    assert (ratio[..., 1] < 0.8).all()
    assert ratio[..., 0].min() < 0.8


def test_the_weighted_columns_are_named_like_the_counts() -> None:
    assert (RECENT_PASSIVE_TUPLE[2], RECENT_ACTIVE_TUPLE[0]) == ("recent_ur", "recent_active_rr")
