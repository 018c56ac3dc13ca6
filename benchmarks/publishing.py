"""Publishing a list in PostgreSQL: all rows of a day replaced in one transaction.

The stage for `python -m benchmarks.publishing publish <case>`; the case's size is the number of rows on the list.
"""

import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.contracts import RESPONSIVE, TREATMENT_ARM, UNRESPONSIVE
from bandicoot_core.demo.programme import DISTRICTS
from bandicoot_core.policy.reasons import reasons
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.call_lists import migrate, publish_call_list
from benchmarks.data import LIST_DATE
from benchmarks.measure import Case, Measured, Outcome, repeat, serve

_PUBLISHED_AT = datetime(2026, 6, 27, 19, 30, tzinfo=UTC)
_MODEL_VERSION = "2026-06-21-00000000"


def publish(case: Case) -> Measured:
    """Replace the published list of a day; the first repetition replaces one that was published before."""
    rows = call_list(case.n_caregivers)
    url = embedded.start(case.home).url
    migrate(url)
    with connect(url) as connection:

        def work() -> Outcome:
            n_rows = publish_call_list(
                connection,
                rows,
                call_date=LIST_DATE,
                budget=rows.num_rows,
                model_version=_MODEL_VERSION,
                run_id="measured",
                published_at=_PUBLISHED_AT,
            )
            return Outcome(n_rows)

        work()
        return repeat(work, repeats=case.repeats)


def call_list(n_rows: int) -> pa.Table:
    """A list of that many caregivers with plausible facts, the same every time."""
    rng = np.random.default_rng(2)
    is_responsive = rng.random(n_rows) < 0.4
    days = pa.array(np.where(is_responsive, rng.integers(1, 8, n_rows), rng.integers(8, 60, n_rows)))
    index = np.sort(rng.normal(0.3, 0.2, n_rows))[::-1]
    facts = pa.table(
        {
            "state": pa.array([UNRESPONSIVE, RESPONSIVE]).take(pa.array(is_responsive.astype(np.int8))),
            "days_since_last_open": days,
            "p_passive": rng.integers(5, 60, n_rows) / 100,
            "p_active": rng.integers(20, 90, n_rows) / 100,
            "is_drawn": rng.random(n_rows) < 0.05,
        }
    )
    digits = pc.utf8_lpad(pa.array(rng.permutation(n_rows)).cast(pa.string()), width=6, padding="0")
    called_at = [LIST_DATE - timedelta(days=20), None]
    return pa.table(
        {
            "call_date": pa.repeat(pa.scalar(LIST_DATE), n_rows),
            "rank": pa.array(np.arange(1, n_rows + 1), pa.int32()),
            "caregiver_id": pc.binary_join_element_wise("CG", digits, "-"),
            "district": pa.array([place.name for place in DISTRICTS]).take(
                pa.array(rng.integers(0, len(DISTRICTS), n_rows))
            ),
            "state": facts["state"],
            "cluster_id": pa.array(rng.integers(0, 20, n_rows), pa.int16()),
            "whittle_index": index,
            "index_low": index - 0.05,
            "index_high": index + 0.05,
            "reason": reasons(facts, lookback_days=84),
            "days_since_last_open": days.cast(pa.int16()),
            "last_call_date": pa.array(called_at, pa.date32()).take(pa.array(rng.integers(0, 2, n_rows))),
            "ab_arm": pa.repeat(TREATMENT_ARM, n_rows),
            "propensity": pa.array(np.where(facts["is_drawn"], 0.01, 1.0)),
            "model_version": pa.repeat(_MODEL_VERSION, n_rows),
            "own_index": pa.array(rng.random(n_rows)),
            "p_top_k": pa.array(rng.random(n_rows)),
        }
    )


if __name__ == "__main__":
    serve((publish,), sys.argv[1:])
