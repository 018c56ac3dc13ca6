"""Source rows and keys as small literal tables, and an intake executed into plain rows."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, NamedTuple

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import SET_ASIDE
from bandicoot_core.engagement.intake import Intake

IST = timezone(timedelta(hours=5, minutes=30))
INSTANT = pa.timestamp("us", tz="UTC")

SMS_LOGS = pa.schema(
    {
        "message_id": pa.string(),
        "caregiver_id": pa.string(),
        "sent_at": INSTANT,
        "delivered_at": INSTANT,
        "opened_at": INSTANT,
        "clicked_at": INSTANT,
        "status": pa.string(),
    }
)
REGISTRY = pa.schema(
    {
        "caregiver_id": pa.string(),
        "district": pa.string(),
        "enrolled_at": INSTANT,
        "age": pa.int64(),
        "parity": pa.int64(),
        "phone_reliable": pa.bool_(),
        "enrollment_source": pa.string(),
        "status": pa.string(),
    }
)
KEYS = pa.schema({"caregiver_key": pa.int64(), "caregiver_id": pa.string(), "ab_arm": pa.string()})


class Taken(NamedTuple):
    """An executed intake: rows as dicts without partition_date, by day; counts as (read, set aside, blanked)."""

    accepted: dict[date, list[dict[str, Any]]]
    set_aside: dict[date, list[dict[str, Any]]]
    counts: dict[date, tuple[int, int, int]]


def ist(text: str) -> datetime:
    """An instant in UTC from its wall clock in Asia/Kolkata, as `2026-11-20 09:30`."""
    return datetime.fromisoformat(text).replace(tzinfo=IST).astimezone(UTC)


def table(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> ibis.Table:
    """A table of rows that give only what matters; the rest is null. Instants may be IST wall clocks."""
    filled = []
    for row in rows:
        instants = {
            field.name: ist(row[field.name])
            for field in schema
            if field.type == INSTANT and isinstance(row.get(field.name), str)
        }
        filled.append(dict.fromkeys(schema.names) | dict(row) | instants)
    return ibis.memtable(pa.Table.from_pylist(filled, schema=schema))


def keys(*caregiver_ids: str) -> ibis.Table:
    """Keys 1, 2, ... for some ids, all in the treatment arm."""
    rows = [{"caregiver_key": n, "caregiver_id": id_, "ab_arm": "treatment"} for n, id_ in enumerate(caregiver_ids, 1)]
    return ibis.memtable(pa.Table.from_pylist(rows, schema=KEYS))


def taken(engine: Backend, intake: Intake) -> Taken:
    """The intake executed; records in the order of SET_ASIDE."""
    counts = {
        row["partition_date"]: (row["n_read"], row["n_set_aside"], row["n_blanked"])
        for row in engine.to_pyarrow(intake.counts).to_pylist()
    }
    accepted = engine.to_pyarrow(intake.accepted)
    set_aside = engine.to_pyarrow(intake.set_aside).sort_by([(name, "ascending") for name in SET_ASIDE.sort_by])
    return Taken(_by_day(accepted), _by_day(set_aside), counts)


def _by_day(rows: pa.Table) -> dict[date, list[dict[str, Any]]]:
    found: dict[date, list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        found.setdefault(row.pop("partition_date"), []).append(row)
    return found
