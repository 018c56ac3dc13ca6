"""Small tables for the policy tests, and the ranking rule once more in plain Python to compare against."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from bandicoot_core.contracts import (
    CAREGIVER_STATES,
    CLUSTER_ASSIGNMENTS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
    TableContract,
)

CALL_DATE = date(2026, 11, 20)
LOOKBACK_DAYS = 84
NEVER_CALLED: date | None = None


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
    defaults = {"cluster_id": 0, "assigned_by": "history", "n_rr": 0, "n_ru": 0, "n_ur": 0, "n_uu": 0}
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
    return table(TUPLE_INDICES, {"n_rr": 0, "n_ru": 0, "n_ur": 0}, rows)


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
) -> list[tuple[int, float]]:
    """The list as (caregiver_key, propensity) in rank order, by sorting everybody in Python.

    caregivers: caregiver_key, district, whittle_index, own_index, last_call_date of everyone eligible.
    budgets: slots by pool, '' being every district that is not named.
    """
    listed = []
    for pool, budget in budgets.items():
        members = [c for c in caregivers if (c["district"] if c["district"] in budgets else "") == pool]
        n_explore = math.floor(exploration_share * budget + 0.5)
        n_exploit = budget - n_explore
        members.sort(key=lambda c: (*_order(c), _tie_hash(c, call_date)))
        first, left = members[:n_exploit], members[n_exploit:]
        left.sort(key=lambda c: md5(f"{c['caregiver_key']}|{call_date}|explore"))
        chance_of_draw = min(1.0, n_explore / len(left)) if left else 0.0
        for caregiver in first + left[:n_explore]:
            n_ahead = sum(_order(other) < _order(caregiver) for other in members)
            n_tied = sum(_order(other) == _order(caregiver) for other in members)
            chance = min(1.0, max(0.0, (n_exploit - n_ahead) / n_tied))
            listed.append((caregiver, chance + (1 - chance) * chance_of_draw))
    listed.sort(key=lambda entry: (*_order(entry[0]), _tie_hash(entry[0], call_date)))
    return [(caregiver["caregiver_key"], propensity) for caregiver, propensity in listed]


def _order(caregiver: Mapping[str, Any]) -> tuple[float, float, date]:
    return -caregiver["whittle_index"], -caregiver["own_index"], caregiver["last_call_date"] or date.min


def _tie_hash(caregiver: Mapping[str, Any], call_date: date) -> str:
    return md5(f"{public_id(caregiver['caregiver_key'])}|{call_date}")
