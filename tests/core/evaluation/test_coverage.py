"""Coverage on a registry of seven caregivers, small enough to count by hand."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import (
    CALLS,
    CAREGIVER_STATES,
    CAREGIVERS,
    CLUSTER_ASSIGNMENTS,
    COVERAGE,
    WHITTLE_INDICES,
    TableContract,
    conform,
)
from bandicoot_core.evaluation.coverage import coverage

DAY = date(2026, 11, 14)

REGISTRY = [
    # key, district, age, parity, state, last call, warm-up end
    (1, "Gaya", 19, 0, "R", date(2026, 11, 10), date(2026, 1, 1)),
    (2, "Gaya", 20, 1, "U", None, date(2026, 11, 4)),
    (3, "Gaya", 24, 4, "U", date(2026, 9, 15), date(2026, 1, 1)),
    (4, "Patna", 35, 7, "U", None, date(2026, 1, 1)),
    (5, None, None, None, "R", None, date(2026, 11, 14)),
    (6, "Patna", 30, 2, "U", date(2026, 11, 14), date(2026, 11, 15)),
    (7, "Patna", 30, 2, "U", date(2026, 11, 14), date(2026, 1, 1)),
]
"""The sixth is still warming up, the seventh is in the control arm."""

CALL_TIMES = [
    (1, datetime(2026, 11, 10, 6, tzinfo=UTC)),
    (1, datetime(2026, 10, 17, 18, 29, tzinfo=UTC)),  # 23:59 IST of the day before the window
    (3, datetime(2026, 10, 17, 18, 30, tzinfo=UTC)),  # 00:00 IST of its first day
    (7, datetime(2026, 11, 14, 6, tzinfo=UTC)),
]


def table(contract: TableContract, defaults: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> ibis.Table:
    return ibis.memtable(pa.Table.from_pylist([{**defaults, **row} for row in rows], schema=contract.arrow_schema()))


@pytest.fixture
def found(engine: Backend) -> pa.Table:
    keys = [dict(zip(("caregiver_key", "district", "age", "parity"), row[:4], strict=True)) for row in REGISTRY]
    arms = {7: "control"}
    registry = table(
        CAREGIVERS,
        {"enrolled_at": datetime(2025, 12, 1, tzinfo=UTC), "status": "active"},
        [{**row, "ab_arm": arms.get(row["caregiver_key"], "treatment")} for row in keys],
    )
    states = table(
        CAREGIVER_STATES,
        {"status": "active"},
        [
            {
                "caregiver_key": key,
                "district": district,
                "state": state,
                "last_call_date": last_call,
                "warm_up_end_date": warm,
                "ab_arm": arms.get(key, "treatment"),
            }
            for key, district, _, _, state, last_call, warm in REGISTRY
        ],
    )
    calls = table(
        CALLS,
        {"call_date": DAY, "outcome": "busy"},
        [{"call_id": f"c-{n}", "caregiver_key": key, "attempted_at": at} for n, (key, at) in enumerate(CALL_TIMES)],
    )
    assignments = table(
        CLUSTER_ASSIGNMENTS,
        {"cluster_id": 0, "assigned_by": "history", "n_rr": 0, "n_ru": 0, "n_ur": 0, "n_uu": 0},
        [{"caregiver_key": key} for key in (1, 2, 3, 4, 6, 7)],
    )
    indices = table(
        WHITTLE_INDICES,
        {"cluster_id": 0, "index_low": 0.0, "index_high": 1.0, "is_indexable": True, "p_passive": 0.1, "p_active": 0.2},
        [{"state": "U", "whittle_index": 0.5}, {"state": "R", "whittle_index": 0.1}],
    )
    rows = coverage(states, registry, calls, assignments, indices, day=DAY, window_days=28, lookback_days=84)
    return conform(engine.to_pyarrow(rows), COVERAGE)


def groups(found: pa.Table, dimension: str, *columns: str) -> dict[str, tuple[Any, ...]]:
    return {
        row["group"]: tuple(row[name] for name in columns) for row in found.to_pylist() if row["dimension"] == dimension
    }


def test_only_whom_a_call_could_have_reached_is_counted(found: pa.Table) -> None:
    assert groups(found, "all", "n_caregivers", "n_responsive") == {"everyone": (5, 2)}


def test_calls_are_those_of_the_window_in_indian_days(found: pa.Table) -> None:
    columns = ("n_caregivers", "n_called", "n_calls", "share_called", "share_of_calls")
    assert groups(found, "district", *columns) == {
        "(unknown)": (1, 0, 0, 0.0, 0.0),
        "Gaya": (3, 2, 2, 2 / 3, 1.0),
        "Patna": (1, 0, 0, 0.0, 0.0),
    }


def test_the_wait_runs_from_the_last_call_or_the_end_of_the_warm_up_within_the_lookback(found: pa.Table) -> None:
    assert groups(found, "district", "longest_wait_days", "n_waiting_longest") == {
        "(unknown)": (0, 1),
        "Gaya": (60, 1),
        "Patna": (84, 1),
    }


def test_ages_and_parities_fall_into_bands_and_none_is_lost(found: pa.Table) -> None:
    assert groups(found, "age band", "n_caregivers") == {
        "19 and under": (1,),
        "20 to 24": (2,),
        "35 and over": (1,),
        "(unknown)": (1,),
    }
    assert groups(found, "parity", "n_caregivers") == {"0": (1,), "1": (1,), "4 or more": (2,), "(unknown)": (1,)}


def test_the_index_is_that_of_cluster_and_state_and_unknown_without_a_cluster(found: pa.Table) -> None:
    quantiles = groups(found, "district", "index_p10", "index_p50", "index_p90")
    assert quantiles["(unknown)"] == (None, None, None)
    assert quantiles["Patna"] == (0.5, 0.5, 0.5)
    assert quantiles["Gaya"] == pytest.approx((0.18, 0.5, 0.5))


def test_shares_of_caregivers_add_up_in_every_dimension(found: pa.Table) -> None:
    totals = found.group_by("dimension").aggregate([("share_of_caregivers", "sum")]).to_pylist()
    assert [row["share_of_caregivers_sum"] for row in totals] == pytest.approx([1.0] * 4)
