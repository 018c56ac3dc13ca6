"""Ids with anything in them travel from the source to the list, to the outcomes and back into the lake unchanged."""

import hashlib
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import CALL_OUTCOMES_TABLE, CALLS, CAREGIVERS, SMS_EVENTS
from bandicoot_core.pipeline.extraction import extract_calls, extract_caregivers, extract_sms_events
from bandicoot_core.settings import Settings
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.call_lists import (
    UNSTAMPED_CALL_LIST,
    pending_keys,
    publish_call_list,
    read_call_list,
    record_outcomes,
)
from bandicoot_core.stores.published.keys import caregiver_ids_for
from bandicoot_core.stores.source.source import Source
from tests.faults.conftest import N_TRIES
from tests.faults.record import BY_ITSELF, note
from tests.faults.site_under_fault import Site
from tests.source_programme import SCHEMA, SourceProgramme, ist

DAY, LIST_DAY = date(2026, 11, 18), date(2026, 11, 19)
NIGHT = datetime(2026, 11, 18, 19, 35, tzinfo=UTC)
PIECES = (
    *(
        "'",
        '"',
        "\\",
        "\\\\",
        "\t",
        "\n",
        "\r\n",
        ",",
        ";",
        "%s",
        "%(x)s",
        "$1",
        "{}",
        "\\N",
        "\\.",
        "NULL",
        "--",
        "/*",
    ),
    *("'; DROP SCHEMA bandicoot CASCADE; --", "') ; DELETE FROM bandicoot.caregiver_keys; --", "\ufeff", "\u202e"),
    *("कविता", "مريم", "👩🏽‍🍼", "e\u0301", "é", "\U0010ffff", "CG-", "0", "../..", "<script>"),
)


def strange_ids(generator: np.random.Generator, n_ids: int) -> list[str]:
    """Ids put together from what breaks things, one of 10,000 characters that do not compress among them."""
    drawn = {"".join(generator.choice(PIECES, size=generator.integers(1, 6))) for _ in range(n_ids)}
    long = "".join(chr(code) for code in generator.integers(0x4E00, 0x9FFF, size=10_000))
    # A blank id is none, and space at the ends is part of an id.
    return sorted({f"x{text} " for text in drawn} | {long, long[:-1] + "x", "x" * 10_000})


def outcomes_for(ids: list[str]) -> pa.Table:
    rows = [
        {
            "call_id": caregiver_id if len(caregiver_id) < 100 else hashlib.sha256(caregiver_id.encode()).hexdigest(),
            "caregiver_id": caregiver_id,
            "call_date": DAY,
            "attempted_at": ist("2026-11-18 10:00"),
            "outcome": "reached",
            "recorded_by": "'; --",
        }
        for caregiver_id in ids
    ]
    return pa.Table.from_pylist(rows, schema=CALL_OUTCOMES_TABLE.arrow_schema())


def list_for(ids: list[str], day: date) -> pa.Table:
    n_rows = len(ids)
    texts = {"district": "Pune", "state": "U", "reason": "r", "ab_arm": "treatment", "model_version": "m-1"}
    numbers = {"cluster_id": 3, "whittle_index": 0.5, "index_low": 0.1, "index_high": 0.9, "propensity": 1.0}
    numbers |= {"own_index": 0.5, "p_top_k": 0.5}
    columns = {
        "call_date": [day] * n_rows,
        "rank": list(range(1, n_rows + 1)),
        "caregiver_id": ids,
        "days_since_last_open": [None] * n_rows,
        "last_call_date": [None] * n_rows,
        **{name: [value] * n_rows for name, value in (texts | numbers).items()},
    }
    return pa.table(columns, schema=UNSTAMPED_CALL_LIST.arrow_schema())


def test_ids_with_anything_in_them_come_through_unchanged(
    site: Site, published_url: str, lake: Lake, engine: Backend
) -> None:
    fault = "ids with Unicode, quotes, SQL, 10,000 characters"
    generator = site.generator(fault)
    programme, settings = SourceProgramme(published_url), Settings(control_share=0)
    source, known = Source(published_url, SCHEMA), set()
    for _ in range(N_TRIES):
        ids = [each for each in strange_ids(generator, 60) if each not in known]
        known |= set(ids)
        for caregiver_id in ids:
            programme.caregiver(caregiver_id)
            programme.message(
                f"M {caregiver_id}", caregiver_id, sent_at="2026-11-18 09:00", opened_at="2026-11-18 09:30"
            )
        with connect(published_url) as connection:
            places, day = (connection, lake, engine), {"days": [DAY], "settings": settings}
            extract_caregivers(source, *places, **day, seen_at=NIGHT)
            extract_sms_events(source, *places, **day)
            keys = lake.read(CAREGIVERS, "caregivers", DAY.isoformat())["caregiver_key"]
            assert set(caregiver_ids_for(connection, keys)["caregiver_id"].to_pylist()) == known
            opened = lake.read(SMS_EVENTS, "sms_events", DAY.isoformat())
            assert opened.num_rows == 2 * len(known)
            for list_day in (DAY, LIST_DAY):
                publish_call_list(
                    connection,
                    list_for(ids, list_day),
                    call_date=list_day,
                    budget=len(ids),
                    model_version="m-1",
                    run_id="'; --",
                    published_at=NIGHT,
                )
            read = read_call_list(connection, LIST_DAY)["caregiver_id"].to_pylist()
            assert read == ids
            assert pending_keys(connection, call_date=LIST_DAY, pending_days=1).num_rows == len(ids)
            assert record_outcomes(connection, outcomes_for(ids)) == len(ids)
            assert record_outcomes(connection, outcomes_for(ids)) == 0
            assert pending_keys(connection, call_date=LIST_DAY, pending_days=1).num_rows == 0
            [manifest] = extract_calls(*places, **day)
            assert manifest.n_rows() == len(known)
            [again] = extract_calls(*places, **day)
            called = lake.read(CALLS, "calls", DAY.isoformat())["caregiver_key"]
            assert set(called.to_pylist()) == set(keys.to_pylist())
        note(site.records, fault, is_repeated=manifest == again, way=BY_ITSELF)
        assert manifest == again
