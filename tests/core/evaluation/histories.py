"""Synthetic histories with known chances: caregivers of a few types, called at random, observed since enrolment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa

from bandicoot_core.calendar import weeks_ending_with
from bandicoot_core.contracts import CAREGIVERS, ENGAGEMENT_HISTORY, conform

LAST_WEEK = date(2026, 11, 8)
DISTRICTS = ("Gaya", "Patna", "Nashik")


@dataclass(frozen=True)
class Kind:
    """P(next = R | state) for the states [U, R], passive and active."""

    p_passive: tuple[float, float]
    p_active: tuple[float, float]


KINDS = (
    Kind((0.10, 0.80), (0.15, 0.95)),
    Kind((0.05, 0.60), (0.60, 0.70)),
    Kind((0.40, 0.50), (0.55, 0.60)),
    Kind((0.70, 0.95), (0.75, 0.96)),
)


def weeks_of(n_weeks: int) -> list[date]:
    return weeks_ending_with(LAST_WEEK, n_weeks)


def draw_history(
    n_caregivers: int,
    n_weeks: int,
    *,
    seed: int,
    kinds: Sequence[Kind] = KINDS,
    p_call: float = 0.04,
    share_new: float = 0.2,
    memory: float = 0.0,
    kinds_after: Sequence[Kind] | None = None,
    change_week: int = 0,
) -> pa.Table:
    """A history of chains that start as they would be without calls; from `change_week` on `kinds_after` applies.

    A share `share_new` enrols at a random week of the window. With `memory` above 0 a caregiver keeps her state with
    this extra chance when she was in it in the week before, too: the chain is then of second order.
    """
    random = np.random.default_rng(seed)
    kind = np.arange(n_caregivers) % len(kinds)
    chances = [np.array([[k.p_passive, k.p_active] for k in some]) for some in (kinds, kinds_after or kinds)]
    is_new = random.random(n_caregivers) < share_new
    first = np.where(is_new, random.integers(0, n_weeks, n_caregivers), 0)
    opened, called = (np.zeros(n_caregivers, dtype=np.int64) for _ in range(2))
    p_first = chances[0][kind, 0]
    state = random.random(n_caregivers) < p_first[:, 0] / (1 - p_first[:, 1] + p_first[:, 0])
    before = ~state
    for week in range(n_weeks):
        is_called = random.random(n_caregivers) < p_call
        opened |= state.astype(np.int64) << week
        called |= is_called.astype(np.int64) << week
        p = chances[1 if week >= change_week else 0][kind, is_called.astype(int), state.astype(int)]
        p = np.where(state == before, p + memory * (state - p), p)
        before, state = state, random.random(n_caregivers) < p
    observed = (1 << n_weeks) - (1 << first.astype(np.int64))
    return conform(
        pa.table(
            {
                "caregiver_key": np.arange(1, n_caregivers + 1),
                "opened_weeks": opened & observed,
                "called_weeks": called & observed,
                "observed_weeks": observed,
            }
        ),
        ENGAGEMENT_HISTORY,
    )


def registry_of(history: pa.Table, *, n_kinds: int = len(KINDS)) -> pa.Table:
    """A registry whose age tells the kind and whose district tells nothing."""
    keys = history["caregiver_key"].to_numpy()
    n = len(keys)
    rows = {
        "caregiver_key": keys,
        "district": [DISTRICTS[key % len(DISTRICTS)] for key in keys],
        "enrolled_at": pa.array([0] * n, pa.timestamp("us", tz="UTC")),
        "age": 20 + 5 * ((keys - 1) % n_kinds),
        "parity": [1] * n,
        "phone_reliable": [True] * n,
        "enrollment_source": ["hospital"] * n,
        "status": ["active"] * n,
        "ab_arm": ["control" if key % 10 == 0 else "treatment" for key in keys],
    }
    return conform(pa.table(rows), CAREGIVERS)
