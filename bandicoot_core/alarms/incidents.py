"""What is news: problems that nobody was told of yet, and incidents that are over.

Where incidents are kept belongs to stores.published.incidents; their wording to messages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from bandicoot_core.alarms.problems import Problem, incident_key

MISSED_FOR = timedelta(days=1)
"""How long after it was over an incident is still told on a channel that had not told its beginning."""


class Incident(Protocol):
    """What is kept of an incident, as far as it matters here."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def asset(self) -> str: ...  # noqa: D102
    @property
    def partition(self) -> str: ...  # noqa: D102
    @property
    def recovered_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def told_channels(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def recovery_told_channels(self) -> Sequence[str]: ...  # noqa: D102


Found = TypeVar("Found", bound=Incident)


@dataclass(frozen=True)
class Changes(Generic[Found]):
    """Problems that begin an incident, and incidents that are over."""

    to_open: tuple[Problem, ...]
    to_close: tuple[Found, ...]


def compare(open_incidents: Sequence[Found], problems: Sequence[Problem]) -> Changes[Found]:
    """What has changed between the open incidents and all the problems that stand now.

    Problems of one key are one incident, the first of them speaks for it; an incident without a problem is over.
    """
    standing: dict[tuple[str, str, str], Problem] = {}
    for problem in problems:
        standing.setdefault(problem.key, problem)
    known = {incident_key(each.kind, each.asset, each.partition): each for each in open_incidents}
    return Changes(
        to_open=tuple(problem for key, problem in standing.items() if key not in known),
        to_close=tuple(incident for key, incident in known.items() if key not in standing),
    )


def is_owed(incident: Incident, channel: str, now: datetime) -> bool:
    """Whether a channel still has to be told of an incident as it is now: its beginning, or that it is over.

    A channel that failed all through an incident tells that it is over, for a day; older ones are nobody's news.
    """
    if incident.recovered_at is None:
        return channel not in incident.told_channels
    if channel in incident.recovery_told_channels:
        return False
    return channel in incident.told_channels or now - incident.recovered_at < MISSED_FOR
