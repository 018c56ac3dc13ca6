"""The features-only mapper: registry features -> cluster, for caregivers without enough history of their own.

Here: the fit, its held-out report, and predictions. Not here: which caregivers need it and the training table
(`assignment`), nor the bytes it is stored as (`mapper_file`).

The mapper is a multinomial logistic regression on standardized age and parity and one column per category. On
simulated programmes of 20,000 and 200,000 caregivers gradient-boosted trees and splines of age and parity had no lower
held-out log loss and took two to six times as long. If the regression does not beat the plain shares of the clusters
on held-out rows, the shares are used instead: everybody without history then goes to the largest cluster.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from bandicoot_core.checks import Fact
from bandicoot_core.contracts import CAREGIVERS
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.model.assignment import FEATURE_COLUMNS, mapper_training
from bandicoot_core.model.mapper_file import dump_pipeline, load_pipeline
from bandicoot_core.model.posterior import FloatArray

__all__ = [
    "FEATURE_COLUMNS",
    "MapperFit",
    "dump_mapper",
    "fit_mapper",
    "load_mapper",
    "mapper_training",
    "predict_clusters",
]

_NUMBERS = ["age", "parity"]
_CATEGORIES = ["district", "phone_reliable", "enrollment_source"]
_NOT_RECORDED = "(not recorded)"
_HELD_OUT_OF = 5
# A chance of zero for what then happens would make the log loss infinite.
_SMALLEST_CHANCE = 1e-6

Kind = Literal["logistic regression", "cluster shares"]


@dataclass(frozen=True)
class MapperFit:
    """The fitted pipeline and how well features tell the cluster."""

    pipeline: Pipeline
    report: Mapping[str, Fact | None]
    """JSON-ready: mapping ("logistic regression" or "cluster shares") and the reason for it, n_rows, n_caregivers,
    n_held_out_caregivers, and on the held-out rows, weighted by caregivers, accuracy and log_loss (nats) of the
    regression, baseline_accuracy and baseline_log_loss of the cluster shares of the other rows. Those four are None
    when nothing could be held out."""


def fit_mapper(training: pa.Table, *, seed: int) -> MapperFit:
    """The mapper, fitted on all rows after a comparison with the baseline on held-out rows.

    One feature row in five is held out, by the md5 of its values, together with every cluster it occurs with. The
    result depends neither on the order of the rows nor on the number of cores.

    Parameters
    ----------
    training : table with FEATURE_COLUMNS, cluster_id, n_caregivers
        Output of `mapper_training`; any feature may be null.
    seed : int
        Of the estimators, which do not draw with the present solver.

    Raises
    ------
    InvalidInputError
        When `training` has no rows: nobody has a history to learn from.
    """
    if training.num_rows == 0:
        raise InvalidInputError(
            "features_only_mapper: no caregiver has enough passive weeks to be assigned by her own history, so there "
            "is nothing to learn from; wait for more weeks of history, lengthen the window "
            "(BANDICOOT_TRAINING_WEEKS) or lower BANDICOOT_MIN_PASSIVE_WEEKS"
        )
    training = training.sort_by([(name, "ascending") for name in (*FEATURE_COLUMNS, "cluster_id")])
    features = _feature_frame(training)
    clusters = np.asarray(training["cluster_id"].to_numpy(), dtype=np.int64)
    weights = np.asarray(training["n_caregivers"].to_numpy(), dtype=np.float64)
    kind, report = _compare(features, clusters, weights, seed)
    pipeline = _fitted(kind, features, clusters, weights, seed)
    return MapperFit(pipeline, report)


def predict_clusters(pipeline: Pipeline, feature_rows: pa.Table) -> pa.Table:
    """The most probable cluster of each feature row, and how probable it is.

    Returns the distinct FEATURE_COLUMNS, sorted, with cluster_id (int16; of equals the lowest) and p_cluster.
    Categories that the mapper was not trained on count as none of those it knows; an unrecorded number as the
    median, with its own effect if any was unrecorded in training.
    """
    rows = feature_rows.select(FEATURE_COLUMNS).cast(
        pa.schema([(name, CAREGIVERS.column(name).arrow_type) for name in FEATURE_COLUMNS])
    )
    rows = rows.group_by(list(FEATURE_COLUMNS), use_threads=False).aggregate([])
    rows = rows.sort_by([(name, "ascending") for name in FEATURE_COLUMNS])
    clusters = np.empty(0, dtype=np.int16)
    chances = np.empty(0)
    if rows.num_rows:
        with threadpool_limits(limits=1):
            p = pipeline.predict_proba(_feature_frame(rows))
        clusters = pipeline.classes_[p.argmax(axis=1)].astype(np.int16)
        chances = p.max(axis=1)
    return rows.append_column("cluster_id", pa.array(clusters)).append_column("p_cluster", pa.array(chances))


def dump_mapper(fit: MapperFit) -> bytes:
    """The fitted pipeline as bytes that hold no code; equal fits give equal bytes."""
    return dump_pipeline(fit.pipeline)


def load_mapper(content: bytes) -> Pipeline:
    """The pipeline from `dump_mapper`; CorruptPartitionError when the bytes are anything else."""
    return load_pipeline(content)


def _feature_frame(table: pa.Table) -> pd.DataFrame:
    frame = table.select(FEATURE_COLUMNS).to_pandas()
    for name in _NUMBERS:
        frame[name] = frame[name].astype("float64")
    for name in _CATEGORIES:
        column = frame[name].astype("object")
        frame[name] = column.where(column.notna(), _NOT_RECORDED).map(str).astype("object")
    return frame


def _compare(
    features: pd.DataFrame, clusters: npt.NDArray[np.int64], weights: FloatArray, seed: int
) -> tuple[Kind, dict[str, Fact | None]]:
    is_held_out = _held_out(features)
    known, n_known = clusters[~is_held_out], len(np.unique(clusters[~is_held_out]))
    kind: Kind = "cluster shares"
    accuracy = log_loss = baseline_accuracy = baseline_log_loss = None
    if len(np.unique(clusters)) == 1:
        reason = "there is only one cluster"
    elif n_known < 2 or not is_held_out.any():
        reason = f"{len(clusters)} rows of features and cluster are too few to hold any out"
    else:
        seen, unseen = features[~is_held_out], features[is_held_out]
        truth, weight = clusters[is_held_out], weights[is_held_out]
        logistic = _fitted("logistic regression", seen, known, weights[~is_held_out], seed)
        shares = _fitted("cluster shares", seen, known, weights[~is_held_out], seed)
        accuracy, log_loss = _score(logistic, unseen, truth, weight)
        baseline_accuracy, baseline_log_loss = _score(shares, unseen, truth, weight)
        comparison = f"held-out log loss {log_loss:.4f} against {baseline_log_loss:.4f} of the cluster shares"
        if log_loss < baseline_log_loss:
            kind, reason = "logistic regression", f"features help: {comparison}"
        else:
            reason = f"features do not help: {comparison}"
    return kind, {
        "mapping": kind,
        "reason": reason,
        "n_rows": len(clusters),
        "n_caregivers": int(weights.sum()),
        "n_held_out_caregivers": int(weights[is_held_out].sum()),
        "accuracy": accuracy,
        "log_loss": log_loss,
        "baseline_accuracy": baseline_accuracy,
        "baseline_log_loss": baseline_log_loss,
    }


def _held_out(features: pd.DataFrame) -> npt.NDArray[np.bool_]:
    rows = features.astype("str").agg("\x1f".join, axis=1)
    digests = [hashlib.md5(row.encode(), usedforsecurity=False).digest() for row in rows]
    return np.array([int.from_bytes(digest[:8], "big") % _HELD_OUT_OF == 0 for digest in digests])


def _fitted(
    kind: Kind,
    features: pd.DataFrame,
    clusters: npt.NDArray[np.int64],
    weights: FloatArray,
    seed: int,
) -> Pipeline:
    numbers = Pipeline(
        [
            ("impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)),
            ("standardize", StandardScaler()),
        ]
    )
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    estimator = (
        LogisticRegression(max_iter=1000, random_state=seed)
        if kind == "logistic regression"
        else DummyClassifier(strategy="prior", random_state=seed)
    )
    pipeline = Pipeline(
        [
            (
                "encode",
                ColumnTransformer([("numbers", numbers, _NUMBERS), ("categories", categories, _CATEGORIES)]),
            ),
            ("classify", estimator),
        ]
    )
    with threadpool_limits(limits=1):
        return pipeline.fit(features, clusters, classify__sample_weight=weights)


def _score(
    pipeline: Pipeline, features: pd.DataFrame, truth: npt.NDArray[np.int64], weights: FloatArray
) -> tuple[float, float]:
    p = pipeline.predict_proba(features)
    positions = np.searchsorted(pipeline.classes_, truth).clip(max=len(pipeline.classes_) - 1)
    is_known = pipeline.classes_[positions] == truth
    p_truth = np.where(is_known, p[np.arange(len(truth)), positions], 0.0).clip(min=_SMALLEST_CHANCE)
    is_right = pipeline.classes_[p.argmax(axis=1)] == truth
    return float(np.average(is_right, weights=weights)), float(-np.average(np.log(p_truth), weights=weights))
