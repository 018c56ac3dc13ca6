"""What an engine makes of the expressions: the types it stores, the files it skips, and the dialects it speaks."""

import json
from datetime import date
from pathlib import Path

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from ibis.config import Config

from bandicoot_core.calendar import weeks_ending_with
from bandicoot_core.contracts import (
    ACTIVE_TUPLE,
    CALLS,
    CAREGIVER_STATES,
    CAREGIVERS,
    ENGAGEMENT_HISTORY,
    PASSIVE_COUNTS,
    PASSIVE_TUPLE,
    SMS_EVENTS,
    TableContract,
)
from bandicoot_core.engagement.completeness import messages_by_week
from bandicoot_core.engagement.counts import (
    RECENT_ACTIVE_TUPLE,
    RECENT_PASSIVE_TUPLE,
    passive_counts,
    recent_transition_counts,
    responsive_share_by_week,
    transition_counts,
)
from bandicoot_core.engagement.history import engagement_history, extend_history, history_until
from bandicoot_core.engagement.states import caregiver_states

DAY = date(2026, 10, 31)
LAST_WEEK = date(2026, 10, 25)
EXPECTED_TYPES = {
    "caregiver_states": CAREGIVER_STATES.arrow_schema(),
    "engagement_history": ENGAGEMENT_HISTORY.arrow_schema(),
    "extend_history": ENGAGEMENT_HISTORY.arrow_schema(),
    "transition_counts": pa.schema(
        [("caregiver_key", pa.int64()), *((name, pa.int16()) for name in (*PASSIVE_TUPLE, *ACTIVE_TUPLE))]
    ),
    "recent_transition_counts": pa.schema(
        [
            ("caregiver_key", pa.int64()),
            *((name, pa.int16()) for name in (*PASSIVE_TUPLE, *ACTIVE_TUPLE)),
            *((name, pa.float64()) for name in (*RECENT_PASSIVE_TUPLE, *RECENT_ACTIVE_TUPLE)),
        ]
    ),
    "passive_counts": PASSIVE_COUNTS.arrow_schema(),
    "responsive_share_by_week": pa.schema(
        [("week_date", pa.date32()), ("n_observed", pa.int64()), ("n_responsive", pa.int64())]
    ),
    "history_until": ENGAGEMENT_HISTORY.arrow_schema(),
    "messages_by_week": pa.schema([("n_sent", pa.int64()), ("week", pa.int16())]),
}


class SparkOptions(Config):
    """The option that Spark's client, which is installed apart, brings with it."""

    treat_nan_as_null: bool = False


@pytest.fixture(autouse=True)
def spark_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ibis.options, "pyspark", SparkOptions())


def named(contract: TableContract) -> ibis.Table:
    return ibis.table(ibis.schema(contract.arrow_schema()), name=contract.name)


def expressions(n_weeks: int) -> dict[str, ibis.Table]:
    weeks = weeks_ending_with(LAST_WEEK, n_weeks)
    tables = named(CAREGIVERS), named(SMS_EVENTS), named(CALLS)
    history = named(ENGAGEMENT_HISTORY)
    return {
        "caregiver_states": caregiver_states(*tables, day=DAY, lookback_days=84, warm_up_weeks=6),
        "engagement_history": engagement_history(*tables, weeks=weeks),
        "extend_history": extend_history(
            history, *tables, previous_weeks=weeks_ending_with(date(2026, 10, 18), n_weeks), weeks=weeks
        ),
        "transition_counts": transition_counts(history),
        "recent_transition_counts": recent_transition_counts(history, n_weeks=n_weeks, half_life_weeks=8.0),
        "passive_counts": passive_counts(history),
        "responsive_share_by_week": responsive_share_by_week(history, weeks=weeks),
        "history_until": history_until(history, first=1, n_weeks=n_weeks - 1),
        "messages_by_week": messages_by_week(named(SMS_EVENTS), history, weeks=weeks),
    }


@pytest.mark.parametrize("dialect", ["duckdb", "bigquery", "pyspark"])
@pytest.mark.parametrize("n_weeks", [3, 62])
@pytest.mark.parametrize("name", list(EXPECTED_TYPES))
def test_every_expression_compiles_to_sql_that_the_dialect_can_read(name, n_weeks, dialect):
    sql = str(ibis.to_sql(expressions(n_weeks)[name], dialect=dialect))
    assert sqlglot.parse_one(sql, read="spark" if dialect == "pyspark" else dialect).find(sqlglot.exp.Select)


@pytest.mark.parametrize("n_weeks", [3, 62])
@pytest.mark.parametrize("name", list(EXPECTED_TYPES))
def test_spark_is_never_asked_to_shift_a_32_bit_literal(name, n_weeks):
    sql = str(ibis.to_sql(expressions(n_weeks)[name], dialect="pyspark"))
    assert "SHIFTLEFT" not in sql.upper()


@pytest.mark.parametrize("n_weeks", [3, 33])
@pytest.mark.parametrize("name", list(EXPECTED_TYPES))
def test_what_the_engine_stores_has_the_types_of_the_contract(engine, tmp_path: Path, name, n_weeks):
    for contract in (CAREGIVERS, SMS_EVENTS, CALLS, ENGAGEMENT_HISTORY):
        engine.create_table(contract.name, contract.empty())
    engine.to_parquet(expressions(n_weeks)[name], tmp_path / "stored.parquet")
    stored = pq.read_schema(tmp_path / "stored.parquet")
    assert [(field.name, field.type) for field in stored] == [
        (field.name, field.type) for field in EXPECTED_TYPES[name]
    ]


@pytest.mark.parametrize("name", ["caregiver_states", "engagement_history", "extend_history"])
def test_row_groups_of_other_types_and_times_can_be_skipped(engine, tmp_path: Path, name):
    for contract in (CAREGIVERS, SMS_EVENTS, CALLS, ENGAGEMENT_HISTORY):
        pq.write_table(contract.empty(), tmp_path / f"{contract.name}.parquet")
        engine.read_parquet(tmp_path / f"{contract.name}.parquet", table_name=contract.name)
    sql = str(ibis.to_sql(expressions(26)[name], dialect="duckdb"))
    [(_, plan)] = engine.raw_sql(f"EXPLAIN (FORMAT JSON) {sql}").fetchall()
    filters = [str(info.get("Filters", "")) for info in scans(json.loads(plan))]
    assert any("event_type IN" in found and "occurred_at>=" in found and "occurred_at<" in found for found in filters)
    assert any("attempted_at>=" in found and "attempted_at<" in found for found in filters)


def scans(nodes):
    """extra_info of every Parquet scan in a plan."""
    for node in nodes:
        if "PARQUET" in node["name"]:
            yield node["extra_info"]
        yield from scans(node["children"])
