"""The words of an alarm and of its recovery: a subject of one line and a text of a few. No markup, no secrets."""

from dataclasses import dataclass
from datetime import datetime

from bandicoot_core.alarms.problems import Problem
from bandicoot_core.calendar import PROGRAMME_TIME_ZONE
from bandicoot_core.contracts import SPENDING_LEVELS

_TITLES: dict[str, str] = {
    "run_failed": "run failed",
    "too_many_set_aside": "too many rows had to be set aside",
    "too_many_dead_letters": "too many messages are no event",
    "list_late": "the call list is late",
    "model_late": "the model is late",
    "model_rejected": "a model was rejected",
    "drift": "behaviour has drifted",
    "budget_not_used": "the budget is not fully used",
    **{f"spending_{level}": f"{level} % of the month's limit is spent" for level in SPENDING_LEVELS},
}


@dataclass(frozen=True)
class Message:
    """What is sent: the subject of a mail, or the first line of a chat message, and the rest."""

    subject: str
    text: str


def title(problem: Problem) -> str:
    """What it is, and where, in a line."""
    where = f"{problem.asset} {problem.partition}".strip()
    return f"{_TITLES[problem.kind]} ({where})"


def problem_message(problem: Problem, opened_at: datetime) -> Message:
    """That a problem began, at an aware instant."""
    lines = [*_where(problem), f"cause: {problem.cause}", f"next step: {problem.next_step}"]
    return Message(
        f"Bandicoot {problem.severity}: {title(problem)}", "\n".join([*lines, f"since: {_in_india(opened_at)}"])
    )


def recovery_message(problem: Problem, opened_at: datetime, recovered_at: datetime) -> Message:
    """That a problem is over, and how long it lasted."""
    span = f"from {_in_india(opened_at)} to {_in_india(recovered_at)}"
    lines = [*_where(problem), f"lasted: {_duration(opened_at, recovered_at)} ({span})", f"it was: {problem.cause}"]
    return Message(f"Bandicoot recovered: {title(problem)}", "\n".join(lines))


def incident_line(problem: Problem, opened_at: datetime) -> str:
    """An open incident in one line."""
    return f"{title(problem)} since {_in_india(opened_at)}: {problem.cause}; {problem.next_step}"


def _where(problem: Problem) -> list[str]:
    return [f"asset: {problem.asset}", *([f"partition: {problem.partition}"] if problem.partition else [])]


def _in_india(instant: datetime) -> str:
    return f"{instant.astimezone(PROGRAMME_TIME_ZONE):%Y-%m-%d %H:%M} Asia/Kolkata"


def _duration(begin: datetime, end: datetime) -> str:
    n_minutes = int((end - begin).total_seconds() // 60)
    days, hours, minutes = n_minutes // 1440, n_minutes // 60 % 24, n_minutes % 60
    parts = [f"{n} {unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if n]
    return " ".join(parts) or "less than a minute"
