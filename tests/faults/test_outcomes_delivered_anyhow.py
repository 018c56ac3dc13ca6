"""Outcomes come twice, late, in any order, from two desks at once, and from one that is cut off: each counts once."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from functools import partial

import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import CALL_OUTCOMES_TABLE
from bandicoot_core.pipeline.extraction import extract_calls, extract_caregivers
from bandicoot_core.settings import Settings
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.call_lists import record_outcomes
from bandicoot_core.stores.source.source import Source
from tests.faults.child_run import ChildRun
from tests.faults.conftest import N_TRIES
from tests.faults.record import BY_ITSELF, note
from tests.faults.site_under_fault import Site
from tests.source_programme import SCHEMA, SourceProgramme, ist

DAYS = [date(2026, 11, 16) + timedelta(days=n) for n in range(4)]
N_CALLS = 300
N_CAREGIVERS = 40


def calls_made(generator: np.random.Generator) -> pa.Table:
    """Attempts of four days, around midnight too."""
    first = ist("2026-11-16 00:00")
    minutes = np.sort(generator.integers(0, 4 * 24 * 60, size=N_CALLS))
    rows = []
    for place, minute in enumerate(minutes):
        attempted_at: datetime = first + timedelta(minutes=int(minute))
        rows.append(
            {
                "call_id": f"C-{place}",
                "caregiver_id": f"CG-{generator.integers(N_CAREGIVERS)}",
                "call_date": attempted_at.date(),
                "attempted_at": attempted_at,
                "outcome": str(generator.choice(["reached", "no_answer", "busy"])),
                "recorded_by": "desk",
            }
        )
    return pa.Table.from_pylist(rows, schema=CALL_OUTCOMES_TABLE.arrow_schema())


def deliver(url: str, calls: pa.Table, batches: Sequence[np.ndarray]) -> None:
    with connect(url) as connection:
        for batch in batches:
            record_outcomes(connection, calls.take(pa.array(batch)))


def batches_of(generator: np.random.Generator) -> list[np.ndarray]:
    """All calls in any order, a third of them again, cut anywhere."""
    order = generator.permutation(np.concatenate([np.arange(N_CALLS), generator.choice(N_CALLS, N_CALLS // 3)]))
    cuts = np.sort(generator.integers(0, len(order), size=8))
    return [batch for batch in np.split(order, cuts) if len(batch)]


def test_each_outcome_counts_once_however_it_is_delivered(
    site: Site, published_url: str, lake: Lake, engine: Backend
) -> None:
    fault = "duplicate and out-of-order outcomes"
    generator = site.generator(fault)
    calls = calls_made(generator)
    programme, settings = SourceProgramme(published_url), Settings(control_share=0)
    for number in range(N_CAREGIVERS):
        programme.caregiver(f"CG-{number}")
    with connect(published_url) as connection:

        def extracted() -> list[str]:
            manifests = extract_calls(connection, lake, engine, days=DAYS, settings=settings)
            return [manifest.digest for manifest in manifests]

        source = Source(published_url, SCHEMA)
        extract_caregivers(
            source, connection, lake, engine, days=DAYS, settings=settings, seen_at=ist("2026-11-20 01:00")
        )
        deliver(published_url, calls, [np.arange(N_CALLS)])
        expected = extracted()
        for _ in range(N_TRIES):
            connection.execute("DELETE FROM bandicoot.call_outcomes")
            desks = [ChildRun(partial(deliver, published_url, calls, batches_of(generator))) for _ in range(2)]
            cut_off = ChildRun(partial(deliver, published_url, calls, batches_of(generator)))
            cut_off.finish(kill_after=float(generator.uniform(0, 0.1)))
            for desk in desks:
                outcome = desk.finish()
                assert outcome.is_success, outcome
            row = connection.execute("SELECT count(*), count(DISTINCT call_id) FROM bandicoot.call_outcomes").fetchone()
            is_repeated = row == (N_CALLS, N_CALLS) and extracted() == expected
            note(site.records, fault, is_repeated=is_repeated, way=BY_ITSELF)
            assert is_repeated, row
