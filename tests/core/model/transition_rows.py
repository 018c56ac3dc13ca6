"""Transition models of literal counts, as the tests write them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from bandicoot_core.model.posterior import ChancePosterior
from bandicoot_core.model.transitions import transition_table


def transitions_of(*rows: Sequence[int], interval: float = 0.9) -> pa.Table:
    """TRANSITION_MODELS with posteriors Beta(1 + n_R, 1 + n_U) of the counts of each cluster, from 0 on.

    A row is n_rr, n_ru, n_ur, n_uu, then the same of active weeks.
    """
    by_action = np.array(rows, dtype=np.float64).reshape(-1, 2, 2, 2)
    counts = by_action.swapaxes(1, 2)[:, ::-1]
    n = counts.sum(axis=-1) + 2
    return transition_table(counts, ChancePosterior((counts[..., 0] + 1) / n, n), interval=interval)
