"""The table of figures: the numbers the design asks for, what was measured against them, and every stage.

Only arithmetic and Markdown; measuring belongs to the modules of the stages, the order of things to `figures`. A
figure whose stages were not measured is left out.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.measure import Measured

Results = Mapping[tuple[str, int], Measured]
"""What was measured, by stage and size."""

SMALL, LARGE = 200_000, 1_000_000
N_STATES = 500

STAGES = {
    "lake": "write the lake (26 weeks)",
    "raw_scan": "raw scan: opened and clicked events, needed columns",
    "full_scan": "full scan: all events, needed columns",
    "weekly_counts": "weekly counts from 26 weeks of events",
    "extended_counts": "weekly counts from last week's history and one week of events",
    "training": "weekly training, events to Whittle indices",
    "nightly": "nightly compute: states written, list drawn",
    "states_of_week": "states alone, from 7 days of events",
    "load": "load PostgreSQL (12 weeks)",
    "row_by_row": "PostgreSQL: states, EXISTS caregiver by caregiver",
    "as_planned": "PostgreSQL: the same statement as it plans it",
    "load_source": "load the source (a week)",
    "first_sight": "read the registry when everybody is new",
    "registry_night": "read the registry on a later night",
    "messages_night": "read a day of messages",
    "messages_chunk": "read seven days of messages at a time",
    "publish": "publish a list in one transaction",
    "cache_fill": "fill Redis with every state and the indices",
    "command": "`bandicoot run`, the nights after the first",
    "closed_form": "Whittle closed form, two-state arms",
    "solver": "Whittle solver, one arm of that many states",
}
"""What each stage does, in the order of the report."""


@dataclass(frozen=True)
class Figure:
    """A number the design asks for: how it follows from what was measured, and where its bound lies."""

    what: str
    value: Callable[[Results], float]
    """KeyError when a stage it needs was not measured."""
    unit: str
    bound: float | None
    """None for a figure that nobody asked for and that belongs beside one that was."""
    is_lower_better: bool = True

    @property
    def asked(self) -> str:
        """The bound in words."""
        if self.bound is None:
            return ""
        return f"{'at most' if self.is_lower_better else 'at least'} {self.bound:g} {self.unit}"

    def verdict(self, value: float) -> str:
        """Whether a value is on the right side of the bound, or on it."""
        if self.bound is None:
            return ""
        is_reached = value <= self.bound if self.is_lower_better else value >= self.bound
        return "reached" if is_reached else "**missed**"


def _seconds(stage: str, size: int) -> Callable[[Results], float]:
    return lambda results: results[stage, size].median


def _ratio(slower: str, faster: str, size: int) -> Callable[[Results], float]:
    return lambda results: results[slower, size].median / results[faster, size].median


def _grown_mb(stage: str, size: int) -> Callable[[Results], float]:
    """Memory beyond Python, the libraries and what the stage was given."""
    return lambda results: results[stage, size].peak_mb - results[stage, size].base_mb


FIGURES = (
    Figure("nightly run from the command line, whole process, 200,000 caregivers", _seconds("command", SMALL), "s", 20),
    Figure("of which compute: states and list, 200,000 caregivers", _seconds("nightly", SMALL), "s", 3),
    Figure(
        "nightly compute against the row-wise SQL, caregiver by caregiver, 1M caregivers: times faster",
        _ratio("row_by_row", "nightly", LARGE),
        "x",
        6,
        is_lower_better=False,
    ),
    Figure(
        "the same, with PostgreSQL free to plan the statement as a set",
        _ratio("as_planned", "nightly", LARGE),
        "x",
        None,
    ),
    Figure(
        "the states alone against that plan, 1M caregivers: times faster",
        _ratio("as_planned", "states_of_week", LARGE),
        "x",
        None,
    ),
    Figure("weekly training, 200,000 caregivers x 26 weeks", _seconds("training", SMALL), "s", 10),
    Figure("weekly counts against the raw scan, 1M caregivers", _ratio("weekly_counts", "raw_scan", LARGE), "x", 3),
    Figure(
        "weekly counts, 1M caregivers, peak memory of the process",
        lambda results: results["weekly_counts", LARGE].peak_mb,
        "MB",
        500,
    ),
    Figure("Whittle closed form, 1M arms", _seconds("closed_form", LARGE), "s", 0.2),
    Figure(
        "Whittle solver, 500 states, against markovianbandit-pkg: times faster",
        lambda results: float(results["solver", N_STATES].facts["public_seconds"]) / results["solver", N_STATES].median,
        "x",
        1,
        is_lower_better=False,
    ),
    Figure("publish 200,000 rows in one transaction", _seconds("publish", SMALL), "s", 3),
    Figure("the same, memory it takes beside the list", _grown_mb("publish", SMALL), "MB", 200),
    *(
        Figure(f"{what}, 1M caregivers, engine limited to 1 GB: memory it takes", _grown_mb(stage, LARGE), "MB", 1_200)
        for stage, what in (
            ("first_sight", "reading the registry when everybody is new"),
            ("registry_night", "reading the registry on a later night"),
            ("messages_night", "reading a day of messages"),
            ("messages_chunk", "reading seven days of messages at a time"),
        )
    ),
    Figure("fill Redis with 200,000 states", _seconds("cache_fill", SMALL), "s", 5),
)


def growth_figures(sizes: Sequence[int]) -> list[Figure]:
    """From each size to the next: time may grow by a tenth more than the caregivers do (11 times for 10 times)."""
    ordered = sorted(sizes)
    return [
        Figure(
            f"{name}, from {small:,} to {large:,} caregivers: growth of time over growth of caregivers",
            _growth(stage, small, large),
            "x",
            1.1,
        )
        for small, large in pairwise(ordered)
        for stage, name in (("weekly_counts", "weekly counts"), ("nightly", "nightly compute"))
    ]


def _growth(stage: str, small: int, large: int) -> Callable[[Results], float]:
    return lambda results: results[stage, large].median / results[stage, small].median * small / large


def report(results: Results, *, sizes: Sequence[int], machine: str) -> str:
    """The whole document as Markdown."""
    parts = [
        "# Figures",
        f"Written by `python -m benchmarks.figures` (`make bench`). {machine}",
        "Every stage ran in a process of its own, several times with warm files; times are medians. Ratios compare "
        "stages of the same run.",
        "## Against the numbers to reach",
        _figure_table(results, [*FIGURES, *growth_figures(sizes)]),
        "## What is compared",
        *_notes(results),
        "## Every stage",
        _stage_table(results),
        "Memory is the peak of the process at its first repetition; in brackets what is left without Python and the "
        "imported libraries. For PostgreSQL it is that of the client, and the processor time that of the server.",
    ]
    return "\n\n".join(parts) + "\n"


def _figure_table(results: Results, figures: Sequence[Figure]) -> str:
    lines = ["| what | asked | measured | |", "| --- | ---: | ---: | --- |"]
    for figure in figures:
        try:
            value = figure.value(results)
        except KeyError:
            continue
        measured = f"{_number(value)} {figure.unit}"
        lines.append(f"| {figure.what} | {figure.asked} | {measured} | {figure.verdict(value)} |")
    return "\n".join(lines)


def _stage_table(results: Results) -> str:
    lines = [
        "| stage | size | time | processor | peak memory | rows |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, what in STAGES.items():
        for (stage, size), measured in sorted(results.items()):
            if stage == name:
                memory = f"{measured.peak_mb:,.0f} MB"
                if measured.base_mb:
                    memory += f" ({measured.peak_mb - measured.base_mb:,.0f})"
                lines.append(
                    f"| {what} | {size:,} | {_number(measured.median)} s "
                    f"| {_seconds_or_blank(measured.median_cpu)} "
                    f"| {memory} | {measured.n_rows:,} |"
                )
    return "\n".join(lines)


def _notes(results: Results) -> list[str]:
    notes = [
        "*Nightly compute* reads 12 weeks of events and calls, writes the state, last open and last call of every "
        "caregiver to the lake, and draws the list of the next day with the champion's tables. *Row-wise SQL* only "
        "answers who is responsive: `CASE WHEN EXISTS (SELECT 1 FROM sms_logs WHERE caregiver_id = c.caregiver_id AND "
        "an open or click in the last 7 days)` for each caregiver, in PostgreSQL on the same 12 weeks of messages, "
        "with indexes on caregiver_id, sent_at, delivered_at, opened_at and clicked_at, analyzed, all pages in memory, "
        "the result counted in the server. Both give the same state for every caregiver; that is checked in the run.",
    ]
    for size in sorted({size for stage, size in results if stage == "as_planned"}):
        planned, by_row = results["as_planned", size], results["row_by_row", size]
        notes.append(
            f"At {size:,} caregivers PostgreSQL takes {_number(by_row.median)} s when it runs the subquery for each "
            f"caregiver ({by_row.facts['access']}). It need not: free to choose, its planner gathers the engaged of "
            f"the week in a hash table first ({planned.facts['access']}) and takes {_number(planned.median)} s, where "
            f"the nightly compute takes {_number(results['nightly', size].median)} s and the engine's states alone, "
            f"from 7 days of events, {_number(results['states_of_week', size].median)} s. That plan stands on the "
            "indexes of opened_at and clicked_at and on the statistics of the production database."
        )
    notes.append(
        "*Raw scan* reads only the rows and columns that the weekly counts need: the opened and clicked events of 26 "
        "weeks, calls and enrolments, with the same skipping of row groups. *Weekly counts* are the engagement history "
        "of every caregiver, the distinct passive tuples, and everybody's transition counts."
    )
    for size in sorted({size for stage, size in results if stage == "training"}):
        steps = ", ".join(f"{name} {_number(float(took))} s" for name, took in results["training", size].facts.items())
        notes.append(f"*Weekly training* of {size:,} caregivers: {steps}.")
    for size in sorted({size for stage, size in results if stage == "cache_fill"}):
        facts = results["cache_fill", size].facts
        notes.append(
            f"*Redis* holds {size:,} states and the indices in {_number(float(facts['redis_mb']))} MB. One caregiver's "
            f"state is read from it in {_number(float(facts['cache_ms']))} ms, from PostgreSQL, on a connection of its "
            f"own, in {_number(float(facts['database_ms']))} ms."
        )
    for size in sorted({size for stage, size in results if stage == "command"}):
        facts = results["command", size].facts
        notes.append(
            f"*`bandicoot run`* on {size:,} caregivers: extraction of the day and of late rows, states, list, checks "
            "and publication, from the start of Python to its exit. The very first run, with 26 weeks of history and "
            f"the training, took {_number(float(facts['first_run_seconds']))} s."
        )
    return notes


def _seconds_or_blank(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{_number(seconds)} s"


def _number(value: float) -> str:
    """Three significant digits, thousands in full."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
