"""The call list of a day: made from states and champion, checked, and published in one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import ibis
import pyarrow as pa

from bandicoot_core.checks import CheckOutcome, blocking_failures
from bandicoot_core.contracts import (
    CALL_LIST,
    CAREGIVER_STATES,
    CAREGIVERS,
    CLUSTER_ASSIGNMENTS,
    CONTROL_ARM,
    TUPLE_INDICES,
    WHITTLE_INDICES,
)
from bandicoot_core.errors import CheckFailedError, InvalidSettingError, NoChampionError
from bandicoot_core.pipeline.promotion import BUNDLES, index_posterior
from bandicoot_core.policy.budgets import check_districts
from bandicoot_core.policy.call_list import DrawnList, ListInputs, draw_call_list
from bandicoot_core.policy.checks import list_checks
from bandicoot_core.settings import ListOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.keys import caregiver_ids_for
from bandicoot_core.stores.lake import LakeReader
from bandicoot_core.stores.manifest import Manifest
from bandicoot_core.stores.models import ModelRecord, champion
from bandicoot_core.stores.published import pending_keys, publish_call_list


@dataclass(frozen=True)
class MadeList:
    """A list in the lake, with what its readers and its checks want beside it."""

    drawn: DrawnList
    outcomes: tuple[CheckOutcome, ...]
    manifest: Manifest


def materialize_call_list(
    stores: Installation, call_date: date, options: ListOptions, *, as_of_day: date | None = None
) -> MadeList:
    """Make, check and keep the `call_list` partition of a day; publishing is another step.

    `as_of_day` is the day at whose end the states are taken, by default the day before the list.
    NoChampionError before the first promotion; MissingPartitionError when the states are absent; InvalidSettingError
    for an as-of day on or after the list's day, or an unknown district.
    """
    as_of_day = as_of_day or call_date - timedelta(days=1)
    if as_of_day >= call_date:
        raise InvalidSettingError(
            f"as_of_date: {as_of_day} is not before the list's day {call_date}; only the past is known"
        )
    with stores.published() as connection, stores.engine() as engine, stores.lake.reader(engine) as reader:
        model = champion(connection)
        if model is None:
            raise NoChampionError(
                "no model has been promoted yet; run the job weekly_training for the last closed week first"
            )
        pending = pending_keys(connection, call_date=call_date, pending_days=options.pending_days)
        inputs = _inputs(stores, reader, as_of_day, model, pending, options)
        drawn = draw_call_list(
            inputs,
            lambda keys: caregiver_ids_for(connection, keys),
            call_date=call_date,
            options=options,
            model_version=model.model_version,
            lookback_days=stores.settings.lookback_days,
        )
        outcomes = list_checks(
            drawn.call_list,
            state_counts=drawn.state_counts,
            n_eligible=drawn.n_eligible,
            control_keys=_control_keys(reader, as_of_day, drawn.call_list),
            options=options,
            call_date=call_date,
        )
        manifest = stores.lake.write(
            "call_list",
            call_date.isoformat(),
            {"data": (CALL_LIST, drawn.call_list)},
            inputs=reader.inputs,
            recipe={**options.model_dump(mode="json"), "as_of_date": as_of_day.isoformat()},
            facts=_facts(drawn, outcomes, model, options),
        )
    return MadeList(drawn, outcomes, manifest)


def materialize_published_call_list(
    stores: Installation, call_date: date, *, run_id: str, published_at: datetime
) -> int:
    """Publish the `call_list` partition of a day and the states it was made from, in one transaction.

    Returns the number of rows. CheckFailedError when a blocking check refused the list; the old list stays then.
    """
    key = call_date.isoformat()
    manifest = stores.lake.require("call_list", key)
    refusals = manifest.facts["refusals"]
    if refusals:
        raise CheckFailedError(
            f"the list of {call_date} was refused by its checks and is not published: {'; '.join(refusals)}"
        )
    call_list = stores.lake.read(CALL_LIST, "call_list", key)
    version = str(manifest.facts["model_version"])
    as_of_day = date.fromisoformat(manifest.recipe["as_of_date"])
    with stores.published() as connection, stores.engine() as engine, stores.lake.reader(engine) as reader:
        ids = caregiver_ids_for(connection, call_list["caregiver_key"])
        is_newest_knowledge = as_of_day == call_date - timedelta(days=1)
        return publish_call_list(
            connection,
            _with_ids(call_list, ids),
            call_date=call_date,
            budget=int(manifest.recipe["budget"]),
            model_version=version,
            run_id=run_id,
            published_at=published_at,
            states=_states_to_publish(reader, as_of_day, version) if is_newest_knowledge else None,
        )


def _inputs(
    stores: Installation,
    reader: LakeReader,
    as_of_day: date,
    model: ModelRecord,
    pending: pa.Table,
    options: ListOptions,
) -> ListInputs:
    version = model.model_version
    states = reader.scan(CAREGIVER_STATES, "caregiver_states", [as_of_day.isoformat()])
    if options.only_districts:
        known = states.select("district").distinct().to_pyarrow()["district"].drop_null().to_pylist()
        check_districts(dict.fromkeys(options.only_districts, 0), known)
        states = states.filter(states.district.isin(options.only_districts))
    return ListInputs(
        states=states,
        assignments=reader.scan(CLUSTER_ASSIGNMENTS, BUNDLES, [version], "assignments"),
        pending=ibis.memtable(pending),
        indices=reader.scan(WHITTLE_INDICES, BUNDLES, [version], "indices"),
        tuple_indices=reader.scan(TUPLE_INDICES, BUNDLES, [version], "tuple_indices"),
        index_posterior=index_posterior(stores, version),
    )


def _control_keys(reader: LakeReader, as_of_day: date, call_list: pa.Table) -> pa.ChunkedArray:
    """Those of the listed caregivers whom the registry's own snapshot has in the control arm."""
    registry = reader.scan(CAREGIVERS, "caregivers", [as_of_day.isoformat()])
    listed = registry.semi_join(ibis.memtable(call_list.select(["caregiver_key"])), "caregiver_key")
    return listed.filter(listed.ab_arm == CONTROL_ARM).select("caregiver_key").to_pyarrow()["caregiver_key"]


def _facts(
    drawn: DrawnList, outcomes: tuple[CheckOutcome, ...], model: ModelRecord, options: ListOptions
) -> Mapping[str, Any]:
    return {
        "model_version": model.model_version,
        "budget": options.budget,
        "n_listed": drawn.call_list.num_rows,
        "n_eligible": sum(drawn.n_eligible.values()),
        "refusals": [f"{failure.name}: {failure.description}" for failure in blocking_failures(outcomes)],
    }


def _with_ids(call_list: pa.Table, ids: pa.Table) -> pa.Table:
    joined = call_list.join(ids, "caregiver_key", join_type="inner").sort_by("rank")
    return joined.drop_columns(["caregiver_key"])


def _states_to_publish(reader: LakeReader, as_of_day: date, version: str) -> pa.RecordBatchReader:
    states = reader.scan(CAREGIVER_STATES, "caregiver_states", [as_of_day.isoformat()])
    assignments = reader.scan(CLUSTER_ASSIGNMENTS, BUNDLES, [version], "assignments")
    clusters = assignments.select("caregiver_key", "cluster_id")
    return states.left_join(clusters, "caregiver_key").drop("caregiver_key_right").to_pyarrow_batches()
