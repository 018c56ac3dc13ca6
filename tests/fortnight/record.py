"""What came of the fortnight as a document: a line for each day. What should come of it belongs to the tests."""

from collections.abc import Sequence
from datetime import datetime, time

from bandicoot_core.calendar import PROGRAMME_TIME_ZONE
from tests.fortnight.scenario import Day
from tests.fortnight.site import Run

LIST_DUE = time(2, 0)

_BEFORE = """\
# A fortnight of nights

Written by `make fortnight`: Dagster's real daemon, code server and runs, PostgreSQL with a replica as the source, a
local broker and a webhook that takes alarms, all under a clock that the test moves, live through {n_nights} nights.
Nothing is started but by schedules and sensors. Each day of the table begins at noon of the day before; times are
those of India, and alarms are told at the next look of the sensor, a minute or two after what they tell.

| day | what happened | list published | model | told |
| --- | --- | --- | --- | --- |
"""
_AFTER = """
Of {n_runs} runs {n_failed} failed: {failed}.
"""


def document(days: Sequence[Day], runs: Sequence[Run]) -> str:
    """The document of a fortnight and the runs that the daemon has started in it."""
    failed = [run for run in runs if run.status != "SUCCESS"]
    text = _BEFORE.format(n_nights=len(days)) + "\n".join(map(_line, days)) + "\n"
    return text + _AFTER.format(
        n_runs=len(runs),
        n_failed=len(failed),
        failed="; ".join(f"`{run.job}` for {run.partition}" for run in failed) or "none",
    )


def is_in_time(day: Day) -> bool:
    """Whether the list of a day was published by the hour at which it is due."""
    if day.published is None:
        return False
    at = day.published.published_at.astimezone(PROGRAMME_TIME_ZONE)
    return at.date() == day.day and at.time() < LIST_DUE


def _line(day: Day) -> str:
    published, model = "never", ""
    if day.published is not None:
        published = _clock(day.published.published_at) + ("" if is_in_time(day) else ", late")
        model = ", ".join(f"`{version}`" for version in day.published.models)
    told = "<br>".join(f"{_clock(each.at)} {each.subject}" for each in day.told)
    return f"| {day.day:%a %Y-%m-%d} | {'; '.join(day.happened)} | {published} | {model} | {told} |"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(PROGRAMME_TIME_ZONE):%H:%M}"
