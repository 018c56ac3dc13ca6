"""The data that is measured: 26 weeks of the demo programme at any size, written straight into a lake.

Behaviour, messages and calls are those of `bandicoot_core.demo`, drawn week by week as arrays; what is skipped is the
way through PostgreSQL and the extraction, which no figure here is about. Every event type is there, since not reading
most of them is part of what is measured. The same size gives the same bytes. Loading PostgreSQL with the same
programme belongs to `rowwise`. The stage for `python -m benchmarks.data lake <case>`.
"""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.calendar import last_closed_week, weeks_ending_with
from bandicoot_core.contracts import CALL_OUTCOMES, CALLS, CAREGIVERS, EVENT_TYPES, SMS_EVENTS
from bandicoot_core.demo.calls import WeekCalls
from bandicoot_core.demo.chains import weekly_chains
from bandicoot_core.demo.messages import NEVER, Messages, weekly_messages
from bandicoot_core.demo.population import Population, build_population
from bandicoot_core.demo.programme import SECONDS_PER_DAY, Programme, day_start_second, epoch_day
from bandicoot_core.demo.rows import Window, caregiver_rows
from bandicoot_core.policy.experiment import arms, draw_caregivers, is_control
from bandicoot_core.settings import Settings
from bandicoot_core.stores.engine import open_engine
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from benchmarks.measure import Case, Measured, Outcome, repeat, say, serve

LIST_DATE = date(2026, 6, 28)
"""The day whose list is made: a Sunday, so that the week before it is closed and a model can be trained on it."""
LAST_DAY = LIST_DATE - timedelta(days=1)
TRAINING_WEEKS = 26
WEEK = last_closed_week(LIST_DATE)
WEEKS = weeks_ending_with(WEEK, TRAINING_WEEKS)

_N_WRITERS = 2
_CONTROL_SHARE = 0.1
_EXPERIMENT = "demo"


def programme_of(n_caregivers: int) -> Programme:
    """The programme of one size: nearly everybody has enrolled before the training window, the heavier case."""
    return Programme(
        as_of_date=LIST_DATE,
        n_caregivers=n_caregivers,
        n_weeks=TRAINING_WEEKS,
        share_before_start=0.95,
        control_share=_CONTROL_SHARE,
        experiment=_EXPERIMENT,
    )


def control_arm(programme: Programme, population: Population) -> npt.NDArray[np.bool_]:
    """Who is never called, ndarray of shape (n_caregivers,)."""
    return is_control(_draws(_registry(programme, population)), rollout_share=1 - _CONTROL_SHARE)


def installation_of(case: Case) -> Installation:
    """The stores of a case, with default settings."""
    return Installation(Settings(home=case.home, lake_root=case.lake_root))


def lake(case: Case) -> Measured:
    """Write the lake of a case; a stage like the others, so that its time and memory are known."""

    def work() -> Outcome:
        n_events = 0
        start = time.monotonic()
        for n_weeks, n_events in write_lake(Lake(case.lake_root), case.n_caregivers):
            if n_weeks % 13 == 0:
                say(f"  {n_weeks} weeks, {n_events:,} events, {time.monotonic() - start:.0f} s")
        return Outcome(n_events)

    return repeat(work, repeats=1)


def write_lake(lake: Lake, n_caregivers: int) -> Iterator[tuple[int, int]]:
    """Write caregivers, sms_events and calls for the training window; yields (weeks written, events so far).

    A caregiver's key is her position in the population plus one. Events are written by the engine, as an extraction
    does it, so that files look like those of production.
    """
    programme = programme_of(n_caregivers)
    population = build_population(programme)
    _write_caregivers(lake, programme, population)
    n_events = 0
    left_over = _no_events()
    with ThreadPoolExecutor(_N_WRITERS) as writers:
        for chain in weekly_chains(programme, population, is_control=control_arm(programme, population)):
            parts = [left_over, *map(_events, weekly_messages(programme, population, chain))]
            events = {name: np.concatenate([part[name] for part in parts]) for name in left_over}
            days = [programme.week_date(chain.week) + timedelta(days=k) for k in range(7)]
            is_later = events["second"] >= day_start_second(epoch_day(days[-1]) + 1)
            left_over = {name: column[is_later] for name, column in events.items()}
            day_of_event = (events["second"] - day_start_second(0)) // SECONDS_PER_DAY
            written = []
            for day in days:
                is_of_day = day_of_event == epoch_day(day)
                of_day = {name: column[is_of_day] for name, column in events.items()}
                n_events += int(is_of_day.sum())
                written.append(writers.submit(_write_events, lake, day, of_day))
            _write_calls(lake, days, chain.calls)
            for future in written:
                future.result()
            yield chain.week + 1, n_events


def _write_caregivers(lake: Lake, programme: Programme, population: Population) -> None:
    rows = _registry(programme, population)
    keys = pa.array(np.arange(1, rows.num_rows + 1))
    arm = pa.array(arms(_draws(rows), rollout_share=1 - _CONTROL_SHARE))
    table = rows.append_column("caregiver_key", keys).append_column("ab_arm", arm)
    lake.write("caregivers", LAST_DAY.isoformat(), {"data": (CAREGIVERS, table)})


def _registry(programme: Programme, population: Population) -> pa.Table:
    return caregiver_rows(programme, population, slice(0, population.n_caregivers), Window(None, LIST_DATE))


def _draws(registry: pa.Table) -> npt.NDArray[np.float64]:
    return draw_caregivers(registry, experiment=_EXPERIMENT, n_drawn={})["draw"].to_numpy()


def _events(messages: Messages) -> dict[str, npt.NDArray[np.int64]]:
    """What happened to some messages, one entry an event; `kind` is an index into EVENT_TYPES."""
    parts = []
    for name, second in (
        ("sent", messages.sent),
        ("delivered", messages.delivered),
        ("opened", messages.opened),
        ("clicked", messages.clicked),
        ("failed", np.where(messages.is_failed, messages.sent, NEVER)),
    ):
        index = np.flatnonzero(second != NEVER)
        kind = np.full(len(index), EVENT_TYPES.index(name))
        parts.append((kind, messages.caregiver[index], messages.number[index], second[index]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return dict(zip(("kind", "caregiver", "number", "second"), columns, strict=True))


def _no_events() -> dict[str, npt.NDArray[np.int64]]:
    return {name: np.empty(0, dtype=np.int64) for name in ("kind", "caregiver", "number", "second")}


def _write_events(lake: Lake, day: date, events: dict[str, npt.NDArray[np.int64]]) -> None:
    digits = pc.utf8_lpad(pa.array(events["number"]).cast(pa.string()), width=10, padding="0")
    table = pa.table(
        {
            "caregiver_key": events["caregiver"] + 1,
            "message_id": pc.binary_join_element_wise("M-", digits, ""),
            "event_type": pa.array(EVENT_TYPES).take(pa.array(events["kind"])),
            "occurred_at": _instants(events["second"]),
        }
    )
    with open_engine(threads=1) as engine:
        data = engine.create_table("events_of_day", table, temp=True)
        lake.write("sms_events", day.isoformat(), {"data": (SMS_EVENTS, data)}, engine=engine)


def _write_calls(lake: Lake, days: list[date], calls: WeekCalls) -> None:
    call_day = (calls.attempted_second - day_start_second(0)) // SECONDS_PER_DAY
    number = pc.binary_join_element_wise(
        f"HIST-{calls.week:03d}-", pa.array(np.arange(len(call_day))).cast("string"), ""
    )
    table = pa.table(
        {
            "call_id": number,
            "caregiver_key": calls.caregiver + 1,
            "call_date": pa.array(call_day.astype(np.int32)).cast(pa.date32()),
            "attempted_at": _instants(calls.attempted_second),
            "outcome": pa.array(CALL_OUTCOMES).take(pa.array(calls.outcome)),
        }
    )
    for day in days:
        of_day = table.filter(pa.array(call_day == epoch_day(day)))
        lake.write("calls", day.isoformat(), {"data": (CALLS, of_day)})


def _instants(second: npt.NDArray[np.int64]) -> pa.Array:
    return pa.array(second).cast(pa.timestamp("s", tz="UTC")).cast(pa.timestamp("us", tz="UTC"))


if __name__ == "__main__":
    serve((lake,), sys.argv[1:])
