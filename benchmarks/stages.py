"""The stages that need a lake and an engine only: weekly counts, training, the nightly compute, and the raw scan.

Each is one function from a Case to what was measured, and runs in a process of its own:
`python -m benchmarks.stages <stage> <case>`. They call the code of the pipeline. Stages with PostgreSQL are in
`rowwise` and `publishing`, the whole command in `command_line`.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import days_between, last_day_of_week, weeks_ending_with
from bandicoot_core.contracts import (
    CALLS,
    CAREGIVER_STATES,
    CAREGIVERS,
    CLUSTER_ASSIGNMENTS,
    ENGAGED_EVENT_TYPES,
    ENGAGEMENT_HISTORY,
    SMS_EVENTS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
)
from bandicoot_core.engagement.counts import passive_counts, transition_counts
from bandicoot_core.engagement.history import engagement_history, extend_history
from bandicoot_core.model.whittle import two_state_indices
from bandicoot_core.pipeline.engagement import (
    materialize_caregiver_states,
    materialize_engagement_history,
    materialize_passive_counts,
)
from bandicoot_core.pipeline.training import (
    materialize_cluster_assignments,
    materialize_clusters,
    materialize_features_only_mapper,
    materialize_transition_models,
    materialize_whittle_indices,
)
from bandicoot_core.policy.call_list import ListInputs, draw_call_list
from bandicoot_core.settings import ListOptions, ModelOptions, Settings
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake import Lake, LakeReader
from benchmarks.bench_whittle import solver_times
from benchmarks.data import LAST_DAY, LIST_DATE, TRAINING_WEEKS, WEEK, WEEKS, write_lake
from benchmarks.measure import Case, Fact, Measured, Outcome, repeat, serve

_PREVIOUS_WEEKS = weeks_ending_with(WEEK - timedelta(days=7), TRAINING_WEEKS)
_WINDOW_DAYS = [day.isoformat() for day in days_between(WEEKS[0], last_day_of_week(WEEK))]


def lake(case: Case) -> Measured:
    """Write the lake; measured like the others so that its size and time are known."""
    n_events = 0

    def work() -> Outcome:
        nonlocal n_events
        start = time.monotonic()
        for n_weeks, n_events in write_lake(Lake(case.lake_root), case.n_caregivers):
            if n_weeks % 5 == 0:
                print(f"  {n_weeks} weeks, {n_events:,} events, {time.monotonic() - start:.0f} s", file=sys.stderr)
        return Outcome(n_events)

    return repeat(work, repeats=1)


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
    stores = _installation(case)
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


def training(case: Case) -> Measured:
    """The weekly training as the pipeline runs it, partitions written: from events to Whittle indices.

    Facts: the seconds of each step in the last repetition.
    """
    stores, options = _installation(case), ModelOptions(training_weeks=TRAINING_WEEKS)
    steps = {
        "engagement_history": partial(materialize_engagement_history, stores, WEEK, options),
        "passive_counts": partial(materialize_passive_counts, stores, WEEK),
        "clusters": partial(materialize_clusters, stores, WEEK, options),
        "features_only_mapper": partial(materialize_features_only_mapper, stores, WEEK, options),
        "cluster_assignments": partial(materialize_cluster_assignments, stores, WEEK, options),
        "transition_models": partial(materialize_transition_models, stores, WEEK, options),
        "whittle_indices": partial(materialize_whittle_indices, stores, WEEK, options),
    }

    def work() -> Outcome:
        seconds: dict[str, float] = {}
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[name] = time.perf_counter() - start
        return Outcome(stores.lake.require("cluster_assignments", WEEK.isoformat()).n_rows(), seconds)

    return repeat(work, repeats=case.repeats)


def nightly(case: Case) -> Measured:
    """The nightly compute: the states of all caregivers, written to the lake, and the list drawn from them.

    Public ids are made from keys instead of being read from PostgreSQL. Facts: the seconds of both parts in the last
    repetition. Needs the partitions that `training` writes.
    """
    stores = _installation(case)

    def work() -> Outcome:
        start = time.perf_counter()
        manifest = materialize_caregiver_states(stores, LAST_DAY)
        seconds = {"caregiver_states": time.perf_counter() - start}
        n_listed = _draw(stores).num_rows
        seconds["call_list"] = time.perf_counter() - start - seconds["caregiver_states"]
        return Outcome(manifest.n_rows(), {**seconds, "n_listed": n_listed})

    return repeat(work, repeats=case.repeats)


def closed_form(case: Case) -> Measured:
    """Whittle indices of as many two-state arms as the case has caregivers, each with chances of its own."""
    chances = np.random.default_rng(0).random((2, case.n_caregivers, 2))
    return repeat(lambda: Outcome(len(two_state_indices(chances[0], chances[1]))), repeats=case.repeats)


def solver(case: Case) -> Measured:
    """The general solver on arms of as many states as the case has caregivers.

    Facts: the median seconds of the public solver on the same arms, when it is installed.
    """
    ours, theirs = solver_times(case.n_caregivers, case.repeats)
    facts: dict[str, Fact] = {"public_seconds": statistics.median(theirs)} if theirs else {}
    return replace(repeat(lambda: Outcome(case.n_caregivers, facts), repeats=1), seconds=ours)


def _draw(stores: Installation) -> pa.Table:
    key = WEEK.isoformat()
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        inputs = ListInputs(
            states=reader.scan(CAREGIVER_STATES, "caregiver_states", [LAST_DAY.isoformat()]),
            assignments=reader.scan(CLUSTER_ASSIGNMENTS, "cluster_assignments", [key]),
            pending=ibis.memtable(pa.table({"caregiver_key": pa.array(range(1, 301), pa.int64())})),
            indices=reader.scan(WHITTLE_INDICES, "whittle_indices", [key]),
            tuple_indices=reader.scan(TUPLE_INDICES, "whittle_indices", [key], "tuple_indices"),
        )
        return draw_call_list(
            inputs,
            _public_ids,
            call_date=LIST_DATE,
            options=ListOptions(),
            model_version="measured",
            lookback_days=stores.settings.lookback_days,
        ).call_list


def _public_ids(keys: pa.Array) -> pa.Table:
    digits = pc.utf8_lpad(pc.subtract(keys, 1).cast(pa.string()), width=6, padding="0")
    return pa.table({"caregiver_key": keys, "caregiver_id": pc.binary_join_element_wise("CG", digits, "-")})


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
    stores = _installation(case)

    def with_engine() -> Outcome:
        with stores.engine() as engine, stores.lake.reader(engine) as reader:
            return work(reader, engine)

    return repeat(with_engine, repeats=case.repeats)


def _installation(case: Case) -> Installation:
    return Installation(Settings(home=case.home, lake_root=case.lake_root))


STAGES = {
    stage.__name__: stage
    for stage in (lake, raw_scan, full_scan, weekly_counts, extended_counts, training, nightly, closed_form, solver)
}

if __name__ == "__main__":
    serve(STAGES, sys.argv[1:])
