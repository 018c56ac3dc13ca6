"""A database that holds a demo programme, and ways to look at what was written."""

import hashlib
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from bandicoot_core.demo import DemoSummary, Programme, extend, fill
from bandicoot_core.demo.load import OnProgress

TABLES = (
    "suvita_production.caregivers",
    "suvita_production.sms_logs",
    "suvita_production.vaccinations",
    "suvita_production.demo_programme",
    "bandicoot.call_outcomes",
)


def is_control(caregiver_ids: pa.StringArray) -> npt.NDArray[np.bool_]:
    """A tenth of the caregivers, by a hash of their ids."""
    return np.array([zlib.crc32(text.encode()) % 10 == 0 for text in caregiver_ids.to_pylist()], dtype=np.bool_)


def control_arm(registry: pa.Table) -> npt.NDArray[np.bool_]:
    """The same, of the registry's rows."""
    return is_control(registry["caregiver_id"])


def create_call_outcomes(connection: psycopg.Connection) -> None:
    connection.execute("CREATE SCHEMA bandicoot")
    connection.execute(
        """
        CREATE TABLE bandicoot.call_outcomes (
            call_id text PRIMARY KEY,
            caregiver_id text NOT NULL,
            call_date date NOT NULL,
            attempted_at timestamptz NOT NULL,
            outcome text NOT NULL CHECK (outcome IN ('reached', 'no_answer', 'busy', 'wrong_number', 'refused')),
            recorded_by text NOT NULL
        )
        """
    )


@dataclass(frozen=True)
class DemoDatabase:
    """A connection with bandicoot.call_outcomes and whatever demo a test fills into it."""

    url: str
    connection: psycopg.Connection
    truth_dir: Path

    def fill(self, programme: Programme, on_progress: OnProgress | None = None) -> DemoSummary:
        return fill(
            self.connection, programme, truth_dir=self.truth_dir, is_control=control_arm, on_progress=on_progress
        )

    def extend(self, programme: Programme, on_progress: OnProgress | None = None) -> DemoSummary:
        return extend(
            self.connection, programme, truth_dir=self.truth_dir, is_control=control_arm, on_progress=on_progress
        )

    def select(self, query: str, *parameters: object) -> list[Any]:
        return self.connection.execute(query.encode(), parameters or None).fetchall()

    def dump(self) -> dict[str, str]:
        """A hash of every table's rows as text, in the order of the text."""
        return {table: self._hash_of(table) for table in TABLES}

    def truth(self, name: str) -> pa.Table:
        return pq.read_table(self.truth_dir / f"truth_{name}.parquet")

    def truth_bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.truth_dir.iterdir()}

    def _hash_of(self, table: str) -> str:
        digest = hashlib.sha256()
        query = f'COPY (SELECT t::text FROM {table} AS t ORDER BY t::text COLLATE "C") TO STDOUT'
        with self.connection.cursor().copy(query.encode()) as copy:
            for chunk in copy:
                digest.update(chunk)
        return digest.hexdigest()
