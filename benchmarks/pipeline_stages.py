"""The weekly training and the nightly compute as the pipeline runs them, partitions written.

Stages for `python -m benchmarks.pipeline_stages <stage> <case>`, on a lake only: what PostgreSQL adds is measured in
`publishing`, and whole runs in `command_line`. The engine's part alone is in `counting`.
"""

import sys
import time
from functools import partial

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import (
    BEHAVIOURAL_TYPES,
    CAREGIVER_STATES,
    CLUSTER_ASSIGNMENTS,
    CLUSTER_TYPES,
    TRANSITION_MODELS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
)
from bandicoot_core.model.behavioural_types import BehaviouralTypes
from bandicoot_core.pipeline.engagement import (
    materialize_caregiver_states,
    materialize_engagement_history,
    materialize_passive_counts,
)
from bandicoot_core.pipeline.training import (
    MIXES,
    TYPES,
    materialize_cluster_assignments,
    materialize_clusters,
    materialize_features_only_mapper,
    materialize_transition_models,
    materialize_whittle_indices,
)
from bandicoot_core.policy.call_list import ListInputs, draw_call_list
from bandicoot_core.policy.top_k import IndexPosterior
from bandicoot_core.settings import ListOptions, ModelOptions
from bandicoot_core.stores.installation import Installation
from benchmarks.data import LAST_DAY, LIST_DATE, TRAINING_WEEKS, WEEK, installation_of
from benchmarks.measure import Case, Measured, Outcome, repeat, serve

OPTIONS = ModelOptions(training_weeks=TRAINING_WEEKS)


def training(case: Case) -> Measured:
    """The weekly training as the pipeline runs it, partitions written: from events to Whittle indices.

    Facts: the seconds of each step in the last repetition.
    """
    stores, options = installation_of(case), OPTIONS
    steps = {
        "engagement_history": partial(materialize_engagement_history, stores, WEEK, options),
        "passive_counts": partial(materialize_passive_counts, stores, WEEK),
        "clusters": partial(materialize_clusters, stores, WEEK, options),
        "features_only_mapper": partial(materialize_features_only_mapper, stores, WEEK, options),
        "cluster_assignments": partial(materialize_cluster_assignments, stores, WEEK, options),
        "transition_models": partial(materialize_transition_models, stores, WEEK, options),
        "whittle_indices": partial(materialize_whittle_indices, stores, WEEK, options),
    }

    def work() -> Outcome:
        seconds: dict[str, float] = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name] = time.perf_counter() - start
        return Outcome(stores.lake.require("cluster_assignments", WEEK.isoformat()).n_rows(), seconds)

    return repeat(work, repeats=case.repeats)


def nightly(case: Case) -> Measured:
    """The nightly compute: the states of all caregivers, written to the lake, and the list drawn from them.

    Public ids are made from keys instead of being read from PostgreSQL. Facts: the seconds of both parts in the last
    repetition. Needs the partitions that `training` writes.
    """
    stores = installation_of(case)

    def work() -> Outcome:
        start = time.perf_counter()
        manifest = materialize_caregiver_states(stores, LAST_DAY)
        seconds = {"caregiver_states": time.perf_counter() - start}
        n_listed = _draw(stores).num_rows
        seconds["call_list"] = time.perf_counter() - start - seconds["caregiver_states"]
        return Outcome(manifest.n_rows(), {**seconds, "n_listed": n_listed})

    return repeat(work, repeats=case.repeats)


def _draw(stores: Installation) -> pa.Table:
    key = WEEK.isoformat()
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        inputs = ListInputs(
            states=reader.scan(CAREGIVER_STATES, "caregiver_states", [LAST_DAY.isoformat()]),
            assignments=reader.scan(CLUSTER_ASSIGNMENTS, "cluster_assignments", [key]),
            pending=ibis.memtable(pa.table({"caregiver_key": pa.array(range(1, 301), pa.int64())})),
            indices=reader.scan(WHITTLE_INDICES, "whittle_indices", [key]),
            tuple_indices=reader.scan(TUPLE_INDICES, "whittle_indices", [key], "tuple_indices"),
            index_posterior=IndexPosterior(
                stores.lake.read(TRANSITION_MODELS, "transition_models", key),
                BehaviouralTypes.from_tables(
                    stores.lake.read(BEHAVIOURAL_TYPES, "transition_models", key, TYPES),
                    stores.lake.read(CLUSTER_TYPES, "transition_models", key, MIXES),
                ),
                discount=OPTIONS.discount,
                seed=OPTIONS.model_seed,
            ),
        )
        return draw_call_list(
            inputs,
            _public_ids,
            call_date=LIST_DATE,
            options=ListOptions(),
            model_version="measured",
            lookback_days=stores.settings.lookback_days,
        ).call_list


def _public_ids(keys: pa.Array) -> pa.Table:
    digits = pc.utf8_lpad(pc.subtract(keys, 1).cast(pa.string()), width=6, padding="0")
    return pa.table({"caregiver_key": keys, "caregiver_id": pc.binary_join_element_wise("CG", digits, "-")})


STAGES = (training, nightly)

if __name__ == "__main__":
    serve(STAGES, sys.argv[1:])
