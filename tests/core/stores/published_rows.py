"""Rows for the published schema, small enough to check by eye, and ids as awkward as a source may hold."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import CALL_OUTCOMES_TABLE
from bandicoot_core.stores.published.call_lists import UNSTAMPED_CALL_LIST, publish_call_list
from bandicoot_core.stores.published.keys import ensure_keys
from bandicoot_core.stores.published.tables import INCOMING_STATES

DAY = date(2026, 11, 20)
NIGHT = datetime(2026, 11, 19, 19, 35, tzinfo=UTC)
"""01:05 IST of DAY."""

EXPERIMENT = "autumn"

AWKWARD_IDS = [
    "CG-1",
    "cg-1",
    " CG-1 ",
    "कविता-१",
    "مريم",
    "👩🏽‍🍼",
    "e\u0301 is not é",
    "O'Brien",
    'say "hello"',
    "a,b",
    "a\nb",
    "a\r\nb",
    "a\tb",
    "\\N",
    "\\.",
    "a\n\\.\nb",
    "NULL",
    "{1,2}",
    "100%s %(name)s $1 :x",
    "'; DROP SCHEMA bandicoot CASCADE; --",
    "x'); DELETE FROM bandicoot.caregiver_keys; SELECT ('",
    "x" * 10_000,
    "".join(hashlib.sha256(str(part).encode()).hexdigest() for part in range(157))[:10_000],
]
"""The last one does not compress, so that no B-tree index takes it."""


def list_rows(caregiver_ids: Sequence[str], day: date = DAY, **changes: Any) -> pa.Table:
    """A call list of these caregivers in their order; `changes` replace whole columns."""
    n_rows = len(caregiver_ids)
    columns: dict[str, Any] = {
        "call_date": [day] * n_rows,
        "rank": list(range(1, n_rows + 1)),
        "caregiver_id": list(caregiver_ids),
        "district": ["Pune"] * n_rows,
        "state": ["U"] * n_rows,
        "cluster_id": [3] * n_rows,
        "whittle_index": [1 / 3] * n_rows,
        "index_low": [-0.25] * n_rows,
        "index_high": [1e-300] * n_rows,
        "reason": ["No SMS opened for 20 days"] * n_rows,
        "days_since_last_open": [20] * n_rows,
        "last_call_date": [None] * n_rows,
        "ab_arm": ["treatment"] * n_rows,
        "propensity": [1.0] * n_rows,
        "model_version": ["m-1"] * n_rows,
        "own_index": [0.5] * n_rows,
        "p_top_k": [0.125] * n_rows,
    }
    return pa.table(columns | changes, schema=UNSTAMPED_CALL_LIST.arrow_schema())


def publish(
    connection: psycopg.Connection, rows: pa.Table, day: date = DAY, *, run_id: str = "run-1", **options: Any
) -> int:
    """Publish rows with a budget they just fill."""
    defaults = {"budget": rows.num_rows, "model_version": "m-1", "published_at": NIGHT}
    return publish_call_list(connection, rows, call_date=day, run_id=run_id, **(defaults | options))


def outcome(caregiver_id: str, day: date, attempted_at: datetime, **changes: Any) -> pa.Table:
    """One call outcome; its call_id follows from the caregiver and the instant unless it is given."""
    row = {
        "call_id": hashlib.sha256(f"{caregiver_id} {attempted_at.isoformat()}".encode()).hexdigest(),
        "caregiver_id": caregiver_id,
        "call_date": day,
        "attempted_at": attempted_at,
        "outcome": "reached",
        "recorded_by": "desk 4",
    }
    return pa.Table.from_pylist([row | changes], schema=CALL_OUTCOMES_TABLE.arrow_schema())


def state_rows(states: dict[int, str], *, cluster_ids: dict[int, int] | None = None) -> pa.Table:
    """Current states of some caregivers, by key."""
    rows = [
        {
            "caregiver_key": key,
            "district": "Pune" if key % 2 else None,
            "state": state,
            "last_open_date": DAY - timedelta(days=key) if state == "R" else None,
            "last_call_date": None,
            "warm_up_end_date": date(2026, 1, 1),
            "status": "active",
            "ab_arm": "treatment",
            "cluster_id": (cluster_ids or {}).get(key),
        }
        for key, state in states.items()
    ]
    return pa.Table.from_pylist(rows, schema=INCOMING_STATES.arrow_schema())


def give_keys(connection: psycopg.Connection, caregiver_ids: Sequence[str]) -> int:
    """Keys for some ids; everybody is drawn for the treatment arm."""
    return ensure_keys(
        connection,
        caregiver_ids,
        draw_of=lambda ids, n_drawn: drawn([0.01] * len(ids)),
        experiment=EXPERIMENT,
        seen_at=NIGHT,
    )


def drawn(draws: Sequence[float], strata: Sequence[str] | None = None) -> pa.Table:
    """What a draw gives: stratum, block and draw of each caregiver; all in one stratum unless said otherwise."""
    return pa.table(
        {
            "stratum": pa.array(strata or ["all"] * len(draws), pa.string()),
            "block": pa.array([0] * len(draws), pa.int32()),
            "draw": pa.array(draws, pa.float64()),
        }
    )


def is_whole(rows: pa.Table) -> bool:
    """Whether rows are all of one publication; its run_id ends in the number of its rows, `...-<n>`."""
    run_ids = pc.unique(rows["run_id"]).to_pylist()
    if len(run_ids) != 1:
        return False
    n_rows = int(run_ids[0].rsplit("-", 1)[1])
    return rows["rank"].to_pylist() == list(range(1, n_rows + 1))
