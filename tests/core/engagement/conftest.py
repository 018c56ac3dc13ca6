"""Literal tables of a programme, written as short rows, and an engine that answers with rows."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import ibis
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import CALLS, CAREGIVERS, ENGAGEMENT_HISTORY, SMS_EVENTS, TableContract, conform
from bandicoot_core.stores.engine import open_engine

Instant = datetime | str


class Programme:
    """Builds the tables that the expressions take, and executes expressions."""

    def __init__(self, engine: Backend) -> None:
        self.engine = engine

    def caregivers(self, enrolled_at: dict[int, Instant]) -> ibis.Table:
        """A registry: caregiver_key -> enrolled_at."""
        return _table(
            CAREGIVERS,
            [
                {
                    "caregiver_key": key,
                    "district": f"D{key}",
                    "enrolled_at": instant(at),
                    "age": None,
                    "parity": None,
                    "phone_reliable": None,
                    "enrollment_source": None,
                    "status": "active" if key % 2 else "paused",
                    "ab_arm": "treatment" if key % 3 else "control",
                }
                for key, at in enrolled_at.items()
            ],
        )

    def events(self, *rows: tuple[int, str, Instant]) -> ibis.Table:
        """Events: (caregiver_key, event_type, occurred_at)."""
        return _table(
            SMS_EVENTS,
            [
                {"caregiver_key": key, "message_id": f"M-{n}", "event_type": kind, "occurred_at": instant(at)}
                for n, (key, kind, at) in enumerate(rows)
            ],
        )

    def calls(self, *rows: tuple[int, Instant]) -> ibis.Table:
        """Calls: (caregiver_key, attempted_at)."""
        return _table(
            CALLS,
            [
                {
                    "call_id": f"C-{n}",
                    "caregiver_key": key,
                    # A call made after midnight from the list of the day before: the list's day must not count.
                    "call_date": datetime(2000, 1, 1, tzinfo=UTC).date(),
                    "attempted_at": instant(at),
                    "outcome": "no_answer",
                }
                for n, (key, at) in enumerate(rows)
            ],
        )

    def history(self, *rows: tuple[int, int, int, int]) -> ibis.Table:
        """A history: (caregiver_key, opened_weeks, called_weeks, observed_weeks)."""
        return _table(
            ENGAGEMENT_HISTORY, [dict(zip(ENGAGEMENT_HISTORY.column_names, row, strict=True)) for row in rows]
        )

    def conformed(self, expression: ibis.Table, contract: TableContract) -> pa.Table:
        """The table of an expression after it passed its contract, in the contract's order."""
        assert list(expression.columns) == contract.column_names
        return conform(self.engine.to_pyarrow(expression), contract)

    def rows(self, expression: ibis.Table) -> list[tuple[Any, ...]]:
        """The rows of an expression as tuples, sorted."""
        table = self.engine.to_pyarrow(expression)
        return sorted(zip(*(column.to_pylist() for column in table.columns), strict=True))


def instant(value: Instant) -> datetime:
    """An instant from text in UTC."""
    return value if isinstance(value, datetime) else datetime.fromisoformat(value).replace(tzinfo=UTC)


def _table(contract: TableContract, rows: Sequence[dict[str, Any]]) -> ibis.Table:
    return ibis.memtable(pa.Table.from_pylist(list(rows), schema=contract.arrow_schema()))


@pytest.fixture(scope="session")
def programme() -> Iterator[Programme]:
    """One engine for all examples: nothing is stored in it."""
    with open_engine(memory_limit="1GB") as engine:
        yield Programme(engine)
