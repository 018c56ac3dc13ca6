"""The vocabulary of alarms: what kinds of problems there are, and what one problem says.

When a kind applies is decided in conditions and failures; what is news about it, in incidents.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

Kind: TypeAlias = Literal[
    "run_failed",
    "too_many_set_aside",
    "too_many_dead_letters",
    "list_late",
    "model_late",
    "model_rejected",
    "drift",
    "budget_not_used",
    "spending_50",
    "spending_80",
    "spending_100",
]
KINDS: tuple[Kind, ...] = get_args(Kind)

Severity: TypeAlias = Literal["error", "warning"]

RUN_KINDS: frozenset[str] = frozenset({"run_failed", "too_many_set_aside"})
"""Kinds that come from a run that failed; their `asset` is the job, and only a run that succeeds ends them."""

CONTINUING_KINDS: frozenset[str] = frozenset(
    {
        "too_many_dead_letters",
        "list_late",
        "model_late",
        "drift",
        "budget_not_used",
        "spending_50",
        "spending_80",
        "spending_100",
    }
)
"""Kinds that go on from day to day: the next partition's problem is the same incident, not a new one."""


@dataclass(frozen=True)
class Problem:
    """Something that a person should know: where it is, why it is so, and what to do next.

    `asset` is an asset or a job, `partition` its day or week (YYYY-MM-DD; empty where there is none).
    """

    kind: str
    asset: str
    partition: str
    cause: str
    next_step: str
    severity: Severity

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two problems the same incident."""
        return incident_key(self.kind, self.asset, self.partition)


def incident_key(kind: str, asset: str, partition: str) -> tuple[str, str, str]:
    """Kind, asset and partition; without the partition where a kind goes on from one to the next."""
    return (kind, asset, "" if kind in CONTINUING_KINDS else partition)
