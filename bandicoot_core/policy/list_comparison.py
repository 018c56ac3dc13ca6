"""How a list differs from another of the same day: who stays, who comes in, who drops out.

Only the comparison of two finished lists; why they differ, and where they come from, is known to whoever made them.
"""

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class ListComparison:
    """A list beside the one that stands."""

    n_stay: int
    came_in: pa.Table
    """CALL_LIST: rows of the new list whose caregivers the standing one has not, in their order."""
    dropped_out: pa.Table
    """CALL_LIST: rows of the standing list whose caregivers the new one has not, in their order."""


def compare_lists(standing: pa.Table, other: pa.Table) -> ListComparison:
    """Compare `other` with the list that stands; both follow CALL_LIST."""
    came_in = other.join(standing.select(["caregiver_key"]), "caregiver_key", join_type="left anti")
    dropped_out = standing.join(other.select(["caregiver_key"]), "caregiver_key", join_type="left anti")
    return ListComparison(
        n_stay=other.num_rows - came_in.num_rows,
        came_in=came_in.select(other.column_names).sort_by("rank"),
        dropped_out=dropped_out.select(standing.column_names).sort_by("rank"),
    )
