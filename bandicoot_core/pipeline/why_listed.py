"""Why one caregiver is, or is not, on the list of a day; nothing is written.

The rules are policy's, and what the list is made of is list_basis's: this module puts them side by side for her and
says in a sentence what follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import CALL_LIST
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.pipeline.list_basis import (
    ListBasis,
    draw_on,
    has_states_of,
    inputs_of,
    known_states,
    list_basis,
)
from bandicoot_core.policy.budgets import SHARED_POOL, budget_pools
from bandicoot_core.policy.call_list import explain
from bandicoot_core.policy.eligibility import explain_eligibility, with_eligibility
from bandicoot_core.settings import ListOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.forgettings import find_forgetting
from bandicoot_core.stores.published.keys import keys_of
from bandicoot_core.stores.published.suppression import checked_id, forgotten_keys


@dataclass(frozen=True)
class WhyListed:
    """The answer for one caregiver and one day. Neither her id nor her key is in it."""

    is_listed: bool
    is_drawn: bool
    """Whether the exploration draw chose her."""
    summary: str
    rules: pa.Table
    """criterion, rule, value, limit, is_met: see policy.eligibility.explain_eligibility."""
    facts: Mapping[str, str | int | float]
    """State, cluster, indices, and her place beside the last one listed by order; what is unknown is left out."""


def why_listed(stores: Installation, call_date: date, caregiver_id: str) -> WhyListed:
    """Why a caregiver is or is not on the list of a day: the one in the lake, or else the one that would be made now.

    InvalidInputError when the id is nobody's, was forgotten, or was not in the registry at the end of the as-of day;
    MissingPartitionError when states or model are absent; NoChampionError when neither a list nor a champion is there.
    """
    with stores.published() as connection, stores.engine() as engine, stores.lake.reader(engine) as reader:
        key = _require_key(connection, caregiver_id)
        basis = list_basis(stores, connection, call_date)
        forgotten = forgotten_keys(connection)
        inputs = inputs_of(stores, reader, basis, forgotten)
        drawn = draw_on(connection, inputs, basis)
        cool_down_days = basis.options.cool_down_days
        states = known_states(reader, basis.as_of_day, forgotten)
        if not states.filter(states.caregiver_key == key).count().execute():
            raise InvalidInputError(
                f"caregiver_id: this caregiver is not among the states of {basis.as_of_day}, from which the list of "
                f"{call_date} is made; she was enrolled later, or left the registry: choose another day"
            )
        rules = explain_eligibility(
            states,
            inputs.assignments,
            inputs.pending,
            caregiver_key=key,
            only_districts=basis.options.only_districts,
            call_date=call_date,
            cool_down_days=cool_down_days,
        )
        everybody = with_eligibility(
            states, inputs.assignments, inputs.pending, call_date=call_date, cool_down_days=cool_down_days
        )
        hers = everybody.filter(everybody.caregiver_key == key).select("state", "cluster_id", "excluded_by")
        found = hers.to_pyarrow().to_pylist()[0]
        standing = None
        if all(rules["is_met"].to_pylist()):
            eligibility = with_eligibility(
                inputs.states, inputs.assignments, inputs.pending, call_date=call_date, cool_down_days=cool_down_days
            )
            explained = explain(
                eligibility, inputs.indices, inputs.tuple_indices, caregiver_key=key, options=drawn.options
            )
            standing = explained.to_pylist()[0]
        is_unchanged = has_states_of(basis.standing, reader)
    call_list = drawn.call_list
    if basis.standing is not None:
        call_list = stores.lake.read(CALL_LIST, "call_list", call_date.isoformat())
    return _answer(basis, drawn.options, call_list, key, rules, found, standing, is_unchanged=is_unchanged)


def _require_key(connection: psycopg.Connection, caregiver_id: str) -> int:
    keys = keys_of(connection, pa.array([checked_id(caregiver_id)]))
    if keys.num_rows:
        return int(keys["caregiver_key"][0].as_py())
    if find_forgetting(connection, caregiver_id) is not None:
        raise InvalidInputError(
            "caregiver_id: the caregiver with this id was forgotten at her request; nothing is kept that could be told"
        )
    raise InvalidInputError(
        "caregiver_id: no caregiver has this id; give it as the source spells it (case and spaces count), and see that "
        "the registry of the day is in the lake (asset caregivers)"
    )


def _answer(
    basis: ListBasis,
    options: ListOptions,
    call_list: pa.Table,
    key: int,
    rules: pa.Table,
    found: Mapping[str, Any],
    standing: Mapping[str, Any] | None,
    *,
    is_unchanged: bool,
) -> WhyListed:
    index = "own_index" if basis.options.index_level == "caregiver" else "whittle_index"
    own = call_list.filter(pc.equal(call_list["caregiver_key"], key)).to_pylist()
    rank = own[0]["rank"] if own else None
    facts: dict[str, str | int | float | None] = {
        "call_date": basis.call_date.isoformat(),
        "as_of_date": basis.as_of_day.isoformat(),
        "model_version": basis.model_version,
        "state": found["state"],
        "cluster_id": found["cluster_id"],
        "n_listed": call_list.num_rows,
        "rank": rank,
    }
    by_order = _listed_by_order(call_list, options, standing) if standing else call_list.slice(0, 0)
    is_drawn = bool(own and standing and key not in by_order["caregiver_key"].to_pylist())
    if standing:
        last = by_order.to_pylist()[-1] if by_order.num_rows else {}
        facts |= {
            "pool": standing["pool"] or "shared by all districts without a budget of their own",
            "own_index": standing["own_index"],
            "whittle_index": standing["whittle_index"],
            "place": standing["n_ahead"] + 1,
            "n_tied": standing["n_tied"],
            "n_eligible": standing["n_eligible"],
            "n_slots_by_order": standing["n_exploit"],
            "n_slots_drawn": standing["n_explore"],
            "propensity": standing["propensity"],
            "last_by_order_rank": last.get("rank"),
            "last_by_order_index": last.get(index),
        }
    why = _why_not_eligible(rules) if standing is None else _why_by_rank(standing, index, by_order, own, is_drawn)
    if own:
        summary = f"She is on the list of {basis.call_date}, at rank {rank} of {call_list.num_rows}: {why}."
    else:
        summary = f"She is not on the list of {basis.call_date}: {why}."
    if basis.standing is None:
        summary += " No list of that day was made yet; this is what would be made now."
    elif basis.standing.facts.get("refusals"):
        summary += " That list was refused by its checks and is not published."
    if not is_unchanged:
        summary += f" The states of {basis.as_of_day} were renewed after the list was made; the rules go by them."
    return WhyListed(
        is_listed=bool(own),
        is_drawn=is_drawn,
        summary=summary,
        rules=rules,
        facts={name: value for name, value in facts.items() if value is not None},
    )


def _listed_by_order(call_list: pa.Table, options: ListOptions, standing: Mapping[str, Any]) -> pa.Table:
    """The listed caregivers of her pool who have a slot by order, in order: who was drawn ranks behind them all."""
    pools = [name for name in budget_pools(options)["pool"].to_pylist() if name != SHARED_POOL]
    districts = call_list["district"].fill_null(SHARED_POOL)
    if standing["pool"] == SHARED_POOL:
        is_of_pool = pc.invert(pc.is_in(districts, value_set=pa.array(pools, pa.string())))
    else:
        is_of_pool = pc.equal(districts, standing["pool"])
    return call_list.filter(is_of_pool).sort_by("rank").slice(0, standing["n_exploit"])


def _why_not_eligible(rules: pa.Table) -> str:
    unmet = rules.filter(pc.invert(rules["is_met"])).to_pylist()
    told = "; ".join(f"{row['criterion']} ({row['value']}, where the rule asks for {row['limit']})" for row in unmet)
    return f"she may not be called, by the {'rule' if len(unmet) == 1 else 'rules'} of {told}"


def _why_by_rank(
    standing: Mapping[str, Any], index: str, by_order: pa.Table, own: list[dict[str, Any]], is_drawn: bool
) -> str:
    first, n_tied, n_exploit = standing["n_ahead"] + 1, standing["n_tied"], standing["n_exploit"]
    place = f"place {first}" if n_tied == 1 else f"one of the {n_tied} tied places from {first}"
    slots = f"{n_exploit} {'slot' if n_exploit == 1 else 'slots'} by order"
    told = f"her index of {standing[index]:.3f} gives her {place} of {standing['n_eligible']} eligible, for {slots}"
    if own and not is_drawn:
        return told
    if by_order.num_rows:
        told += f", the last of which has an index of {by_order[index][-1].as_py():.3f}"
    if is_drawn:
        return f"{told}; she was chosen by the exploration draw"
    if standing["n_explore"]:
        return f"{told}; the exploration draw of {standing['n_explore']} did not fall on her"
    return f"{told}; nobody is drawn at random"
