"""Fills and extends the demo programme in PostgreSQL: one transaction, so that readers see the old or the new one.

Decides what is written where and in which order. What the rows are is in `rows`, the source tables in
`source_schema`, how rows reach a table in `copying`. Rows stream week by week; memory is that of the population's
arrays and of one week.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from bandicoot_core.demo.calls import WeekCalls
from bandicoot_core.demo.chains import weekly_chains
from bandicoot_core.demo.copying import copy_rows, merge_rows
from bandicoot_core.demo.doses import DOSES, DoseBook
from bandicoot_core.demo.messages import weekly_messages
from bandicoot_core.demo.population import BoolArray, Population, build_population
from bandicoot_core.demo.programme import Programme
from bandicoot_core.demo.rows import (
    HISTORIC_RECORDER,
    Window,
    call_rows,
    caregiver_rows,
    message_rows,
    vaccination_rows,
)
from bandicoot_core.demo.source_schema import (
    DEMO_LOCK,
    SOURCE_TABLES,
    create_indexes,
    create_source_schema,
    drop_indexes,
    source_table,
)
from bandicoot_core.demo.stored import PROGRAMME_TABLE, require_same_programme, store_programme, stored_programme
from bandicoot_core.demo.streams import BLOCK_SIZE
from bandicoot_core.demo.truth import TruthWriter
from bandicoot_core.errors import InvalidInputError, SchemaDriftError

IsControl = Callable[[pa.Table], npt.NDArray[np.bool_]]
OnProgress = Callable[[str, int, int], None]

CALL_OUTCOMES = sql.Identifier("bandicoot", "call_outcomes")


@dataclass(frozen=True)
class DemoSummary:
    """What one fill or extension wrote; counts are rows inserted or updated by it."""

    start_date: date
    as_of_date: date
    n_caregivers: int
    n_messages: int
    n_vaccinations: int
    n_calls: int
    responsive_share: float
    """Share of responsive caregivers in the last whole week; nan when there is none."""


def fill(
    connection: psycopg.Connection,
    programme: Programme,
    *,
    truth_dir: Path,
    is_control: IsControl,
    on_progress: OnProgress | None = None,
) -> DemoSummary:
    """Replace whatever demo there was by this programme: source tables, historic calls and truth files.

    is_control takes the registry's rows of everybody, in the order of their ids, and returns who is in the control
    arm, ndarray of bool with one entry a row; those are never called. on_progress is told (stage, done, total) and must
    not use the connection. Everything is committed at once, and readers of the source tables wait for it; whatever ends
    the fill before that leaves the old programme and its truth. Raises InvalidInputError when the connection has an
    open transaction or the tables hold rows of no demo, SchemaDriftError when bandicoot.call_outcomes is missing.
    """
    with _only_demo(connection):
        return _write(
            connection,
            programme.with_fixed_start(),
            Window(since=None, until=programme.as_of_date),
            truth_dir=truth_dir,
            is_control=is_control,
            on_progress=on_progress,
        )


def extend(
    connection: psycopg.Connection,
    programme: Programme,
    *,
    truth_dir: Path,
    is_control: IsControl,
    on_progress: OnProgress | None = None,
) -> DemoSummary:
    """Let the stored programme go on until programme.as_of_date; its earlier days stay as they are.

    The result equals a fill of the stored programme to the later date. start_date, unless given, and n_weeks are those
    of the stored programme; every other parameter must be the same: InvalidInputError otherwise, and when no programme
    is stored or as_of_date lies before the stored one. Arguments and other errors as in `fill`.
    """
    with _only_demo(connection):
        stored = stored_programme(connection)
        if stored is None:
            raise InvalidInputError("there is no demo programme to extend; fill one first")
        require_same_programme(stored, programme)
        return _write(
            connection,
            replace(stored, as_of_date=programme.as_of_date),
            Window(since=stored.as_of_date, until=programme.as_of_date),
            truth_dir=truth_dir,
            is_control=is_control,
            on_progress=on_progress,
        )


def _write(
    connection: psycopg.Connection,
    programme: Programme,
    window: Window,
    *,
    truth_dir: Path,
    is_control: IsControl,
    on_progress: OnProgress | None,
) -> DemoSummary:
    population = build_population(programme)
    control = _control_arm(programme, population, is_control)
    with TruthWriter(truth_dir, programme, population, control) as truth:
        weeks = _Weeks(programme, population, control, truth, on_progress or _ignore_progress)
        with connection.transaction():
            create_source_schema(connection)
            _require_call_outcomes(connection)
            if window.since is None:
                _clear(connection)
            summary = _write_rows(connection, weeks, window)
            store_programme(connection, programme)
            if window.since is None:
                weeks.on_progress("indexes", 0, 1)
                create_indexes(connection)
                weeks.on_progress("indexes", 1, 1)
            for table in (*(source_table(name) for name in SOURCE_TABLES), CALL_OUTCOMES):
                connection.execute(sql.SQL("ANALYZE {}").format(table))
        truth.publish()
    return summary


@dataclass
class _Weeks:
    """Walks the weeks once and keeps what later tables need of them: calls, doses, and the last responsive share."""

    programme: Programme
    population: Population
    is_control: BoolArray
    truth: TruthWriter
    on_progress: OnProgress
    calls: list[WeekCalls] = field(default_factory=list)
    doses: DoseBook = field(init=False)
    responsive_share: float = float("nan")

    def __post_init__(self) -> None:
        self.doses = DoseBook(self.programme, self.population)

    def message_tables(self, window: Window) -> Iterator[pa.Table]:
        """The messages with news in the window, while all weeks pass."""
        n_weeks = self.programme.n_started_weeks
        for chain in weekly_chains(self.programme, self.population, is_control=self.is_control):
            self.calls.append(chain.calls)
            self.doses.record_week(chain)
            n_observed, n_responsive = self.truth.add_week(chain)
            if n_observed:
                self.responsive_share = n_responsive / n_observed
            # A message has its last news in the week after its own.
            last_news_date = self.programme.week_date(chain.week + 2)
            if window.since is None or last_news_date > window.since:
                for messages in weekly_messages(self.programme, self.population, chain):
                    yield message_rows(self.population, messages, window)
            self.on_progress("weeks", chain.week + 1, n_weeks)

    def blocks(self) -> Iterator[slice]:
        """The caregivers in blocks that are taken at once."""
        n = self.population.n_caregivers
        return (slice(first, min(first + BLOCK_SIZE, n)) for first in range(0, n, BLOCK_SIZE))


def _write_rows(connection: psycopg.Connection, weeks: _Weeks, window: Window) -> DemoSummary:
    def put(target: sql.Identifier, key: tuple[str, ...], tables: Iterable[pa.Table]) -> int:
        if window.since is None:
            return copy_rows(connection, target, tables, is_frozen=target is not CALL_OUTCOMES)
        return merge_rows(connection, target, key, tables)

    programme, population = weeks.programme, weeks.population
    n_caregivers = put(
        source_table("caregivers"),
        ("caregiver_id",),
        (caregiver_rows(programme, population, block, window) for block in weeks.blocks()),
    )
    n_messages = put(source_table("sms_logs"), ("message_id",), weeks.message_tables(window))
    n_vaccinations = put(
        source_table("vaccinations"),
        ("child_id", "vaccine_name"),
        (
            vaccination_rows(population, weeks.doses, dose, block, window)
            for block in weeks.blocks()
            for dose in range(len(DOSES))
        ),
    )
    n_calls = put(CALL_OUTCOMES, ("call_id",), (call_rows(population, calls, window) for calls in weeks.calls))
    return DemoSummary(
        start_date=programme.origin_date,
        as_of_date=programme.as_of_date,
        n_caregivers=n_caregivers,
        n_messages=n_messages,
        n_vaccinations=n_vaccinations,
        n_calls=n_calls,
        responsive_share=weeks.responsive_share,
    )


def _require_call_outcomes(connection: psycopg.Connection) -> None:
    row = connection.cursor(row_factory=tuple_row).execute("SELECT to_regclass('bandicoot.call_outcomes')").fetchone()
    if row == (None,):
        raise SchemaDriftError("bandicoot.call_outcomes does not exist; apply the migrations before filling the demo")


def _require_own_rows(connection: psycopg.Connection) -> None:
    """Refuse tables that hold rows although no programme is stored."""
    cursor = connection.cursor(row_factory=tuple_row)
    if cursor.execute(sql.SQL("SELECT FROM {}").format(PROGRAMME_TABLE)).fetchone() is not None:
        return
    for name in SOURCE_TABLES:
        if cursor.execute(sql.SQL("SELECT FROM {} LIMIT 1").format(source_table(name))).fetchone() is not None:
            raise InvalidInputError(
                f"suvita_production.{name} holds rows that no demo wrote; nothing was changed: point the demo to a "
                "database of its own"
            )


def _clear(connection: psycopg.Connection) -> None:
    """Empty the tables for a fill; calls that others recorded stay."""
    _require_own_rows(connection)
    # Building the indexes once, over all rows, takes less time than keeping them up row by row.
    connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
    connection.execute(sql.SQL("TRUNCATE {}").format(sql.SQL(", ").join(map(source_table, SOURCE_TABLES))))
    drop_indexes(connection)
    connection.execute(sql.SQL("DELETE FROM {} WHERE recorded_by = %s").format(CALL_OUTCOMES), [HISTORIC_RECORDER])


def _control_arm(programme: Programme, population: Population, is_control: IsControl) -> BoolArray:
    everybody = slice(0, population.n_caregivers)
    until = programme.week_date(programme.n_started_weeks)
    control = np.asarray(is_control(caregiver_rows(programme, population, everybody, Window(None, until))))
    if control.shape != (population.n_caregivers,) or control.dtype != np.bool_:
        raise InvalidInputError(
            f"is_control returned an array of {control.dtype} with shape {control.shape}; expected bool with shape "
            f"({population.n_caregivers},), one entry per caregiver"
        )
    return control


@contextmanager
def _only_demo(connection: psycopg.Connection) -> Iterator[None]:
    """Keep other fills and extensions of this database waiting until the truth files are in their place, too."""
    status = connection.info.transaction_status
    if status != TransactionStatus.IDLE:
        raise InvalidInputError(
            f"the connection is in state {status.name}; the demo needs one without an open transaction, so that it "
            "commits everything at once"
        )
    with connection.transaction():
        connection.execute("SELECT pg_advisory_lock(%s)", [DEMO_LOCK])
    try:
        yield
    finally:
        if not connection.closed:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_unlock(%s)", [DEMO_LOCK])


def _ignore_progress(stage: str, done: int, total: int) -> None:
    """The progress of a fill that nobody watches."""
