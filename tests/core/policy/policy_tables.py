"""Small tables for the policy tests, and the ranking rule once more in plain Python to compare against."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from bandicoot_core.contracts import (
    ACTIVE_TUPLE,
    CAREGIVER_STATES,
    CLUSTER_ASSIGNMENTS,
    PASSIVE_TUPLE,
    TRANSITION_MODELS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
    TableContract,
)
from bandicoot_core.model.behavioural_types import BehaviouralTypes
from bandicoot_core.policy.top_k import IndexPosterior

CALL_DATE = date(2026, 11, 20)
LOOKBACK_DAYS = 84
NEVER_CALLED: date | None = None
NO_WEEKS = dict.fromkeys((*PASSIVE_TUPLE, *ACTIVE_TUPLE), 0)


def days_ago(n_days: int) -> date:
    """The day `n_days` before the list."""
    return CALL_DATE - timedelta(days=n_days)


def table(contract: TableContract, defaults: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows of a contract, each the defaults and what it says differently."""
    return pa.Table.from_pylist([{**defaults, **row} for row in rows], schema=contract.arrow_schema())


def states(*rows: Mapping[str, Any]) -> pa.Table:
    """CAREGIVER_STATES of caregivers who may be called unless a row says otherwise."""
    defaults = {
        "district": "Pune",
        "state": "U",
        "last_open_date": days_ago(12),
        "days_since_last_open": 12,
        "last_call_date": NEVER_CALLED,
        "warm_up_end_date": days_ago(100),
        "status": "active",
        "ab_arm": "treatment",
    }
    return table(CAREGIVER_STATES, defaults, rows)


def assignments(*rows: Mapping[str, Any]) -> pa.Table:
    """CLUSTER_ASSIGNMENTS, cluster 0 with no passive weeks unless a row says otherwise."""
    defaults = {"cluster_id": 0, "assigned_by": "history", **NO_WEEKS}
    return table(CLUSTER_ASSIGNMENTS, defaults, rows)


def pending(*caregiver_keys: int) -> pa.Table:
    """Keys of caregivers whose listed call has no outcome yet."""
    return pa.table({"caregiver_key": pa.array(caregiver_keys, pa.int64())})


def indices(values: Mapping[tuple[int, str], float]) -> pa.Table:
    """WHITTLE_INDICES from the index of each (cluster, state)."""
    rows = [
        {
            "cluster_id": cluster_id,
            "state": state,
            "whittle_index": index,
            "index_low": index - 0.1,
            "index_high": index + 0.1,
        }
        for (cluster_id, state), index in values.items()
    ]
    return table(WHITTLE_INDICES, {"is_indexable": True, "p_passive": 0.12, "p_active": 0.38}, rows)


def tuple_indices(values: Mapping[tuple[int, int, str], float]) -> pa.Table:
    """TUPLE_INDICES from the own index of each (n_uu, cluster, state), the other counts being 0."""
    rows = [
        {"n_uu": n_uu, "cluster_id": cluster_id, "state": state, "own_index": own_index}
        for (n_uu, cluster_id, state), own_index in values.items()
    ]
    return table(TUPLE_INDICES, NO_WEEKS, rows)


def transitions(chances: Sequence[Sequence[float]], n_effective: float) -> pa.Table:
    """TRANSITION_MODELS from [p_U, p_R, q_U, q_R] of each cluster, all with the same weight."""
    rows = [
        {"cluster_id": cluster_id, "state": state, "action": action, "p_next_r": p, "p_low": p, "p_high": p}
        for cluster_id, of_cluster in enumerate(chances)
        for (action, state), p in zip(
            (("passive", "U"), ("passive", "R"), ("active", "U"), ("active", "R")), of_cluster, strict=True
        )
    ]
    return table(TRANSITION_MODELS, {"n_to_r": 0, "n_to_u": 0, "n_effective": n_effective, "correlation": 0.0}, rows)


def index_posterior(
    chances: Sequence[Sequence[float]] = ((0.12, 0.7, 0.38, 0.8),), n_effective: float = 50.0
) -> IndexPosterior:
    """A model whose clusters have these chances; each cluster is also a type, and all its members are of it."""
    p = np.array(chances).T
    types = BehaviouralTypes(
        share=np.full(len(chances), 1 / len(chances)),
        p_passive=p[:2],
        p_active=p[2:],
        cluster_id=np.arange(len(chances)),
        mix=np.eye(len(chances)),
    )
    return IndexPosterior(transitions(chances, n_effective), types, discount=0.95, seed=7)


def public_id(caregiver_key: int) -> str:
    """The public id the tests give to a key."""
    return f"CG-{caregiver_key:05d}"


def md5(text: str) -> str:
    """Hex digits of md5."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def plain_call_list(
    caregivers: Sequence[Mapping[str, Any]],
    budgets: Mapping[str, int],
    *,
    exploration_share: float,
    call_date: date,
    index_level: str = "cluster",
) -> list[tuple[int, float]]:
    """The list as (caregiver_key, propensity) in rank order, by sorting everybody in Python.

    caregivers: caregiver_key, district, whittle_index, own_index, last_call_date of everyone eligible.
    budgets: slots by pool, '' being every district that is not named.
    """

    def order(caregiver: Mapping[str, Any]) -> tuple[Any, ...]:
        return _order(caregiver, index_level)

    listed = []
    for pool, budget in budgets.items():
        members = [c for c in caregivers if (c["district"] if c["district"] in budgets else "") == pool]
        n_explore = math.floor(exploration_share * budget + 0.5)
        n_exploit = budget - n_explore
        members.sort(key=lambda c: (*order(c), _tie_hash(c, call_date)))
        first, left = members[:n_exploit], members[n_exploit:]
        left.sort(key=lambda c: md5(f"{c['caregiver_key']}|{call_date}|explore"))
        chance_of_draw = min(1.0, n_explore / len(left)) if left else 0.0
        for caregiver in first + left[:n_explore]:
            n_ahead = sum(order(other) < order(caregiver) for other in members)
            n_tied = sum(order(other) == order(caregiver) for other in members)
            chance = min(1.0, max(0.0, (n_exploit - n_ahead) / n_tied))
            listed.append((caregiver, chance + (1 - chance) * chance_of_draw))
    listed.sort(key=lambda entry: (*order(entry[0]), _tie_hash(entry[0], call_date)))
    return [(caregiver["caregiver_key"], propensity) for caregiver, propensity in listed]


def _order(caregiver: Mapping[str, Any], index_level: str) -> tuple[Any, ...]:
    of_cluster = -caregiver["whittle_index"] if index_level == "cluster" else 0.0
    return of_cluster, -caregiver["own_index"], caregiver["last_call_date"] or date.min


def _tie_hash(caregiver: Mapping[str, Any], call_date: date) -> str:
    return md5(f"{public_id(caregiver['caregiver_key'])}|{call_date}")
