"""The call list of a day: made from states and champion, checked, published in one transaction, and made again.

A list partition keeps what its making depended on and the lake does not hold elsewhere: the options, and who waited
for a call. With the states' partition and the immutable bundle of the model that is all it takes to make it again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import ibis
import pyarrow as pa

from bandicoot_core.calendar import day_of
from bandicoot_core.checks import CheckOutcome, blocking_failures
from bandicoot_core.contracts import (
    CALL_LIST,
    CAREGIVER_STATES,
    CLUSTER_ASSIGNMENTS,
    PENDING_CAREGIVERS,
    TUPLE_INDICES,
)
from bandicoot_core.engagement.states import opened_since
from bandicoot_core.errors import CheckFailedError, InvalidInputError
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.list_basis import (
    PENDING,
    control_keys_of,
    list_inputs,
    recorded_options,
    refuse_later_day,
    require_champion,
)
from bandicoot_core.pipeline.received_events import opens_since
from bandicoot_core.policy.call_list import DrawnList, draw_call_list
from bandicoot_core.policy.checks import list_checks
from bandicoot_core.policy.ranking import own_indices
from bandicoot_core.settings import ListOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.lake.reader import LakeReader
from bandicoot_core.stores.published.call_lists import pending_keys, publish_call_list
from bandicoot_core.stores.published.keys import caregiver_ids_for
from bandicoot_core.stores.published.models import ModelRecord
from bandicoot_core.stores.published.suppression import forgotten_keys, without_keys


@dataclass(frozen=True)
class MadeList:
    """A list in the lake, with what its readers and its checks want beside it."""

    drawn: DrawnList
    outcomes: tuple[CheckOutcome, ...]
    manifest: Manifest


@dataclass(frozen=True)
class MadeAgain:
    """A past list made again."""

    call_list: pa.Table
    """CALL_LIST."""
    with_ids: pa.Table
    """The same rows in the same order, with caregiver_id in the place of caregiver_key."""
    model_version: str
    is_identical: bool | None
    """Whether it is the list that was made then, value by value; None when another model was asked for, or when
    somebody was forgotten since."""


def materialize_call_list(
    stores: Installation, call_date: date, options: ListOptions, *, as_of_day: date | None = None
) -> MadeList:
    """Make, check and keep the `call_list` partition of a day; publishing is another step.

    `as_of_day` is the day at whose end the states are taken, by default the day before the list.
    NoChampionError before the first promotion; MissingPartitionError when the states are absent; InvalidSettingError
    for an as-of day on or after the list's day, or an unknown district.
    """
    as_of_day = refuse_later_day(as_of_day or call_date - timedelta(days=1), call_date)
    with stores.published() as connection, stores.engine() as engine, stores.lake.reader(engine) as reader:
        model = require_champion(connection)
        pending = pending_keys(connection, call_date=call_date, pending_days=options.pending_days)
        lookback_days = stores.settings.lookback_days
        drawn = draw_call_list(
            list_inputs(stores, reader, as_of_day, model.model_version, pending, options, forgotten_keys(connection)),
            lambda keys: caregiver_ids_for(connection, keys),
            call_date=call_date,
            options=options,
            model_version=model.model_version,
            lookback_days=lookback_days,
        )
        outcomes = list_checks(
            drawn.call_list,
            state_counts=drawn.state_counts,
            n_eligible=drawn.n_eligible,
            control_keys=control_keys_of(reader, as_of_day, drawn.call_list),
            options=drawn.options,
            call_date=call_date,
        )
        manifest = stores.lake.write(
            "call_list",
            call_date.isoformat(),
            {"data": (CALL_LIST, drawn.call_list), PENDING: (PENDING_CAREGIVERS, pending)},
            inputs=reader.inputs,
            recipe={
                **options.model_dump(mode="json"),
                "as_of_date": as_of_day.isoformat(),
                "lookback_days": lookback_days,
            },
            facts=_facts(drawn, outcomes, model, options),
        )
    return MadeList(drawn, outcomes, manifest)


def make_call_list_again(stores: Installation, call_date: date, *, model_version: str | None = None) -> MadeAgain:
    """The list of a past day from what the lake kept of it; nothing is written.

    `model_version` ranks by another model than the one the list was made with. MissingPartitionError when the list,
    its states or the model's bundle are absent; InvalidInputError when the states are no longer those the list was
    made from, and which they were.
    """
    lake, key = stores.lake, call_date.isoformat()
    manifest = lake.require("call_list", key)
    options, as_of_day, lookback_days = recorded_options(manifest, stores)
    made_with = str(manifest.facts["model_version"])
    version = model_version or made_with
    pending = lake.read(PENDING_CAREGIVERS, "call_list", key, PENDING)
    with stores.published() as connection, stores.engine() as engine, lake.reader(engine) as reader:
        inputs = list_inputs(stores, reader, as_of_day, version, pending, options, forgotten_keys(connection))
        _require_unchanged(manifest, "caregiver_states", as_of_day.isoformat(), reader)
        if version == made_with:
            _require_unchanged(manifest, BUNDLES, version, reader)
        drawn = draw_call_list(
            inputs,
            lambda keys: caregiver_ids_for(connection, keys),
            call_date=call_date,
            options=options,
            model_version=version,
            lookback_days=lookback_days,
        )
        ids = caregiver_ids_for(connection, drawn.call_list["caregiver_key"])
    states = lake.require("caregiver_states", as_of_day.isoformat())
    is_comparable = version == made_with and not states.n_rewrites and not manifest.n_rewrites
    is_identical = drawn.call_list.equals(lake.read(CALL_LIST, "call_list", key)) if is_comparable else None
    return MadeAgain(drawn.call_list, _with_ids(drawn.call_list, ids), version, is_identical)


def materialize_published_call_list(
    stores: Installation, call_date: date, *, run_id: str, published_at: datetime, has_states: bool = True
) -> int:
    """Publish the `call_list` partition of a day and the states it was made from, in one transaction.

    Without `has_states` the published states stay as they are. Returns the number of rows. Who was forgotten since the
    list was made is left out, and her rank stays empty.
    CheckFailedError when a blocking check refused the list; the old list stays then.
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
        call_list = without_keys(call_list, forgotten_keys(connection))
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
            states=(
                partial(_states_to_publish, stores, reader, as_of_day, version, published_at)
                if has_states and is_newest_knowledge
                else None
            ),
        )


def _require_unchanged(manifest: Manifest, asset: str, partition: str, reader: LakeReader) -> None:
    if manifest.inputs.get(asset) != reader.inputs[asset]:
        raise InvalidInputError(
            f"{asset}/{partition} has changed since the list of {manifest.partition} was made from it; the published "
            "list stands, but it cannot be made again from what is there now: materialize call_list for "
            f"{manifest.partition} to make it from the new content"
        )


def _facts(
    drawn: DrawnList, outcomes: tuple[CheckOutcome, ...], model: ModelRecord, options: ListOptions
) -> Mapping[str, Any]:
    return {
        "model_version": model.model_version,
        "budget": options.budget,
        "n_listed": drawn.call_list.num_rows,
        "n_places": drawn.call_list.num_rows,  # unlike n_listed it stays when one of them is forgotten
        "n_eligible": sum(drawn.n_eligible.values()),
        "floor_price": drawn.floor_price,
        "refusals": [f"{failure.name}: {failure.description}" for failure in blocking_failures(outcomes)],
    }


def _with_ids(call_list: pa.Table, ids: pa.Table) -> pa.Table:
    joined = call_list.join(ids, "caregiver_key", join_type="inner").sort_by("rank")
    return joined.drop_columns(["caregiver_key"])


def _states_to_publish(
    stores: Installation, reader: LakeReader, as_of_day: date, version: str, published_at: datetime
) -> pa.RecordBatchReader:
    """The states of a day with the opens that were received since; asked for while nobody else changes them."""
    opens = opens_since(stores, as_of_day, until=day_of(published_at))
    states = reader.scan(CAREGIVER_STATES, "caregiver_states", [as_of_day.isoformat()])
    if opens.num_rows:
        states = opened_since(states, ibis.memtable(opens), day=as_of_day)
    assignments = reader.scan(CLUSTER_ASSIGNMENTS, BUNDLES, [version], "assignments")
    tuple_indices = reader.scan(TUPLE_INDICES, BUNDLES, [version], "tuple_indices")
    clusters = own_indices(assignments, tuple_indices)
    return states.left_join(clusters, "caregiver_key").drop("caregiver_key_right").to_pyarrow_batches()
