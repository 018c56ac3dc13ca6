"""When a list or model is late, a model rejected, a budget not used, a limit reached, or behaviour has drifted.

Failed runs belong to failures. Every function gives the problems that stand at a moment from their facts, an empty list
when all is well. Before the first list, or the first model, nothing is late: there is nobody yet who waits for it.
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from bandicoot_core.alarms.problems import Problem
from bandicoot_core.calendar import PROGRAMME_TIME_ZONE, day_of, last_closed_week, week_of
from bandicoot_core.contracts import SPENDING_LEVELS

LIST_DUE = time(2, 0)
"""The list of a day is due at this time of the day, Asia/Kolkata."""

MODEL_DUE = time(6, 0)
"""The model of a week is due at this time of the Sunday after it, Asia/Kolkata."""

_WHOLE_LIMIT = SPENDING_LEVELS[-1]

_ONE_DAY, _ONE_WEEK = timedelta(days=1), timedelta(days=7)


def late_list(newest_call_date: date | None, now: datetime) -> list[Problem]:
    """The list that is due and not published; `newest_call_date` is the newest published one, `now` is aware."""
    today = day_of(now)
    due = today if now >= _moment(today, LIST_DUE) else today - _ONE_DAY
    if newest_call_date is None or newest_call_date >= due:
        return []
    return [
        Problem(
            "list_late",
            "published_call_list",
            due.isoformat(),
            f"no list of {due} was published by {LIST_DUE:%H:%M} Asia/Kolkata; the newest is of {newest_call_date}",
            "see whether `nightly` of the day before and `daily_list` of the day ran and why not; "
            "`bandicoot run` makes today's list",
            "error",
        )
    ]


def late_model(newest_week: date | None, now: datetime) -> list[Problem]:
    """The training that is due and not finished; `newest_week` is the newest week a training ended for (a Sunday)."""
    today = day_of(now)
    due = last_closed_week(today)
    if now < _moment(week_of(today), MODEL_DUE):
        due -= _ONE_WEEK
    if newest_week is None or newest_week >= due:
        return []
    return [
        Problem(
            "model_late",
            "model_version",
            due.isoformat(),
            f"no training of the week of {due} had ended by Sunday {MODEL_DUE:%H:%M} Asia/Kolkata; the newest is of "
            f"the week of {newest_week}; lists are made with the champion",
            f"run job `weekly_training` for {due} and see why it does not end",
            "error",
        )
    ]


def rejected_models(decisions: Mapping[date, str]) -> list[Problem]:
    """The rejections since a model was last not rejected, oldest first; `decisions` by week, in promotion's words.

    Each is a problem of its own, since another model was refused for other reasons; a promotion ends all of them.
    """
    found = []
    for week in sorted(decisions, reverse=True):
        verdict, _, why = decisions[week].partition(": ")
        if verdict != "rejected":
            break
        found.append(
            Problem(
                "model_rejected",
                "model_version",
                week.isoformat(),
                f"the model of the week of {week} was refused: {why}",
                "look at the checks of model_version; lists go on with the champion, and the model of the next week "
                "is judged anew",
                "error",
            )
        )
    return found[::-1]


def drift(newest_week: date | None, finding: str | None) -> list[Problem]:
    """The newest backtest's warning; `finding` says what was found and what to do, None when all is in its band."""
    if newest_week is None or finding is None:
        return []
    cause, _, remedy = finding.partition("; look at ")
    next_step = f"look at {remedy}" if remedy else "look at the chart of model_backtest"
    return [Problem("drift", "model_backtest", newest_week.isoformat(), cause, next_step, "warning")]


def unused_budget(newest_call_date: date | None, n_rows: int, budget: int) -> list[Problem]:
    """The newest list, when it has fewer calls than its budget."""
    if newest_call_date is None or n_rows >= budget:
        return []
    return [
        Problem(
            "budget_not_used",
            "published_call_list",
            newest_call_date.isoformat(),
            f"the list of {newest_call_date} has {n_rows} calls where the budget is {budget}",
            "see in the metadata of call_list who was not eligible and why; shorten cool-down or warm-up, widen "
            "the districts, or lower the budget",
            "warning",
        )
    ]


def dead_letters_above(day: date, n_dead: int, n_received: int, max_invalid_share: float) -> list[Problem]:
    """Too many of the messages received lately are no event.

    `n_dead` messages of the last 24 hours became dead letters for what they say, `n_received` events of today and
    yesterday were taken in; `day` is today. Events of caregivers who are not known yet are in neither.
    """
    n_messages = n_dead + n_received
    if n_dead <= max_invalid_share * n_messages:
        return []
    return [
        Problem(
            "too_many_dead_letters",
            "received_events",
            day.isoformat(),
            f"{n_dead} of {n_messages} messages of the last 24 hours are no event, {n_dead / n_messages:.1%} where "
            f"max_invalid_share allows {max_invalid_share:.1%}",
            "`bandicoot events letters` says what is wrong with each; mend the sender, and send them again",
            "error",
        )
    ]


def spending_above(day: date, share_of_limit: float, projected_usd: float, limit_usd: float) -> list[Problem]:
    """The levels of the monthly limit that were spent by the end of a day, lowest first; a new month ends them.

    `share_of_limit` is what was spent of `limit_usd`; both amounts in US dollars.
    """
    return [
        Problem(
            f"spending_{level}",
            "cost_report",
            day.isoformat(),
            f"{share_of_limit:.0%} of the month's limit of {limit_usd:,.0f} US dollars was spent by {day}; "
            f"at this pace the month comes to {projected_usd:,.0f}",
            "see in cost_report which component it is; make it smaller, or raise monthly_limit in the file of prices",
            "error" if level == _WHOLE_LIMIT else "warning",
        )
        for level in SPENDING_LEVELS
        if share_of_limit * 100 >= level
    ]


def _moment(day: date, at: time) -> datetime:
    return datetime.combine(day, at, tzinfo=PROGRAMME_TIME_ZONE)
