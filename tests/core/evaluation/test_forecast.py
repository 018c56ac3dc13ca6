import ibis
import numpy as np
import pyarrow as pa
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import CLUSTER_ASSIGNMENTS, ENGAGEMENT_HISTORY
from bandicoot_core.evaluation.forecast import (
    cluster_rows,
    horizon_cells,
    horizon_groups,
    log_losses,
    population_chances,
    roll_forward,
)
from bandicoot_core.evaluation.lag_test import past_counts
from bandicoot_core.evaluation.visit_test import one_week_visits
from tests.core.evaluation.models import history_of

CHANCE = st.floats(0, 1)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(CHANCE, min_size=4, max_size=4), st.integers(0, 1), st.integers(0, 15))
def test_a_chain_rolled_forward_is_a_product_of_transition_matrices(chances: list[float], state: int, called: int):
    p = np.array(chances).reshape(2, 2)  # state [U, R], action
    row = np.eye(2)[state]
    expected = []
    for h in range(4):
        to_r = p[:, (called >> h) & 1]
        row = row @ np.stack([1 - to_r, to_r], axis=-1)
        expected.append(row[1])
    found = roll_forward(p[None], np.array([state]), np.array([called]), n_horizons=4)
    assert found[0] == pytest.approx(expected, abs=1e-12)


def test_the_first_week_ahead_is_the_chance_of_her_state_and_action():
    p = np.array([[[0.1, 0.2], [0.7, 0.9]]] * 4)
    state, called = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert roll_forward(p, state, called, n_horizons=1)[:, 0].tolist() == [0.1, 0.2, 0.7, 0.9]


def test_caregivers_alike_in_the_weeks_ahead_are_one_group(shared_engine: Backend):
    history = history_of(
        shared_engine,
        # Words read from the right: week 0 is the last digit. The origin is week 1, weeks 2 and 3 are ahead.
        (1, 0b01010, 0b00010, 0b11111),  # R called, then U, R
        (2, 0b11011, 0b10010, 0b11111),  # the same from week 1 to week 3
        (3, 0b00110, 0b00100, 0b11111),  # R, then R called, U
        (4, 0b00100, 0b00000, 0b11110),  # U, then R, U; enrolled before the origin week
        (5, 0b00100, 0b00000, 0b11100),  # not observed in the origin week
        (6, 0b01010, 0b00010, 0b11111),  # like 1, but in no cluster
    )
    labels = ibis.memtable(pa.table({"caregiver_key": [1, 2, 3, 4, 5], "cluster_id": [7, 7, 7, 8, 8]}))
    groups = horizon_groups(history, labels, origin=1, n_horizons=2)
    assert list(groups.columns) == ["cluster_id", "is_responsive", "called", "opened", "n_caregivers"]
    rows = sorted(tuple(row.values()) for row in groups.to_pyarrow().to_pylist() if row["cluster_id"] is not None)
    assert rows == [(7, 1, 0b01, 0b10, 2), (7, 1, 0b10, 0b01, 1), (8, 0, 0b00, 0b01, 1)]
    without = [row for row in groups.to_pyarrow().to_pylist() if row["cluster_id"] is None]
    assert [row["n_caregivers"] for row in without] == [1]


def test_groups_come_apart_by_horizon_with_the_calls_that_horizon_knows():
    groups = ibis.memtable(
        pa.table(
            {"cluster_id": [0, 0], "is_responsive": [1, 1], "called": [1, 3], "opened": [2, 0], "n_caregivers": [5, 3]}
        )
    )
    cells = (
        horizon_cells(groups, n_horizons=2).to_pyarrow().sort_by([("horizon", "ascending"), ("called", "ascending")])
    )
    names = ["horizon", "is_responsive", "called", "is_responsive_then", "n_caregivers"]
    assert [tuple(row.values()) for row in cells.select(names).to_pylist()] == [
        (1, 1, 1, 0, 8),  # what happens after the first week is one cell
        (2, 1, 1, 1, 5),
        (2, 1, 3, 0, 3),
    ]


@pytest.mark.parametrize("n_horizons", [0, 5])
def test_longer_patterns_than_four_weeks_are_refused(shared_engine: Backend, n_horizons: int):
    with pytest.raises(ValueError, match="expected 1 to 4"):
        horizon_groups(
            history_of(shared_engine), ibis.memtable({"caregiver_key": [1]}), origin=0, n_horizons=n_horizons
        )


def test_the_population_is_every_transition_with_one_success_and_one_failure(shared_engine: Backend):
    found = population_chances(history_of(shared_engine, (1, 0b0110, 0b0010, 0b1111), (2, 0b0000, 0b0000, 0b1100)))
    # U to R, R to R (called), R to U; U to U
    assert found.by_action == pytest.approx(np.array([[2 / 4, 1 / 2], [1 / 3, 2 / 3]]))
    assert found.by_state == pytest.approx(np.array([2 / 4, 2 / 4]))
    assert found.responsive_share == pytest.approx(3 / 6)


def test_a_loss_is_the_negative_logarithm_and_never_infinite():
    losses = log_losses(np.array([0.25, 0.25, 0.0, 1.0, np.nan]), np.array([1, 0, 1, 1, 0]))
    assert losses[:2] == pytest.approx([-np.log(0.25), -np.log(0.75)])
    assert losses[2:4] == pytest.approx([-np.log(1e-6), 0], abs=2e-6)
    assert np.isnan(losses[4])


def test_those_without_a_cluster_have_the_last_row_and_a_cluster_too_many_is_refused():
    assert cluster_rows(pa.table({"k": pa.array([1, None, 0], pa.int16())}), "k", 3).tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="clusters 0 to 3; the model has chances for 3"):
        cluster_rows(pa.table({"k": [0, 3]}), "k", 3)


@pytest.mark.parametrize("dialect", ["duckdb", "bigquery", "pyspark"])
@pytest.mark.parametrize("n_weeks", [10, 62])
def test_every_expression_compiles_to_sql_that_the_dialect_can_read(dialect: str, n_weeks: int):
    history = ibis.table(ibis.schema(ENGAGEMENT_HISTORY.arrow_schema()), name="history")
    labels = ibis.table(ibis.schema(CLUSTER_ASSIGNMENTS.arrow_schema()), name="labels")
    groups = horizon_groups(history, labels.select("caregiver_key", "cluster_id"), origin=n_weeks - 5, n_horizons=4)
    for expression in (
        groups,
        horizon_cells(groups, n_horizons=4),
        past_counts(history, labels, n_weeks=n_weeks, first_next_week=5),
        one_week_visits(history, n_weeks=n_weeks),
    ):
        sql = str(ibis.to_sql(expression, dialect=dialect))
        assert sqlglot.parse_one(sql, read="spark" if dialect == "pyspark" else dialect).find(sqlglot.exp.Select)
        assert "SHIFTLEFT" not in sql.upper()
