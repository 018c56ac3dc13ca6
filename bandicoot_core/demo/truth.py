"""The demo's truth as Parquet files: what no production database knows, for evaluation and tests.

truth_types.parquet, one row per behavioural type
    type_id, name, n_caregivers, p_passive_u, p_passive_r, p_active_u, p_active_r (P(next = R) by action and state),
    stationary_share (of R, without calls).
truth_caregivers.parquet, one row per enrolled caregiver
    caregiver_id, type_id, first_week_date (Sunday of her first whole week; week 0 for those enrolled before it),
    opted_out_date (first day without messages; null when that has not happened), is_control.
truth_states.parquet, one row per caregiver and whole week before as_of_date, from first_week_date until her opt-out
    week_start_date (Sunday), caregiver_id, state (R or U), is_called (a call was attempted in that week). One row
    group per week, ordered by caregiver.

A state says whether she opened anything in that week; is_called of week k decides which chance of her type takes her
from week k to week k+1. Every file names the programme it belongs to in its metadata.
"""

import json
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bandicoot_core.contracts import STATES
from bandicoot_core.demo.chains import ChainWeek
from bandicoot_core.demo.population import BoolArray, Population
from bandicoot_core.demo.programme import Programme, epoch_day
from bandicoot_core.demo.stored import to_parameters

TYPES_FILE = "truth_types.parquet"
CAREGIVERS_FILE = "truth_caregivers.parquet"
STATES_FILE = "truth_states.parquet"
TRUTH_FILES = (TYPES_FILE, CAREGIVERS_FILE, STATES_FILE)

_PROGRAMME_KEY = b"bandicoot_demo"
_UNFINISHED_SUFFIX = ".unfinished"
# Ids ascend within a row group: delta encoding stores them in about a byte each.
_PARQUET_OPTIONS = {"compression": "zstd", "use_dictionary": ["state"]}
_ID_ENCODING = {"caregiver_id": "DELTA_BYTE_ARRAY"}


class TruthWriter(AbstractContextManager["TruthWriter"]):
    """Writes the truth of one programme beside the old one and puts it in its place on `publish`.

    Left without `publish`, whatever the reason, the old truth stays and what was written is removed.
    """

    def __init__(self, truth_dir: Path, programme: Programme, population: Population, is_control: BoolArray) -> None:
        self._dir = truth_dir
        self._programme = programme
        self._population = population
        self._is_control = is_control
        self._metadata = {_PROGRAMME_KEY: _fingerprint(programme)}
        schema = pa.schema(
            [
                pa.field("week_start_date", pa.date32(), nullable=False),
                pa.field("caregiver_id", pa.string(), nullable=False),
                pa.field("state", pa.string(), nullable=False),
                pa.field("is_called", pa.bool_(), nullable=False),
            ],
            metadata=self._metadata,
        )
        truth_dir.mkdir(parents=True, exist_ok=True)
        self._states = pq.ParquetWriter(
            self._unfinished(STATES_FILE), schema, column_encoding=_ID_ENCODING, **_PARQUET_OPTIONS
        )

    def add_week(self, chain: ChainWeek) -> tuple[int, int]:
        """Write the states of a week; returns how many caregivers were observed in it and how many were responsive.

        A partial last week is left out (0, 0): its state is not known yet.
        """
        if chain.week >= self._programme.n_complete_weeks:
            return 0, 0
        n = self._population.n_enrolled_by_week(chain.week - 1)
        observed = np.flatnonzero(self._population.opted_out_week[:n] > chain.week)
        is_responsive = chain.is_responsive[observed]
        week_start = epoch_day(self._programme.week_date(chain.week))
        rows = pa.table(
            [
                pa.array(np.full(len(observed), week_start, dtype=np.int32)).cast(pa.date32()),
                self._population.caregiver_ids.take(pa.array(observed)),
                pa.array(STATES).take(pa.array(is_responsive.astype(np.int8))),
                pa.array(chain.is_called[observed]),
            ],
            schema=self._states.schema,
        )
        self._states.write_table(rows, row_group_size=max(1, len(observed)))
        return len(observed), int(np.count_nonzero(is_responsive))

    def publish(self) -> None:
        """Write types and caregivers and replace the old truth, file by file."""
        self._states.close()
        self._write(CAREGIVERS_FILE, _caregiver_truth(self._programme, self._population, self._is_control))
        self._write(TYPES_FILE, _type_truth(self._programme, self._population))
        for name in TRUTH_FILES:
            self._unfinished(name).replace(self._dir / name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._states.close()
        for name in TRUTH_FILES:
            self._unfinished(name).unlink(missing_ok=True)

    def _write(self, name: str, table: pa.Table) -> None:
        pq.write_table(table.replace_schema_metadata(self._metadata), self._unfinished(name), compression="zstd")

    def _unfinished(self, name: str) -> Path:
        return self._dir / f"{name}{_UNFINISHED_SUFFIX}"


def is_truth_of(truth_dir: Path, programme: Programme) -> bool:
    """Whether all truth files are there and belong to this very programme, as_of_date included.

    False after a process died between the commit of the rows and the replacement of the files; filling or extending
    the programme again, even to the same day, mends it.
    """
    paths = [truth_dir / name for name in TRUTH_FILES]
    expected = _fingerprint(programme)
    return all(
        path.exists() and (pq.read_schema(path).metadata or {}).get(_PROGRAMME_KEY) == expected for path in paths
    )


def _fingerprint(programme: Programme) -> bytes:
    fixed = programme.with_fixed_start()
    document = {
        "seed": fixed.seed,
        "n_caregivers": fixed.n_caregivers,
        "start_date": fixed.origin_date.isoformat(),
        "as_of_date": fixed.as_of_date.isoformat(),
        "parameters": to_parameters(fixed),
    }
    return json.dumps(document, sort_keys=True).encode()


def _caregiver_truth(programme: Programme, population: Population, is_control: BoolArray) -> pa.Table:
    as_of = epoch_day(programme.as_of_date)
    n = population.n_enrolled_before(as_of)
    first_day = epoch_day(programme.first_week_date)
    first_week = np.maximum(population.enrolled_week[:n] + 1, 0)
    opted_out_day = first_day + 7 * population.opted_out_week[:n].astype(np.int64)
    return pa.table(
        {
            "caregiver_id": population.caregiver_ids[:n],
            "type_id": pa.array(population.type_id[:n]),
            "first_week_date": pa.array((first_day + 7 * first_week).astype(np.int32)).cast(pa.date32()),
            "opted_out_date": pa.array(
                np.minimum(opted_out_day, as_of).astype(np.int32), mask=opted_out_day >= as_of
            ).cast(pa.date32()),
            "is_control": pa.array(is_control[:n]),
        }
    )


def _type_truth(programme: Programme, population: Population) -> pa.Table:
    kinds = programme.types
    n = population.n_enrolled_before(epoch_day(programme.as_of_date))
    return pa.table(
        {
            "type_id": pa.array(range(len(kinds)), type=pa.int8()),
            "name": [kind.name for kind in kinds],
            "n_caregivers": pa.array(np.bincount(population.type_id[:n], minlength=len(kinds))),
            "p_passive_u": [kind.p_passive[0] for kind in kinds],
            "p_passive_r": [kind.p_passive[1] for kind in kinds],
            "p_active_u": [kind.p_active[0] for kind in kinds],
            "p_active_r": [kind.p_active[1] for kind in kinds],
            "stationary_share": [kind.stationary_share for kind in kinds],
        }
    )
