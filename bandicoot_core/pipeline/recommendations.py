"""Whom to call as somebody asks: from the newest published list, or by ranking everybody as of now.

Both give the same rows. The order and the eligible are policy's, the published list and the ranking the stores'; how
an answer is kept, guarded and written down belongs to the service.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg

from bandicoot_core.policy.reasons import reason
from bandicoot_core.stores.cache.list_snapshot import ListSnapshot
from bandicoot_core.stores.published.live_ranking import IndexLevel, LiveRules, LiveVersion, rank_now


@dataclass(frozen=True)
class Recommended:
    """One caregiver to call."""

    rank: int
    caregiver_id: str
    district: str | None
    state: str
    cluster_id: int
    priority_score: float
    """What a call is worth to her by the index that ranks first, in responsive weeks."""
    whittle_index: float
    """The index of her cluster in her state, in responsive weeks, with its interval."""
    index_low: float
    index_high: float
    reason: str
    days_since_last_open: int | None
    days_since_contact: int | None
    """Days since a call was last attempted; None when none in the lookback."""
    ab_arm: str


@dataclass(frozen=True)
class Recommendations:
    """The first of a ranking, and out of how many."""

    rows: Sequence[Recommended]
    n_evaluated: int
    """Caregivers who were looked at."""
    n_eligible: int
    """Of them, those who may be called."""
    version: LiveVersion | None = None
    """What a ranking was made from; None for a published list."""


def recommend_listed(
    snapshot: ListSnapshot, call_date: date, *, budget: int, district: str | None, index_level: IndexLevel
) -> Recommendations:
    """The first `budget` rows of a published list, of one district or of all; `call_date` is the day of the calls.

    Ranks are those of the list. Nobody on a list is in the control arm.
    """
    rows = [row for row in snapshot.rows if district is None or row.district == district]
    older = (call_date - snapshot.call_date).days
    return Recommendations(
        [
            Recommended(
                rank=row.rank,
                caregiver_id=row.caregiver_id,
                district=row.district,
                state=row.state,
                cluster_id=row.cluster_id,
                priority_score=_score(row.own_index, row.whittle_index, index_level),
                whittle_index=row.whittle_index,
                index_low=row.index_low,
                index_high=row.index_high,
                reason=row.reason,
                days_since_last_open=None if row.days_since_last_open is None else row.days_since_last_open + older,
                days_since_contact=_days_since(row.last_call_date, call_date),
                ab_arm=row.ab_arm,
            )
            for row in rows[:budget]
        ],
        n_evaluated=len(rows),
        n_eligible=len(rows),
    )


def recommend_now(
    connection: psycopg.Connection,
    rules: LiveRules,
    *,
    model_version: str,
    budget: int,
    district: str | None,
    is_control_excluded: bool,
    lookback_days: int,
) -> Recommendations | None:
    """The `budget` caregivers whom a call helps most as of now; None when their indices are not published yet.

    Ranks count from 1 among the rows. `model_version` is the model of the published states. Raises BusyError and
    UnreachableError.
    """
    ranking = rank_now(
        connection,
        rules,
        model_version=model_version,
        budget=budget,
        district=district,
        is_control_excluded=is_control_excluded,
    )
    if ranking.n_unranked:
        return None
    return Recommendations(
        [_recommended(rank, row, rules, lookback_days=lookback_days) for rank, row in enumerate(ranking.rows, start=1)],
        n_evaluated=ranking.n_evaluated,
        n_eligible=ranking.n_eligible,
        version=ranking.version,
    )


def _recommended(rank: int, row: dict[str, Any], rules: LiveRules, *, lookback_days: int) -> Recommended:
    days_since_last_open = _days_since(row["last_open_date"], rules.call_date)
    return Recommended(
        rank=rank,
        caregiver_id=row["caregiver_id"],
        district=row["district"],
        state=row["state"],
        cluster_id=row["cluster_id"],
        priority_score=_score(row["own_index"], row["whittle_index"], rules.index_level),
        whittle_index=row["whittle_index"],
        index_low=row["index_low"],
        index_high=row["index_high"],
        reason=reason(
            row["state"],
            days_since_last_open,
            row["p_passive"],
            row["p_active"],
            lookback_days=lookback_days,
        ),
        days_since_last_open=days_since_last_open,
        days_since_contact=_days_since(row["last_contact_date"], rules.call_date),
        ab_arm=row["ab_arm"],
    )


def _score(own_index: float | None, whittle_index: float, index_level: IndexLevel) -> float:
    return whittle_index if index_level == "cluster" or own_index is None else own_index


def _days_since(day: date | None, call_date: date) -> int | None:
    return None if day is None else (call_date - day).days
