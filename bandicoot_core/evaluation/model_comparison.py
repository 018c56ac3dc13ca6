"""How far caregivers move between two models: their clusters, their own index, and who is worth most.

Pure table expressions over what two models say of each caregiver; where that is kept belongs to the pipeline.
"""

from dataclasses import dataclass

import ibis
import pyarrow as pa
import pyarrow.compute as pc

MOVED_BY = 0.01
"""Change of the own index above which a caregiver counts as moved, in responsive weeks."""
_N_BINS = 41


@dataclass(frozen=True)
class Movement:
    """Two models over the caregivers whom both know."""

    n_caregivers: int
    n_other_cluster: int
    """Caregivers whose cluster has another number."""
    n_other_index: int
    """Caregivers whose own index moves by more than MOVED_BY."""
    n_top: int
    n_top_in_both: int
    """How many of the n_top worth most by the first model are so by the second."""
    bins: pa.Table
    """change (middle of a bin) and width in responsive weeks, n_caregivers; ascending, empty bins left out."""


def movement(first: ibis.Table, second: ibis.Table, *, n_top: int) -> Movement:
    """Compare what two models say: each table has caregiver_key (unique), cluster_id and own_index (responsive weeks).

    Equal indices at the end of the top are settled by caregiver_key.
    """
    both = first.inner_join(second, "caregiver_key", rname="second_{name}")
    both = both.mutate(change=both.second_own_index - both.own_index)
    with both.cache() as moved:
        totals = moved.aggregate(
            n_caregivers=ibis._.count(),
            n_other_cluster=(moved.cluster_id != moved.second_cluster_id).sum().fill_null(0),
            n_other_index=(moved.change.abs() > MOVED_BY).sum().fill_null(0),
            furthest=moved.change.abs().max().fill_null(0),
        )
        found = totals.to_pyarrow().to_pylist()[0]
        width = max(found.pop("furthest"), 1e-6) * 2 / _N_BINS
        number = (moved.change / width).round().cast("int64")
        counted = moved.select(number=number).group_by("number").agg(n_caregivers=ibis._.count())
        bins = counted.order_by("number").to_pyarrow()
        tops = [_top(moved, index, n_top) for index in ("own_index", "second_own_index")]
    return Movement(
        **found,
        n_top=len(tops[0]),
        n_top_in_both=len(tops[0] & tops[1]),
        bins=pa.table(
            {
                "change": pc.multiply(bins["number"].cast(pa.float64()), width),
                "width": pa.array([width] * bins.num_rows, pa.float64()),
                "n_caregivers": bins["n_caregivers"],
            }
        ),
    )


def _top(moved: ibis.Table, index: str, n_top: int) -> set[int]:
    first = moved.order_by(ibis.desc(index), "caregiver_key").limit(n_top)
    return set(first.select("caregiver_key").to_pyarrow()["caregiver_key"].to_pylist())
