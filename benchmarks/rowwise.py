"""The row-wise statement of the original design, in PostgreSQL: the state of each caregiver by a subquery of her own.

The programme's tables with their indexes, the newest four weeks of messages (all that matters to a 7-day window; a
production table is larger, which would be no easier), analyzed and vacuumed. The statement runs warm, in a session
with generous memory, and its rows stay in the server: they are counted, not sent. Stages for
`python -m benchmarks.rowwise <stage> <case>`.
"""

import sys
import time
from collections.abc import Iterator
from datetime import timedelta

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
from bandicoot_core.stores import embedded
from bandicoot_core.stores.arrow_copy import copy_out
from bandicoot_core.stores.connections import connect
from bandicoot_core.stores.lake import Lake
from benchmarks.data import LAST_DAY, LIST_DATE, control_arm, programme_of
from benchmarks.measure import Case, Measured, Outcome, repeat, serve

N_WEEKS = 4
"""Weeks of messages in PostgreSQL."""

_STATES = """
    SELECT c.caregiver_id,
        CASE WHEN EXISTS (
            SELECT 1 FROM suvita_production.sms_logs AS s
            WHERE s.caregiver_id = c.caregiver_id
                AND ((s.opened_at >= {start} AND s.opened_at < {end}) OR (s.clicked_at >= {start} AND s.clicked_at < {end}))
        ) THEN 'R' ELSE 'U' END AS state
    FROM suvita_production.caregivers AS c
"""
_SESSION = ("work_mem = '256MB'", "jit = off")


def load(case: Case) -> Measured:
    """Fill the source tables: all caregivers, and the messages of the newest weeks."""
    url = embedded.start(case.home).url

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
                registry = caregiver_rows(programme, population, slice(0, population.n_caregivers), window)
                copy_rows(connection, source_table("caregivers"), [registry], is_frozen=True)
                messages = _newest_messages(programme, population, window)
                n_rows = copy_rows(connection, source_table("sms_logs"), messages, is_frozen=True)
                create_indexes(connection)
            for table in ("caregivers", "sms_logs"):
                connection.execute(sql.SQL("VACUUM (ANALYZE) {}").format(source_table(table)))
        return Outcome(n_rows)

    return repeat(work, repeats=1)


def states(case: Case) -> Measured:
    """The statement, timed; its result must be the lake's caregiver_states, caregiver by caregiver.

    Facts: how PostgreSQL executes the subquery, and the caregivers in R.
    """
    statement = _statement()
    counted = sql.SQL("SELECT count(*), count(*) FILTER (WHERE state = 'R') FROM ({}) AS states").format(statement)
    with connect(embedded.start(case.home).url) as connection:
        for setting in _SESSION:
            connection.execute(f"SET {setting}")

        def work() -> Outcome:
            row = connection.execute(counted).fetchone()
            assert row is not None
            return Outcome(row[0], {"n_responsive": row[1]})

        _require_same_states(case, connection, statement)  # also warms the cache
        measured = repeat(work, repeats=case.repeats)
        plan = "\n".join(row[0] for row in connection.execute(sql.SQL("EXPLAIN {}").format(counted)))
        print(plan, file=sys.stderr)
        return measured


def _statement() -> sql.Composed:
    window = {"start": start_of_day(LAST_DAY - timedelta(days=6)), "end": end_of_day(LAST_DAY)}
    return sql.SQL(_STATES).format(**{name: sql.Literal(instant) for name, instant in window.items()})


def _newest_messages(programme: Programme, population: Population, window: Window) -> Iterator[pa.Table]:
    first_week = programme.n_complete_weeks - N_WEEKS
    for chain in weekly_chains(programme, population, is_control=control_arm(population)):
        if chain.week >= first_week:
            for messages in weekly_messages(programme, population, chain):
                yield message_rows(population, messages, window)


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
    serve({"load": load, "states": states}, sys.argv[1:])
