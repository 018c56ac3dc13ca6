"""What came of a check, in words an analyst can act on, numbers a chart can use, and the first rows at fault.

Only the shape of an outcome. What is checked belongs to the area that knows: a candidate model in `model.versions`, a
call list in `policy.checks`; what follows from a failure is decided by whoever runs the checks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

N_ROWS_SHOWN = 10
"""How many rows at fault an outcome carries at most."""

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
    rows: pa.Table | None = field(default=None, compare=False)
    """Of a failed check the first rows at fault, by caregiver_key or cluster_id; None where no row is at fault."""


def first_at_fault(rows: pa.Table, columns: Sequence[str]) -> pa.Table | None:
    """The first N_ROWS_SHOWN of the rows at fault, with the columns that show it; None when there are none."""
    return rows.select(list(dict.fromkeys(columns))).slice(0, N_ROWS_SHOWN) if rows.num_rows else None


def blocking_failures(outcomes: Sequence[CheckOutcome]) -> tuple[CheckOutcome, ...]:
    """The outcomes that must stop what comes next: failed and blocking, in their order."""
    return tuple(outcome for outcome in outcomes if outcome.is_blocking and not outcome.is_passed)


def with_remedy(text: str, is_passed: bool, remedy: str) -> str:
    """What was found and expected, followed by what to do next when the check failed."""
    return text if is_passed else f"{text}; {remedy}"
