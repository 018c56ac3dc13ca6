"""The row-wise statement of the original design in PostgreSQL: the state of each caregiver by a subquery of her own.

The programme's tables hold all caregivers and the messages of the weeks that the engine's lookback reads, in the order
in which they were sent, analyzed and vacuumed, with the indexes that the statement can use. The server has a quarter
of the machine's memory for its pages and everything is in them before the clock starts; the session sorts and hashes
in memory, and the result stays in the server: it is counted, not sent. The statement is timed twice over:

- as PostgreSQL plans it, which may gather the engaged of the week into a hash table first, through the indexes of
  opened_at and clicked_at, and is then no longer row-wise;
- caregiver by caregiver, as it is written: `OFFSET 0` in the subquery keeps the planner from gathering.

Stages for `python -m benchmarks.rowwise <stage> <case>`.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import LiteralString

import psutil
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from bandicoot_core.calendar import end_of_day, start_of_day
from bandicoot_core.contracts import CAREGIVER_STATES
from bandicoot_core.demo.chains import weekly_chains
from bandicoot_core.demo.copying import copy_rows
from bandicoot_core.demo.messages import weekly_messages
from bandicoot_core.demo.population import Population, build_population
from bandicoot_core.demo.programme import Programme
from bandicoot_core.demo.rows import Window, caregiver_rows, message_rows
from bandicoot_core.demo.source_schema import create_indexes, create_source_schema, drop_indexes, source_table
from bandicoot_core.settings import Settings
from bandicoot_core.stores.embedded import server as embedded
from bandicoot_core.stores.embedded.launch import SERVER_SETTINGS
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.postgres.arrow_copy import copy_out
from bandicoot_core.stores.postgres.connections import connect
from benchmarks.data import LAST_DAY, LIST_DATE, control_arm, programme_of
from benchmarks.measure import Case, Measured, Outcome, repeat, serve

N_WEEKS = Settings.model_fields["lookback_days"].default // 7
"""Weeks of messages in PostgreSQL: those in which caregiver_states looks for the last open."""
_COPIED_ROWS = 100_000

_STATES = """
    SELECT c.caregiver_id,
        CASE WHEN EXISTS (
            SELECT 1 FROM suvita_production.sms_logs AS s
            WHERE s.caregiver_id = c.caregiver_id
                AND (s.opened_at >= {start} AND s.opened_at < {end} OR s.clicked_at >= {start} AND s.clicked_at < {end})
            {fence}
        ) THEN 'R' ELSE 'U' END AS state
    FROM suvita_production.caregivers AS c
"""
# OFFSET 0 again: without it the planner, asked for one row, takes the subquery to be executed once.
_COUNTED = "SELECT count(*), count(*) FILTER (WHERE state = 'R') FROM ({} OFFSET 0) AS states"
_SESSION = "SET work_mem = '256MB'; SET jit = off"
# The log is only loaded and read, so that nothing needs to be written ahead of a crash.
_SERVER = {"wal_level": "minimal", "max_wal_senders": "0", "fsync": "off"}


def load(case: Case) -> Measured:
    """Fill the source tables: all caregivers, and the messages of the newest weeks."""
    url = _server_url(case)

    def work() -> Outcome:
        programme = programme_of(case.n_caregivers)
        population = build_population(programme)
        window = Window(since=None, until=LIST_DATE)
        with connect(url) as connection:
            create_source_schema(connection)
            with connection.transaction():
                connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
                connection.execute("TRUNCATE suvita_production.caregivers, suvita_production.sms_logs")
                drop_indexes(connection)
                # The statement does not look for messages by their own id, and loading is faster without its index.
                connection.execute("ALTER TABLE suvita_production.sms_logs DROP CONSTRAINT sms_logs_pkey")
                registry = caregiver_rows(programme, population, slice(0, population.n_caregivers), window)
                copy_rows(connection, source_table("caregivers"), [registry], is_frozen=True)
                messages = _newest_messages(programme, population, window)
                n_rows = copy_rows(connection, source_table("sms_logs"), messages, is_frozen=True)
                create_indexes(connection)
            for table in ("caregivers", "sms_logs"):
                connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(source_table(table)))
        return Outcome(n_rows)

    return repeat(work, repeats=1)


def as_planned(case: Case) -> Measured:
    """The statement as PostgreSQL plans it."""
    return _states(case, fence="")


def row_by_row(case: Case) -> Measured:
    """The statement with the subquery executed for each caregiver."""
    return _states(case, fence="OFFSET 0")


def _states(case: Case, *, fence: LiteralString) -> Measured:
    """The statement, timed; its result must be the lake's caregiver_states, caregiver by caregiver.

    The processor time is the server's. Facts: how the plan gets at the messages, and the caregivers in R.
    """
    window = {"start": start_of_day(LAST_DAY - timedelta(days=6)), "end": end_of_day(LAST_DAY)}
    literals = {name: sql.Literal(instant) for name, instant in window.items()}
    statement = sql.SQL(_STATES).format(fence=sql.SQL(fence), **literals)
    counted = sql.SQL(_COUNTED).format(statement)
    with connect(_server_url(case)) as connection:
        connection.execute(_SESSION)
        backend = psutil.Process(connection.info.backend_pid)
        cpu_seconds: list[float] = []

        def work() -> Outcome:
            before = sum(backend.cpu_times()[:2])
            row = connection.execute(counted).fetchone()
            assert row is not None
            cpu_seconds.append(sum(backend.cpu_times()[:2]) - before)
            return Outcome(row[0], {"n_responsive": row[1], "access": access})

        access = _access(connection, counted)
        _require_same_states(case, connection, statement)  # also brings every page into memory
        return replace(repeat(work, repeats=case.repeats), cpu_seconds=cpu_seconds)


def _access(connection: psycopg.Connection, query: sql.Composed) -> str:
    """How PostgreSQL gets at the messages: the first node of the subquery's plan."""
    lines = [row[0] for row in connection.execute(sql.SQL("EXPLAIN (COSTS OFF) {}").format(query))]
    position = next(k for k, line in enumerate(lines) if "SubPlan" in line)
    return str(lines[position + 1]).strip(" ->")


def _server_url(case: Case) -> str:
    """The URL of the case's server, which is started with settings of its own when it is not running."""
    quarter_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 >> 20
    SERVER_SETTINGS.update(_SERVER, shared_buffers=f"{quarter_mb}MB")
    return embedded.start(case.home).url


def _newest_messages(programme: Programme, population: Population, window: Window) -> Iterator[pa.Table]:
    """The messages week by week, in the order they were sent: a log grows that way, not caregiver by caregiver."""
    first_week = programme.n_complete_weeks - N_WEEKS
    for chain in weekly_chains(programme, population, is_control=control_arm(programme, population)):
        if chain.week >= first_week:
            blocks = weekly_messages(programme, population, chain)
            rows = pa.concat_tables([message_rows(population, messages, window) for messages in blocks])
            yield from _slices(rows.sort_by("sent_at"))


def _slices(rows: pa.Table) -> Iterator[pa.Table]:
    """Parts of a table of a size that is written at once."""
    return (rows.slice(first, _COPIED_ROWS) for first in range(0, rows.num_rows, _COPIED_ROWS))


def _require_same_states(case: Case, connection: psycopg.Connection, statement: sql.Composed) -> None:
    """AssertionError unless the statement and the lake agree on the state of every caregiver."""
    schema = pa.schema([("caregiver_id", pa.string()), ("state", pa.string())])
    theirs = copy_out(connection, statement, (), schema)
    number = pc.add(pc.utf8_slice_codeunits(theirs["caregiver_id"], 3, 99).cast(pa.int64()), 1)
    theirs = theirs.append_column("caregiver_key", number).sort_by("caregiver_key")
    ours = Lake(case.lake_root).read(CAREGIVER_STATES, "caregiver_states", LAST_DAY.isoformat())
    assert theirs["caregiver_key"].equals(ours["caregiver_key"]), "the two sides have different caregivers"
    n_different = pc.sum(pc.not_equal(theirs["state"], ours["state"])).as_py()
    assert n_different == 0, f"{n_different} of {ours.num_rows} caregivers have different states"


if __name__ == "__main__":
    serve((load, as_planned, row_by_row), sys.argv[1:])
