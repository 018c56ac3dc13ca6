"""What came of a check, in words an analyst can act on and numbers a chart can use.

Only the shape of an outcome. What is checked belongs to the area that knows: a candidate model in `model.versions`, a
call list in `policy.checks`; what follows from a failure is decided by whoever runs the checks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Fact = int | float | str


@dataclass(frozen=True)
class CheckOutcome:
    """One check: whether it passed, whether a failure must stop what comes next, and what was found."""

    name: str
    is_passed: bool
    is_blocking: bool
    description: str
    """One or two sentences: what was found, what was expected, and when it failed what to do next."""
    facts: Mapping[str, Fact] = field(default_factory=dict)


def blocking_failures(outcomes: Sequence[CheckOutcome]) -> tuple[CheckOutcome, ...]:
    """The outcomes that must stop what comes next: failed and blocking, in their order."""
    return tuple(outcome for outcome in outcomes if outcome.is_blocking and not outcome.is_passed)


def with_remedy(text: str, is_passed: bool, remedy: str) -> str:
    """What was found and expected, followed by what to do next when the check failed."""
    return text if is_passed else f"{text}; {remedy}"
