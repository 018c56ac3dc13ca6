"""What clients ask, how many they are, and what they tell of it: the words between a run and its clients.

The clients are a process of their own (`clients`), since what they import changes how Python waits. Whether what they
were told is right is judged in `judging`. This module imports nothing heavy.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

FAST, STANDARD = "fast", "standard"
KINDS = ("standard", "fast", "by load", "stale", "refused", "broken")
"""What an answer was: of its key's tier, the published list because of load, one marked stale because PostgreSQL was
away, an error in the documented shape, anything else."""
REFUSED, BROKEN = KINDS.index("refused"), KINDS.index("broken")


@dataclass(frozen=True)
class Question:
    """A request for recommendations."""

    tier: str
    """Of the key that asks."""
    budget: int
    district: str | None = None
    exclude_control: bool = True

    @property
    def path(self) -> str:
        """The address."""
        asked: dict[str, Any] = {"budget": self.budget}
        if self.district is not None:
            asked["district"] = self.district
        if not self.exclude_control:
            asked["exclude_control"] = "false"
        return f"/recommend?{urlencode(asked)}"


@dataclass(frozen=True)
class Load:
    """Clients who ask a service for some seconds."""

    addresses: Sequence[str]
    """Of the service's processes; a client stays with one."""
    keys: Mapping[str, Sequence[str]]
    """By tier."""
    questions: Sequence[Question]
    """Drawn from evenly, so that what is asked more often stands there more often."""
    n_users: int
    seconds: float
    """Seconds that are measured, after every client has begun."""
    pause_seconds: tuple[float, float] = (0.0, 0.0)
    """How long a client waits between an answer and its next question: evenly between two bounds."""
    users_per_second: float = 200.0
    """How fast clients begin."""
    is_distinct: bool = False
    """Whether each question is asked once, in order, by whoever is next."""

    @property
    def starting_seconds(self) -> float:
        """Until every client has begun and has had an answer."""
        return self.n_users / self.users_per_second + (2.0 if self.n_users > 1 else 0.0)


@dataclass(frozen=True)
class Body:
    """One text of an answer, however often it came. Moments are those of the machine's monotonic clock."""

    question: int
    """Place in the load's questions."""
    n_seen: int
    last_asked_at: float
    """When the last request began that was answered with it."""
    metadata: dict[str, Any]
    rows: list[tuple[Any, ...]]
    """COLUMNS of its recommendations."""


COLUMNS = ("rank", "caregiver_id", "district", "state", "cluster_id", "priority_score", "whittle_index", "ab_arm")


@dataclass(frozen=True)
class Told:
    """What clients were told."""

    answered_at: list[float]
    took_ms: list[float]
    kinds: list[int]
    """Of each answer of the measured seconds: when it came, how long it took, its place in KINDS."""
    seconds: float
    bodies: list[Body] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """What was wrong with answers that are neither right in form nor an error in the documented shape."""
    cpu_share: float = 0.0
    """Share of one core that the clients used."""


def start_clients(load: Load, written: Path) -> "subprocess.Popen[bytes]":
    """Clients in a process of their own, who write what they were told to a file at their end."""
    command = [sys.executable, "-m", "benchmarks.load.clients", str(written)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(load)).encode())
    process.stdin.close()
    return process


def finish_clients(process: "subprocess.Popen[bytes]", written: Path) -> Told:
    """What they were told, when they have ended; RuntimeError when they failed."""
    if process.wait():
        raise RuntimeError(f"the clients ended with {process.returncode}; see above why")
    found = json.loads(written.read_text())
    bodies = [Body(**{**body, "rows": [tuple(row) for row in body["rows"]]}) for body in found.pop("bodies")]
    return Told(**found, bodies=bodies)


def load_from(text: str) -> Load:
    """The load that `start_clients` wrote."""
    found = json.loads(text)
    found["questions"] = [Question(**question) for question in found["questions"]]
    return Load(**found)
