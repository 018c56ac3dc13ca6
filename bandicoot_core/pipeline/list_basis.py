"""What the list of a day is made of: states, model, who waits for a call, and options, as the lake kept them or as now.

Whoever makes, repeats or explains a list starts here, so that all speak of the same one. Making and publishing it
belongs to call_list.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import ibis
import psycopg
import pyarrow as pa

from bandicoot_core.contracts import (
    CAREGIVER_STATES,
    CAREGIVERS,
    CLUSTER_ASSIGNMENTS,
    CONTROL_ARM,
    PENDING_CAREGIVERS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
)
from bandicoot_core.errors import InvalidSettingError, NoChampionError
from bandicoot_core.pipeline.bundles import BUNDLES, index_posterior
from bandicoot_core.policy.budgets import check_districts
from bandicoot_core.policy.call_list import DrawnList, ListInputs, draw_call_list
from bandicoot_core.policy.eligibility import lives_in
from bandicoot_core.settings import ListOptions, load_list_options
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.lake.reader import LakeReader
from bandicoot_core.stores.published.call_lists import pending_keys
from bandicoot_core.stores.published.keys import caregiver_ids_for
from bandicoot_core.stores.published.models import ModelRecord, champion

PENDING = "pending"
"""Table of a list partition: who waited for a call when the list was made."""


@dataclass(frozen=True)
class ListBasis:
    """What the list of a day follows from."""

    call_date: date
    as_of_day: date
    """The day at whose end the states are taken."""
    model_version: str
    pending: pa.Table
    """PENDING_CAREGIVERS."""
    options: ListOptions
    lookback_days: int
    standing: Manifest | None
    """The list of the day that is in the lake; None when none was made yet."""


def list_basis(
    stores: Installation,
    connection: psycopg.Connection,
    call_date: date,
    *,
    options: ListOptions | None = None,
    as_of_day: date | None = None,
) -> ListBasis:
    """What the standing list of a day was made of, or what it would be made of now when there is none.

    `options` and `as_of_day` take the place of the standing list's, or of the defaults. NoChampionError when neither a
    list nor a champion is there; InvalidSettingError for an as-of day on or after the list's day.
    """
    standing = stores.lake.manifest("call_list", call_date.isoformat())
    if standing is None:
        chosen = options or load_list_options()
        return ListBasis(
            call_date,
            refuse_later_day(as_of_day or call_date - timedelta(days=1), call_date),
            require_champion(connection).model_version,
            pending_keys(connection, call_date=call_date, pending_days=chosen.pending_days),
            chosen,
            stores.settings.lookback_days,
            None,
        )
    recorded, recorded_day, lookback_days = recorded_options(standing, stores)
    chosen = options or recorded
    if chosen.pending_days == recorded.pending_days:
        pending = stores.lake.read(PENDING_CAREGIVERS, "call_list", call_date.isoformat(), PENDING)
    else:
        pending = pending_keys(connection, call_date=call_date, pending_days=chosen.pending_days)
    return ListBasis(
        call_date,
        refuse_later_day(as_of_day or recorded_day, call_date),
        str(standing.facts["model_version"]),
        pending,
        chosen,
        lookback_days,
        standing,
    )


def inputs_of(stores: Installation, reader: LakeReader, basis: ListBasis, forgotten: pa.Table) -> ListInputs:
    """The tables of a basis; MissingPartitionError when its states or its model are absent."""
    return list_inputs(stores, reader, basis.as_of_day, basis.model_version, basis.pending, basis.options, forgotten)


def draw_on(connection: psycopg.Connection, inputs: ListInputs, basis: ListBasis) -> DrawnList:
    """The list that follows from a basis and its tables."""
    return draw_call_list(
        inputs,
        lambda keys: caregiver_ids_for(connection, keys),
        call_date=basis.call_date,
        options=basis.options,
        model_version=basis.model_version,
        lookback_days=basis.lookback_days,
    )


def list_inputs(
    stores: Installation,
    reader: LakeReader,
    as_of_day: date,
    version: str,
    pending: pa.Table,
    options: ListOptions,
    forgotten: pa.Table,
) -> ListInputs:
    """The tables of a list; InvalidSettingError when the options name a district where nobody lives."""
    states = known_states(reader, as_of_day, forgotten)
    if options.only_districts:
        known = states.select("district").distinct().to_pyarrow()["district"].drop_null().to_pylist()
        check_districts(dict.fromkeys(options.only_districts, 0), known)
        states = states.filter(lives_in(states, options.only_districts))
    return ListInputs(
        states=states,
        assignments=reader.scan(CLUSTER_ASSIGNMENTS, BUNDLES, [version], "assignments"),
        pending=ibis.memtable(pending),
        indices=reader.scan(WHITTLE_INDICES, BUNDLES, [version], "indices"),
        tuple_indices=reader.scan(TUPLE_INDICES, BUNDLES, [version], "tuple_indices"),
        index_posterior=index_posterior(stores, version),
    )


def known_states(reader: LakeReader, as_of_day: date, forgotten: pa.Table) -> ibis.Table:
    """CAREGIVER_STATES at the end of a day, without those who were forgotten since."""
    states = reader.scan(CAREGIVER_STATES, "caregiver_states", [as_of_day.isoformat()])
    return states.anti_join(ibis.memtable(forgotten), "caregiver_key")


def control_keys_of(reader: LakeReader, as_of_day: date, call_list: pa.Table) -> pa.ChunkedArray:
    """Those of the listed caregivers whom the registry's own snapshot has in the control arm."""
    registry = reader.scan(CAREGIVERS, "caregivers", [as_of_day.isoformat()])
    listed = registry.semi_join(ibis.memtable(call_list.select(["caregiver_key"])), "caregiver_key")
    return listed.filter(listed.ab_arm == CONTROL_ARM).select("caregiver_key").to_pyarrow()["caregiver_key"]


def recorded_options(manifest: Manifest, stores: Installation) -> tuple[ListOptions, date, int]:
    """Options, as-of day and lookback a list was made with; an option it did not know yet has its default."""
    recipe = dict(manifest.recipe)
    as_of_day = date.fromisoformat(recipe.pop("as_of_date"))
    lookback_days = int(recipe.pop("lookback_days", stores.settings.lookback_days))
    defaults = {name: field.get_default(call_default_factory=True) for name, field in ListOptions.model_fields.items()}
    return load_list_options(**{**defaults, **recipe}), as_of_day, lookback_days


def has_states_of(standing: Manifest | None, reader: LakeReader) -> bool:
    """Whether the states that were read are still those the standing list was made from; yes when there is no list."""
    return standing is None or standing.inputs.get("caregiver_states") == reader.inputs["caregiver_states"]


def require_champion(connection: psycopg.Connection) -> ModelRecord:
    """The model that ranks the lists; NoChampionError before the first promotion."""
    model = champion(connection)
    if model is None:
        raise NoChampionError(
            "no model has been promoted yet; run the job weekly_training for the last closed week first"
        )
    return model


def refuse_later_day(as_of_day: date, call_date: date) -> date:
    """The as-of day itself; InvalidSettingError when it is not before the list's day."""
    if as_of_day >= call_date:
        raise InvalidSettingError(
            f"as_of_date: {as_of_day} is not before the list's day {call_date}; only the past is known"
        )
    return as_of_day
