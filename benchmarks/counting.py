"""Counting and states in the engine, from the lake's events, and the raw scan they are held against.

Stages for `python -m benchmarks.counting <stage> <case>`. Nothing is imported that counting does not need, so that the
memory of these processes is that of counting. What the pipeline makes of it is in `pipeline_stages`.
"""

import sys
from collections.abc import Callable
from datetime import timedelta

import ibis
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import days_between, last_day_of_week, weeks_ending_with
from bandicoot_core.contracts import CALLS, CAREGIVERS, ENGAGED_EVENT_TYPES, ENGAGEMENT_HISTORY, RESPONSIVE, SMS_EVENTS
from bandicoot_core.engagement.counts import passive_counts, transition_counts
from bandicoot_core.engagement.history import engagement_history, extend_history
from bandicoot_core.engagement.states import STATE_DAYS, caregiver_states
from bandicoot_core.stores.lake.lake import LakeReader
from benchmarks.data import LAST_DAY, TRAINING_WEEKS, WEEK, WEEKS, installation_of
from benchmarks.measure import Case, Measured, Outcome, repeat, serve

_PREVIOUS_WEEKS = weeks_ending_with(WEEK - timedelta(days=7), TRAINING_WEEKS)
_WINDOW_DAYS = [day.isoformat() for day in days_between(WEEKS[0], last_day_of_week(WEEK))]


def raw_scan(case: Case) -> Measured:
    """Read the rows and columns that the weekly counts need, and nothing else: the floor for any way to count."""
    return _scanned(case, lambda events: events.filter(events.event_type.isin(ENGAGED_EVENT_TYPES)))


def full_scan(case: Case) -> Measured:
    """Read those columns of every event: what a store without order or row-group statistics would have to do."""
    return _scanned(case, lambda events: events)


def weekly_counts(case: Case) -> Measured:
    """History of the window, passive tuples, and each caregiver's transition counts, from the lake's events."""

    def work(reader: LakeReader, engine: Backend) -> Outcome:
        caregivers, events, calls = _source(reader, _WINDOW_DAYS)
        history = engine.create_table("history", engagement_history(caregivers, events, calls, weeks=WEEKS), temp=True)
        return _counted(engine, history)

    return _with_engine(case, work)


def extended_counts(case: Case) -> Measured:
    """The same counts from the history of the previous week's window, with only the last week's events read."""
    stores = installation_of(case)
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        tables = _source(reader, _WINDOW_DAYS)
        previous = engagement_history(*tables, weeks=_PREVIOUS_WEEKS)
        stores.lake.write("previous_history", WEEK.isoformat(), {"data": (ENGAGEMENT_HISTORY, previous)}, engine=engine)

    def work(reader: LakeReader, engine: Backend) -> Outcome:
        tables = _source(reader, _WINDOW_DAYS[-7:])
        previous = reader.scan(ENGAGEMENT_HISTORY, "previous_history", [WEEK.isoformat()])
        history = extend_history(previous, *tables, previous_weeks=_PREVIOUS_WEEKS, weeks=WEEKS)
        return _counted(engine, engine.create_table("history", history, temp=True))

    return _with_engine(case, work)


def states_of_week(case: Case) -> Measured:
    """The states alone, from the seven days that decide them, counted in the engine: what `rowwise` asks PostgreSQL."""

    def work(reader: LakeReader, engine: Backend) -> Outcome:
        tables = _source(reader, _WINDOW_DAYS[-STATE_DAYS:])
        states = caregiver_states(*tables, day=LAST_DAY, lookback_days=STATE_DAYS, warm_up_weeks=6)
        counts = states.group_by("state").agg(n=states.count()).to_pyarrow()
        n_by_state = dict(zip(counts["state"].to_pylist(), counts["n"].to_pylist(), strict=True))
        return Outcome(sum(n_by_state.values()), {"n_responsive": n_by_state[RESPONSIVE]})

    return _with_engine(case, work)


def _scanned(case: Case, rows: Callable[[ibis.Table], ibis.Table]) -> Measured:
    def work(reader: LakeReader, engine: Backend) -> Outcome:
        caregivers, events, calls = _source(reader, _WINDOW_DAYS)
        read = rows(events)
        engine.execute(caregivers.aggregate(key=caregivers.caregiver_key.max(), at=caregivers.enrolled_at.max()))
        engine.execute(calls.aggregate(key=calls.caregiver_key.max(), at=calls.attempted_at.max()))
        found = read.aggregate(
            n=read.count(), key=read.caregiver_key.max(), kind=read.event_type.max(), at=read.occurred_at.max()
        ).to_pyarrow()
        return Outcome(found["n"][0].as_py())

    return _with_engine(case, work)


def _counted(engine: Backend, history: ibis.Table) -> Outcome:
    """The counts of a history: distinct passive tuples as Arrow, everybody's transitions as a table of the engine."""
    tuples = passive_counts(history).to_pyarrow()
    transitions = engine.create_table("transitions", transition_counts(history), temp=True)
    return Outcome(int(transitions.count().execute()), {"n_tuples": tuples.num_rows})


def _source(reader: LakeReader, days: list[str]) -> tuple[ibis.Table, ibis.Table, ibis.Table]:
    """Caregivers, events and calls of some days."""
    return (
        reader.scan(CAREGIVERS, "caregivers", [LAST_DAY.isoformat()]),
        reader.scan(SMS_EVENTS, "sms_events", days),
        reader.scan(CALLS, "calls", days),
    )


def _with_engine(case: Case, work: Callable[[LakeReader, Backend], Outcome]) -> Measured:
    """The work with a fresh engine each time, opened within the time measured."""
    stores = installation_of(case)

    def with_engine() -> Outcome:
        with stores.engine() as engine, stores.lake.reader(engine) as reader:
            return work(reader, engine)

    return repeat(with_engine, repeats=case.repeats)


STAGES = (raw_scan, full_scan, weekly_counts, extended_counts, states_of_week)

if __name__ == "__main__":
    serve(STAGES, sys.argv[1:])
