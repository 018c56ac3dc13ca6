"""Caregivers of whom a test needs no more than that they are known, and what is published of all of them alike."""

from collections.abc import Sequence
from datetime import date, datetime

import psycopg
import pyarrow as pa

from bandicoot_core.stores.published.call_lists import UNSTAMPED_CALL_LIST, publish_call_list
from bandicoot_core.stores.published.keys import ensure_keys
from bandicoot_core.stores.published.tables import INCOMING_STATES


def register_caregivers(
    connection: psycopg.Connection, caregiver_ids: Sequence[str], *, experiment: str, seen_at: datetime
) -> None:
    """Give everybody a key and the draw 0.5, all in one stratum."""
    ensure_keys(
        connection,
        caregiver_ids,
        draw_of=lambda ids, _: pa.table(
            {"stratum": ["all"] * len(ids), "block": pa.array([0] * len(ids), pa.int32()), "draw": [0.5] * len(ids)}
        ),
        experiment=experiment,
        seen_at=seen_at,
    )


def publish_everybody(
    connection: psycopg.Connection,
    n_caregivers: int,
    state: str,
    *,
    call_date: date,
    run_id: str,
    published_at: datetime,
) -> None:
    """Publish an empty list by model m-1, with the caregivers of keys 1 to n_caregivers in one state."""
    rows = {
        "caregiver_key": list(range(1, n_caregivers + 1)),
        "district": ["Gaya"] * n_caregivers,
        "state": [state] * n_caregivers,
        "last_open_date": [None] * n_caregivers,
        "last_call_date": [None] * n_caregivers,
        "warm_up_end_date": [date(2026, 1, 1)] * n_caregivers,
        "status": ["active"] * n_caregivers,
        "ab_arm": ["treatment"] * n_caregivers,
        "cluster_id": [1] * n_caregivers,
        "own_index_u": [0.5] * n_caregivers,
        "own_index_r": [0.25] * n_caregivers,
    }
    publish_call_list(
        connection,
        UNSTAMPED_CALL_LIST.empty(),
        call_date=call_date,
        budget=0,
        model_version="m-1",
        run_id=run_id,
        published_at=published_at,
        states=pa.table(rows, schema=INCOMING_STATES.arrow_schema()),
    )
