from itertools import product
from typing import Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import ACTIVE_TUPLE, CLUSTER_ASSIGNMENTS, PASSIVE_TUPLE, conform
from bandicoot_core.model.assignment import (
    FEATURE_COLUMNS,
    assigned_by_history,
    cluster_assignments,
    features_without_history,
    mapper_training,
)
from bandicoot_core.stores.engine import open_engine

FEATURE_TYPES = {
    "age": pa.int16(),
    "district": pa.string(),
    "parity": pa.int16(),
    "phone_reliable": pa.bool_(),
    "enrollment_source": pa.string(),
}


def caregivers_of(*rows: tuple[Any, ...]) -> ibis.Table:
    """Rows of caregiver_key and the five features."""
    columns = {"caregiver_key": pa.array([row[0] for row in rows], pa.int64())}
    for i, (name, kind) in enumerate(FEATURE_TYPES.items(), start=1):
        columns[name] = pa.array([row[i] for row in rows], kind)
    return ibis.memtable(pa.table(columns))


def counts_of(*rows: tuple[int, ...]) -> ibis.Table:
    """Rows of caregiver_key, n_rr, n_ru, n_ur, n_uu; she was called twice for each passive week from R to R."""
    columns = {"caregiver_key": pa.array([row[0] for row in rows], pa.int64())}
    for i, name in enumerate(PASSIVE_TUPLE, start=1):
        columns[name] = pa.array([row[i] for row in rows], pa.int16())
    for name in ACTIVE_TUPLE:
        columns[name] = pa.array([2 * row[1] for row in rows], pa.int16())
    return ibis.memtable(pa.table(columns))


def predictions_of(*rows: tuple[Any, ...]) -> ibis.Table:
    """Rows of the five features and cluster_id."""
    columns = {name: pa.array([row[i] for row in rows], kind) for i, (name, kind) in enumerate(FEATURE_TYPES.items())}
    return ibis.memtable(pa.table({**columns, "cluster_id": pa.array([row[-1] for row in rows], pa.int16())}))


def history_of(*rows: tuple[int, int]) -> ibis.Table:
    """Rows of caregiver_key, cluster_id."""
    keys, clusters = [row[0] for row in rows], [row[1] for row in rows]
    return ibis.memtable(
        pa.table({"caregiver_key": pa.array(keys, pa.int64()), "cluster_id": pa.array(clusters, pa.int16())})
    )


TUPLE_CLUSTERS = ibis.memtable(
    pa.table(
        {
            **{name: pa.array(values, pa.int16()) for name, values in zip(
                PASSIVE_TUPLE, [[9, 1, 2], [1, 0, 0], [2, 1, 2], [0, 1, 0]], strict=True
            )},
            "cluster_id": pa.array([2, 0, 1], pa.int16()),
            "n_caregivers": [1, 1, 1],
        }
    )
)  # fmt: skip


def rows_of(engine: Backend, expression: ibis.Table, *order: str) -> list[tuple[Any, ...]]:
    table = engine.to_pyarrow(expression.order_by(list(order)))
    return [tuple(row.values()) for row in table.to_pylist()]


def test_caregivers_with_enough_weeks_get_the_cluster_of_their_tuple(engine: Backend) -> None:
    counts = counts_of((1, 9, 1, 2, 0), (2, 2, 0, 2, 0), (3, 1, 0, 1, 1), (4, 9, 9, 9, 9))
    # Caregiver 3 has 3 weeks, caregiver 4 a tuple the clusters were not fitted on.
    by_history = assigned_by_history(counts, TUPLE_CLUSTERS, min_passive_weeks=4)
    assert rows_of(engine, by_history, "caregiver_key") == [(1, 2), (2, 1)]
    assert by_history.columns == ("caregiver_key", "cluster_id")


def test_features_of_the_others_are_listed_once_nulls_included(engine: Backend) -> None:
    caregivers = caregivers_of(
        (1, 20, "Gaya", 1, True, "self"),
        (2, None, None, None, None, None),
        (3, None, None, None, None, None),
        (4, 20, "Gaya", 1, True, "self"),
        (5, 20, "Gaya", 1, None, "self"),
        (6, 33, "Patna", 1, None, "self"),
    )
    features = features_without_history(caregivers, history_of((6, 0), (1, 1)))
    assert rows_of(engine, features, "age", "phone_reliable") == [
        (20, "Gaya", 1, True, "self"),
        (20, "Gaya", 1, None, "self"),
        (None, None, None, None, None),
    ]


def test_training_rows_count_caregivers_per_features_and_cluster(engine: Backend) -> None:
    caregivers = caregivers_of(
        (1, 20, "Gaya", 1, True, "self"),
        (2, 20, "Gaya", 1, True, "self"),
        (3, 20, "Gaya", 1, True, "self"),
        (4, None, "Gaya", 1, True, None),
        (5, None, "Gaya", 1, True, None),
        (6, 41, "Gaya", 1, True, None),
    )
    training = mapper_training(caregivers, history_of((1, 0), (2, 0), (3, 1), (4, 1), (5, 1)))
    assert training.columns == (*FEATURE_COLUMNS, "cluster_id", "n_caregivers")
    assert rows_of(engine, training, "age", "cluster_id") == [
        (20, "Gaya", 1, True, "self", 0, 2),
        (20, "Gaya", 1, True, "self", 1, 1),
        (None, "Gaya", 1, True, None, 1, 2),
    ]


def test_every_caregiver_of_the_snapshot_is_assigned_once(engine: Backend) -> None:
    caregivers = caregivers_of(
        (1, 20, "Gaya", 1, True, "self"),
        (2, 20, "Gaya", 1, True, "self"),
        (3, None, None, None, None, None),
    )
    assignments = cluster_assignments(
        counts_of((1, 9, 1, 2, 0), (2, 0, 0, 1, 0), (7, 5, 5, 5, 5)),
        caregivers,
        history_of((1, 2)),
        predictions_of((20, "Gaya", 1, True, "self", 0), (None, None, None, None, None, 1)),
    )
    table = conform(engine.to_pyarrow(assignments), CLUSTER_ASSIGNMENTS)
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        (1, 2, "history", 9, 1, 2, 0, 18, 18, 18, 18),
        (2, 0, "features", 0, 0, 1, 0, 0, 0, 0, 0),
        (3, 1, "features", 0, 0, 0, 0, 0, 0, 0, 0),
    ]


def test_a_missing_feature_is_neither_an_empty_text_nor_another_value(engine: Backend) -> None:
    values: dict[str, list[Any]] = {
        "age": [None, 20],
        "district": [None, "", "none", "="],
        "parity": [None, 0],
        "phone_reliable": [None, False, True],
        "enrollment_source": [None, "", "none"],
    }
    features = list(product(*values.values()))
    caregivers = caregivers_of(*((key, *row) for key, row in enumerate(features, start=1)))
    predictions = predictions_of(*((*row, cluster) for cluster, row in enumerate(features)))
    assignments = cluster_assignments(counts_of(), caregivers, history_of(), predictions)
    found = rows_of(engine, assignments.select("caregiver_key", "cluster_id"), "caregiver_key")
    assert found == [(key, key - 1) for key in range(1, len(features) + 1)]


def test_repeated_predictions_do_not_repeat_caregivers(engine: Backend) -> None:
    row = (None, "Gaya", 1, True, "self", 4)
    assignments = cluster_assignments(
        counts_of(), caregivers_of((1, *row[:-1])), history_of(), predictions_of(row, row)
    )
    assert engine.to_pyarrow(assignments)["cluster_id"].to_pylist() == [4]


def test_a_caregiver_without_prediction_breaks_the_contract(engine: Backend) -> None:
    assignments = cluster_assignments(
        counts_of(),
        caregivers_of((1, 20, "Gaya", 1, True, "self")),
        history_of(),
        predictions_of((21, "Gaya", 1, True, "self", 0)),
    )
    with pytest.raises(ValueError, match=r"cluster_assignments.cluster_id: 1 nulls|cluster_id.*null"):
        conform(engine.to_pyarrow(assignments), CLUSTER_ASSIGNMENTS)


FEATURES = st.tuples(
    st.none() | st.integers(10, 12),
    st.none() | st.sampled_from(["Gaya", "Patna"]),
    st.none() | st.integers(0, 1),
    st.none() | st.booleans(),
    st.none() | st.sampled_from(["self", ""]),
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(FEATURES, min_size=1, max_size=12), st.sets(st.integers(1, 12)))
def test_the_parts_fit_together_for_any_snapshot(features: list[tuple[Any, ...]], with_history: set[int]) -> None:
    caregivers = caregivers_of(*((key, *row) for key, row in enumerate(features, start=1)))
    counts = counts_of(*((key, 9, 1, 2, 0) for key in sorted(with_history)))
    by_history = assigned_by_history(counts, TUPLE_CLUSTERS, min_passive_weeks=4)
    with open_engine(memory_limit="500MB", threads=1) as engine:
        missing = engine.to_pyarrow(features_without_history(caregivers, by_history))
        predictions = missing.append_column("cluster_id", pa.array(range(missing.num_rows), pa.int16()))
        assignments = cluster_assignments(counts, caregivers, by_history, ibis.memtable(predictions))
        table = conform(engine.to_pyarrow(assignments), CLUSTER_ASSIGNMENTS)
    cluster_of = {tuple(row.values())[:-1]: row["cluster_id"] for row in predictions.to_pylist()}
    assert [(row["caregiver_key"], row["cluster_id"], row["assigned_by"]) for row in table.to_pylist()] == [
        (key, 2, "history") if key in with_history else (key, cluster_of[row], "features")
        for key, row in enumerate(features, start=1)
    ]
