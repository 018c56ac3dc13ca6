import hashlib
import os
import subprocess
import sys
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bandicoot_core.errors import InvalidInputError
from bandicoot_core.model.mapper import (
    FEATURE_COLUMNS,
    dump_mapper,
    fit_mapper,
    load_mapper,
    predict_clusters,
)

SCHEMA = pa.schema(
    [
        ("age", pa.int16()),
        ("district", pa.string()),
        ("parity", pa.int16()),
        ("phone_reliable", pa.bool_()),
        ("enrollment_source", pa.string()),
    ]
)


def feature_rows(*rows: tuple[object, ...]) -> pa.Table:
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(SCHEMA.names)}, schema=SCHEMA)


def training_table(n_rows: int = 3000, *, seed: int = 0, is_informative: bool = True) -> pa.Table:
    """Feature rows of three clusters: 2 is remote, 1 has many children, 0 the rest; with some values missing."""
    random = np.random.default_rng(seed)
    age = random.integers(16, 45, n_rows)
    parity = random.integers(0, 7, n_rows)
    district = random.choice(["Gaya", "Patna", "Gadchiroli"], n_rows)
    score = np.stack([np.zeros(n_rows), 1.5 * (parity - 4), 6.0 * (district == "Gadchiroli") - 3], axis=-1)
    drawn = (score * is_informative + random.gumbel(size=score.shape)).argmax(axis=1)
    rows = pa.table(
        {
            "age": pa.array(age, pa.int16(), mask=random.random(n_rows) < 0.05),
            "district": pa.array(district),
            "parity": pa.array(parity, pa.int16()),
            "phone_reliable": pa.array(random.random(n_rows) < 0.8, mask=random.random(n_rows) < 0.1),
            "enrollment_source": pa.array(random.choice(["self", "hospital"], n_rows)),
            "cluster_id": pa.array(drawn, pa.int16()),
            "n_caregivers": pa.array(np.ones(n_rows, dtype=np.int64)),
        }
    )
    grouped = rows.group_by([*FEATURE_COLUMNS, "cluster_id"], use_threads=False).aggregate([("n_caregivers", "sum")])
    return grouped.rename_columns([*FEATURE_COLUMNS, "cluster_id", "n_caregivers"])


def test_features_that_tell_the_cluster_beat_the_baseline_on_held_out_rows() -> None:
    fit = fit_mapper(training_table(), seed=7)
    report = fit.report
    assert report["mapping"] == "logistic regression"
    assert report["n_caregivers"] == 3000
    assert 400 < report["n_held_out_caregivers"] < 800
    # Whoever knows the simulation reaches 0.407 nats and 84% right; the cluster shares give 1.080 nats and 42%.
    assert report["log_loss"] == pytest.approx(0.407, abs=0.06)
    assert report["accuracy"] == pytest.approx(0.84, abs=0.05)
    assert report["baseline_log_loss"] == pytest.approx(1.080, abs=0.06)
    assert report["baseline_accuracy"] == pytest.approx(0.42, abs=0.06)


def test_predictions_follow_the_features() -> None:
    fit = fit_mapper(training_table(), seed=7)
    rows = feature_rows(
        (30, "Patna", 0, True, "self"),
        (30, "Patna", 6, True, "self"),
        (30, "Gadchiroli", 0, True, "self"),
    )
    predictions = predict_clusters(fit.pipeline, rows)
    assert predictions.column_names == [*FEATURE_COLUMNS, "cluster_id", "p_cluster"]
    found = {(row["district"], row["parity"]): row["cluster_id"] for row in predictions.to_pylist()}
    assert found == {("Patna", 0): 0, ("Patna", 6): 1, ("Gadchiroli", 0): 2}
    assert all(0.6 < p <= 1 for p in predictions["p_cluster"].to_pylist())


def test_features_that_tell_nothing_give_way_to_the_cluster_shares() -> None:
    training = training_table(1500, seed=1, is_informative=False)
    fit = fit_mapper(training, seed=7)
    assert fit.report["mapping"] == "cluster shares"
    assert "features do not help: held-out log loss" in fit.report["reason"]
    sizes = np.bincount(training["cluster_id"].to_numpy(), training["n_caregivers"].to_numpy())
    prediction = predict_clusters(fit.pipeline, feature_rows((30, "Patna", 0, True, "self"))).to_pylist()[0]
    assert prediction["cluster_id"] == sizes.argmax()
    assert prediction["p_cluster"] == pytest.approx(sizes.max() / sizes.sum())


def test_unknown_and_missing_values_are_predicted_without_a_warning() -> None:
    fit = fit_mapper(training_table(), seed=7)
    rows = feature_rows((None, None, None, None, None), (60, "Atlantis", 20, None, "carrier pigeon"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predictions = predict_clusters(fit.pipeline, rows)
    assert set(predictions["cluster_id"].to_pylist()) <= {0, 1, 2}


def test_one_cluster_is_everybodys_cluster() -> None:
    training = training_table(50).set_column(5, "cluster_id", pa.array([4] * training_table(50).num_rows, pa.int16()))
    fit = fit_mapper(training, seed=7)
    assert (fit.report["mapping"], fit.report["reason"]) == ("cluster shares", "there is only one cluster")
    assert fit.report["log_loss"] is None
    prediction = predict_clusters(fit.pipeline, feature_rows((None, None, None, None, None))).to_pylist()[0]
    assert (prediction["cluster_id"], prediction["p_cluster"]) == (4, 1.0)


def test_a_registry_without_any_features_gives_the_largest_cluster() -> None:
    rows = feature_rows(*[(None,) * 5] * 3)
    training = rows.append_column("cluster_id", pa.array([0, 1, 2], pa.int16()))
    fit = fit_mapper(training.append_column("n_caregivers", pa.array([5, 9, 7])), seed=7)
    assert fit.report["mapping"] == "cluster shares"
    assert "too few to hold any out" in fit.report["reason"]
    assert predict_clusters(fit.pipeline, feature_rows((30, "Patna", 0, True, "self")))["cluster_id"].to_pylist() == [1]


def test_nothing_to_learn_from_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidInputError, match=r"features_only_mapper: no caregiver has enough.*MIN_PASSIVE_WEEKS"):
        fit_mapper(training_table(10).slice(0, 0), seed=7)


def test_weights_count_like_repeated_caregivers() -> None:
    training = training_table(1000)
    repeated = training.take(np.repeat(np.arange(training.num_rows), training["n_caregivers"].to_numpy()))
    repeated = repeated.set_column(6, "n_caregivers", pa.array(np.ones(repeated.num_rows, dtype=np.int64)))
    weighted, single = fit_mapper(training, seed=7).report, fit_mapper(repeated, seed=7).report
    assert weighted["n_caregivers"] == single["n_caregivers"]
    assert weighted["n_held_out_caregivers"] == single["n_held_out_caregivers"]
    assert weighted["log_loss"] == pytest.approx(single["log_loss"], abs=0.02)


@settings(max_examples=5, deadline=None, derandomize=True)
@given(st.integers(0, 1000))
def test_the_order_of_the_rows_changes_nothing(seed: int) -> None:
    training = training_table(400)
    order = np.random.default_rng(seed).permutation(training.num_rows)
    fit, shuffled = fit_mapper(training, seed=7), fit_mapper(training.take(order), seed=7)
    assert shuffled.report == fit.report
    assert dump_mapper(shuffled) == dump_mapper(fit)
    rows = training.select(FEATURE_COLUMNS)
    assert predict_clusters(fit.pipeline, rows.take(order)) == predict_clusters(fit.pipeline, rows)


def test_repeated_feature_rows_are_predicted_once_in_order() -> None:
    fit = fit_mapper(training_table(400), seed=7)
    rows = feature_rows(
        (30, "Patna", 0, True, "self"), (None, "Patna", 0, True, "self"), (30, "Patna", 0, True, "self")
    )
    assert predict_clusters(fit.pipeline, rows)["age"].to_pylist() == [30, None]


def test_no_feature_rows_give_an_empty_table_of_the_same_columns() -> None:
    fit = fit_mapper(training_table(400), seed=7)
    empty = predict_clusters(fit.pipeline, feature_rows())
    assert empty.num_rows == 0
    assert empty.schema == predict_clusters(fit.pipeline, feature_rows((30, "Patna", 0, True, "self"))).schema


def test_a_mapper_predicts_the_same_after_storage() -> None:
    fit = fit_mapper(training_table(), seed=7)
    rows = training_table(seed=5).select(FEATURE_COLUMNS)
    restored = load_mapper(dump_mapper(fit))
    assert predict_clusters(restored, rows) == predict_clusters(fit.pipeline, rows)


_PRINT_DIGEST = """
import hashlib
import sys
sys.path.insert(0, sys.argv[1])
from test_mapper import training_table
from bandicoot_core.model.mapper import dump_mapper, fit_mapper
padding = [object() for _ in range(int(sys.argv[2]))]
print(hashlib.sha256(dump_mapper(fit_mapper(training_table(), seed=7))).hexdigest())
"""


@pytest.mark.parametrize("n_threads", [1, 2])
def test_another_process_writes_the_same_bytes(request: pytest.FixtureRequest, n_threads: int) -> None:
    here = hashlib.sha256(dump_mapper(fit_mapper(training_table(), seed=7))).hexdigest()
    there = subprocess.run(
        [sys.executable, "-c", _PRINT_DIGEST, str(request.path.parent), str(1000 * n_threads)],
        capture_output=True,
        text=True,
        check=True,
        cwd=request.config.rootpath,
        # The rest of the environment stays: it may choose the processor's arithmetic, and with it the last digit.
        env=os.environ
        | {"OMP_NUM_THREADS": str(n_threads), "OPENBLAS_NUM_THREADS": str(n_threads), "PYTHONHASHSEED": "random"},
    )
    assert there.stdout.strip() == here
