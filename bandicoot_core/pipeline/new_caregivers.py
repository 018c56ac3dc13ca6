"""Which cluster caregivers without history would be in, by their registry features alone, and when they may be called.

The mapper is the one in the champion's bundle, so the answer is what the next assignment would say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
from sklearn.pipeline import Pipeline

from bandicoot_core.calendar import day_of
from bandicoot_core.contracts import CAREGIVERS
from bandicoot_core.model.assignment import FEATURE_COLUMNS
from bandicoot_core.model.mapper import load_mapper, predict_clusters
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.training import MAPPER_FILE
from bandicoot_core.stores.installation import Installation


@dataclass(frozen=True)
class NewAssignment:
    """One caregiver's cluster."""

    cluster_id: int
    p_cluster: float
    """How sure the mapper is."""
    warm_up_end_date: date
    """First IST day on which she may be called."""


def mapper_of(stores: Installation, model_version: str) -> Pipeline:
    """The mapper of a stored model; MissingPartitionError when the lake has none of that version."""
    return load_mapper(stores.lake.read_bytes(BUNDLES, model_version, MAPPER_FILE))


def assign_by_features(
    mapper: Pipeline, caregivers: Sequence[Mapping[str, Any]], enrolled_at: Sequence[datetime], *, warm_up_weeks: int
) -> list[NewAssignment]:
    """The cluster of each caregiver, in their order; features (FEATURE_COLUMNS) may be missing or None.

    `enrolled_at` are aware instants. Each distinct row of features is predicted once.
    """
    fields = [(name, CAREGIVERS.column(name).arrow_type) for name in FEATURE_COLUMNS]
    rows = pa.Table.from_pylist(
        [{name: row.get(name) for name in FEATURE_COLUMNS} for row in caregivers], pa.schema(fields)
    )
    predicted = {
        tuple(row[name] for name in FEATURE_COLUMNS): row for row in predict_clusters(mapper, rows).to_pylist()
    }
    found = [predicted[tuple(row[name] for name in FEATURE_COLUMNS)] for row in rows.to_pylist()]
    return [
        NewAssignment(int(row["cluster_id"]), float(row["p_cluster"]), warm_up_end(moment, warm_up_weeks))
        for row, moment in zip(found, enrolled_at, strict=True)
    ]


def warm_up_end(enrolled_at: datetime, warm_up_weeks: int) -> date:
    """The first day after a warm-up: so many weeks after the IST day of enrolment, as engagement.states has it."""
    return date.fromordinal(day_of(enrolled_at).toordinal() + 7 * warm_up_weeks)
