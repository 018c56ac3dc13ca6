"""What was spent since the month began, by component, and what the month will come to.

Months are Asia/Kolkata months. Runs and storage are projected as if the rest of the month went on like its beginning,
fixed components by their price; in a month's first days the projection of runs is therefore rough.
"""

from calendar import monthrange
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.calendar import days_between, end_of_day, start_of_day
from bandicoot_core.contracts import SPENDING, conform
from bandicoot_core.costs.prices import Prices

_GIB = 2**30


@dataclass(frozen=True)
class RunTime:
    """One run that has ended, or runs still: its job, when it began (UTC), and how long it has taken [s]."""

    job: str
    started_at: datetime
    seconds: float


def month_start(day: date) -> datetime:
    """The UTC instant at which the Asia/Kolkata month of a day begins."""
    return start_of_day(day.replace(day=1))


def share_of_month(day: date) -> float:
    """The share of its month that has passed at the end of an Asia/Kolkata day, above 0 and at most 1."""
    return day.day / n_days_of_month(day)


def n_days_of_month(day: date) -> int:
    """How many days the month of a day has."""
    return monthrange(day.year, day.month)[1]


def spending_of_month(run_times: Sequence[RunTime], lake_bytes: int, prices: Prices, *, day: date) -> pa.Table:
    """What was spent from the month's beginning to the end of a day [SPENDING], in the order of components.

    Runs that began outside that span are passed over; each counts where it began. `lake_bytes` is what the lake holds
    now and is taken to have been there since the month began. ValueError for a negative duration or size.
    """
    if lake_bytes < 0:
        raise ValueError(f"lake_bytes is {lake_bytes}; expected 0 or more")
    passed = share_of_month(day)
    start, end = month_start(day), end_of_day(day)
    seconds: dict[str, float] = {}
    for run in run_times:
        if run.seconds < 0:
            raise ValueError(f"a run of {run.job} began {run.started_at} and took {run.seconds} s; expected 0 or more")
        if start <= run.started_at < end:
            seconds[run.job] = seconds.get(run.job, 0.0) + run.seconds
    storage = lake_bytes / _GIB * prices.storage.lake_gib_month
    rows = [
        {
            "component": f"runs of {job}",
            "basis": f"{total:,.0f} s of runs",
            "spent_usd": total * prices.runs.per_second(job),
            "projected_usd": total * prices.runs.per_second(job) / passed,
        }
        for job, total in seconds.items()
    ]
    rows.append(
        {
            "component": "lake",
            "basis": f"{lake_bytes / _GIB:,.2f} GiB kept",
            "spent_usd": storage * passed,
            "projected_usd": storage,
        }
    )
    rows += [
        {"component": name, "basis": "price of a month", "spent_usd": price * passed, "projected_usd": price}
        for name, price in prices.monthly.items()
    ]
    rows = [{**row, "estimated_usd": row["spent_usd"]} for row in rows]
    return conform(pa.Table.from_pylist(rows, schema=SPENDING.arrow_schema()), SPENDING)


def total(spending: pa.Table, column: str) -> float:
    """The sum of spent_usd or projected_usd over all components [US dollars]."""
    return float(pc.sum(spending[column]).as_py() or 0.0)


def days_of_month_so_far(day: date) -> list[date]:
    """The Asia/Kolkata days from the first of a day's month to the day itself."""
    return days_between(day.replace(day=1), day)
