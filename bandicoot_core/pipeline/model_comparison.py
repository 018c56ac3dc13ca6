"""Two models side by side, for the caregivers as they are now: what was chosen, what was checked, and whom it moves.

Nothing is written. Whether a model is good enough is for its checks; how a picture looks, for evaluation.
"""

import json
from collections.abc import Mapping
from typing import Any

import ibis
import psycopg
import pyarrow as pa

from bandicoot_core.contracts import (
    ACTIVE_STATUS,
    ACTIVE_TUPLE,
    CAREGIVER_STATES,
    CLUSTER_ASSIGNMENTS,
    PASSIVE_TUPLE,
    TUPLE_INDICES,
    WHITTLE_INDICES,
)
from bandicoot_core.errors import InvalidInputError, MissingPartitionError
from bandicoot_core.evaluation.model_comparison import MOVED_BY, movement
from bandicoot_core.evaluation.model_comparison_charts import change_of_index
from bandicoot_core.evaluation.report import Report
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.list_basis import require_champion
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.reader import LakeReader
from bandicoot_core.stores.published.models import ModelRecord, find_model, list_models, read_indices
from bandicoot_core.stores.published.suppression import forgotten_keys

N_TOP = 100
"""How many of those worth most by each model are compared."""


def compare_models(stores: Installation, first_version: str = "", second_version: str = "") -> Report:
    """Two registered models compared over everybody of active status in the newest states.

    An empty first version is the champion, an empty second one the newest other. InvalidInputError when a version is
    unknown, both are the same, or there is no other; MissingPartitionError when states or a bundle are absent.
    """
    newest = max(stores.lake.partitions("caregiver_states"), default=None)
    if newest is None:
        raise MissingPartitionError("caregiver_states: no day is in the lake; materialize the job nightly first")
    with stores.published() as connection, stores.engine() as engine, stores.lake.reader(engine) as reader:
        first, second = _models(connection, first_version, second_version)
        indices = {model.model_version: read_indices(connection, model.model_version) for model in (first, second)}
        states = reader.scan(CAREGIVER_STATES, "caregiver_states", [newest])
        states = states.filter(states.status == ACTIVE_STATUS).anti_join(
            ibis.memtable(forgotten_keys(connection)), "caregiver_key"
        )
        moved = movement(
            _known(reader, states, first.model_version), _known(reader, states, second.model_version), n_top=N_TOP
        )
    n = moved.n_caregivers
    sentences = [
        f"{second.model_version} beside {first.model_version}, for {n:,} active caregivers at the end of {newest} who "
        "have a cluster in both."
    ]
    if n:
        sentences += [
            f"{moved.n_other_cluster / n:.1%} have another cluster number, and for {moved.n_other_index / n:.1%} their "
            f"own index moves by more than {MOVED_BY} responsive weeks.",
            f"Of the {moved.n_top} for whom a call is worth most by the first, {moved.n_top_in_both} are among the "
            f"{moved.n_top} of the second.",
        ]
    return Report(
        "Two models compared",
        sentences,
        {
            "Models": _side_by_side(
                {
                    model.model_version: {"status": model.status, "last week": model.training_week}
                    for model in (first, second)
                }
            ),
            "Options that differ": _side_by_side(
                {m.model_version: m.recipe for m in (first, second)}, is_differing=True
            ),
            "Checks": _side_by_side({m.model_version: _verdicts(m) for m in (first, second)}),
            "Index by state": _index_summary(indices),
            "Index by cluster and state": _all_indices(indices),
        },
        {"Change of index": change_of_index(moved.bins)} if n else {},
    )


def _models(connection: psycopg.Connection, first_version: str, second_version: str) -> tuple[ModelRecord, ModelRecord]:
    first = find_model(connection, first_version) if first_version else require_champion(connection)
    if second_version:
        second = find_model(connection, second_version)
    else:
        others = [model for model in list_models(connection) if model.model_version != first.model_version]
        if not others:
            raise InvalidInputError(
                f"second_version: {first.model_version} is the only model; train another week, then compare"
            )
        second = others[0]
    if first.model_version == second.model_version:
        raise InvalidInputError(f"second_version: both are {first.model_version}; name two different models")
    return first, second


def _known(reader: LakeReader, states: ibis.Table, version: str) -> ibis.Table:
    """caregiver_key, cluster_id and own_index of everybody to whom a model gives a cluster."""
    arm = (*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id", "state")
    assigned = reader.scan(CLUSTER_ASSIGNMENTS, BUNDLES, [version], "assignments")
    hers = states.select("caregiver_key", "state").inner_join(assigned, "caregiver_key")
    own = reader.scan(TUPLE_INDICES, BUNDLES, [version], "tuple_indices")
    return hers.inner_join(own, arm).select("caregiver_key", "cluster_id", "own_index")


def _verdicts(model: ModelRecord) -> dict[str, str]:
    return {
        name: f"{'passed' if check['is_passed'] else 'failed'}: {check['found']}"
        for name, check in model.checks.items()
    }


def _side_by_side(by_version: Mapping[str, Mapping[str, Any]], *, is_differing: bool = False) -> pa.Table:
    """Columns name, and one for each version, in words; only what differs when asked for."""
    names = sorted({name for values in by_version.values() for name in values})
    rows = [{"name": name, **{v: _words(values.get(name)) for v, values in by_version.items()}} for name in names]
    kept = [row for row in rows if not is_differing or len({row[version] for version in by_version}) > 1]
    schema = pa.schema([(name, pa.string()) for name in ("name", *by_version)])
    return pa.Table.from_pylist(kept, schema=schema)


def _words(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)


def _index_summary(indices: Mapping[str, pa.Table]) -> pa.Table:
    """Per model and state: n_clusters, and the lowest, mean and highest whittle_index of its clusters."""
    parts = []
    for version, table in indices.items():
        value = table.group_by("state").aggregate(
            [("whittle_index", "count"), *(("whittle_index", how) for how in ("min", "mean", "max"))]
        )
        renamed = value.rename_columns(["state", "n_clusters", "lowest", "mean", "highest"])
        parts.append(renamed.add_column(0, "model", pa.array([version] * renamed.num_rows, pa.string())))
    return pa.concat_tables(parts).sort_by([("state", "descending"), ("model", "ascending")])


def _all_indices(indices: Mapping[str, pa.Table]) -> pa.Table:
    columns = [name for name in WHITTLE_INDICES.column_names if name != "is_indexable"]
    return pa.concat_tables(
        table.select(columns).add_column(0, "model", pa.array([version] * table.num_rows, pa.string()))
        for version, table in indices.items()
    )
