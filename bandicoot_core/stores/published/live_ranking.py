"""Everybody ranked as of now by PostgreSQL, and what that depends on: the order of the call list over today's facts.

The published states stand at the end of yesterday, with opens noted since. Here calls that were recorded since, and
lists that wait for their outcomes, come in as well; so a caregiver who was called a minute ago is ranked no more. The
rules are those of policy.eligibility and policy.ranking (tests hold both to the same list), written as one statement
because the service that asks has neither engine nor lake. What a row means to a person belongs to the pipeline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from bandicoot_core.calendar import start_of_day
from bandicoot_core.contracts import ACTIVE_STATUS, CONTROL_ARM, EXCLUSIONS
from bandicoot_core.stores.cache.current_answers import Standing, standing
from bandicoot_core.stores.postgres.connections import reading

IndexLevel = Literal["caregiver", "cluster"]

_DOING = "ranking as of now"

_CHANGES = """
    SELECT (SELECT count(*) FROM bandicoot.call_outcomes WHERE attempted_at >= %(called_since)s),
        coalesce((SELECT n_batches FROM bandicoot.noted_opens), 0),
        (SELECT count(*) FROM bandicoot.forgettings)
"""

# Calls of the cool-down that the states may not know yet, and who waits for a call, are few: both are hashed.
_FACTS = """
    WITH called AS MATERIALIZED (
        SELECT caregiver_id, max((attempted_at AT TIME ZONE 'Asia/Kolkata')::date) AS call_day
        FROM bandicoot.call_outcomes WHERE attempted_at >= %(called_since)s GROUP BY caregiver_id
    ), waiting AS MATERIALIZED (
        SELECT DISTINCT listed.caregiver_id FROM bandicoot.call_list AS listed
        WHERE listed.call_date BETWEEN %(pending_from)s AND %(pending_until)s
            AND NOT EXISTS (
                SELECT FROM bandicoot.call_outcomes AS told
                WHERE told.call_date = listed.call_date AND md5(told.caregiver_id) = md5(listed.caregiver_id)
                    AND told.caregiver_id = listed.caregiver_id
            )
    ), facts AS NOT MATERIALIZED (
        SELECT stored.*, greatest(stored.last_call_date, called.call_day) AS last_contact_date,
            waiting.caregiver_id IS NOT NULL AS is_waiting,
            CASE stored.state WHEN 'R' THEN stored.own_index_r ELSE stored.own_index_u END AS own_index,
            arm.whittle_index, arm.index_low, arm.index_high, arm.p_passive, arm.p_active
        FROM bandicoot.caregiver_states AS stored
        LEFT JOIN called ON called.caregiver_id = stored.caregiver_id
        LEFT JOIN waiting ON waiting.caregiver_id = stored.caregiver_id
        LEFT JOIN bandicoot.whittle_indices AS arm
            ON arm.model_version = %(model_version)s AND arm.cluster_id = stored.cluster_id AND arm.state = stored.state
    )
"""

_FAILURES = (
    "(facts.status <> %(active)s)",
    "(facts.warm_up_end_date > %(call_date)s)",
    "(facts.cluster_id IS NULL)",
    "(facts.ab_arm = %(control)s)",
    "coalesce(facts.last_contact_date >= %(blocked_from)s, false)",
    "facts.is_waiting",
)
"""Whether each of EXCLUSIONS holds, in their order."""

_COLUMNS = """facts.caregiver_id, facts.district, facts.state, facts.cluster_id, facts.own_index, facts.whittle_index,
    facts.index_low, facts.index_high, facts.last_open_date, facts.last_contact_date, facts.ab_arm, facts.p_passive,
    facts.p_active"""

_ORDERS: Mapping[IndexLevel, str] = {
    "caregiver": "own_index DESC, last_contact_date ASC NULLS FIRST",
    "cluster": "whittle_index DESC, own_index DESC, last_contact_date ASC NULLS FIRST",
}

# The hash is computed for those who tie at the end alone.
_RANKED = """
    , eligible AS NOT MATERIALIZED (
        SELECT {columns} FROM facts
        WHERE (%(district)s::text IS NULL OR facts.district = %(district)s) AND NOT ({failures})
    ), first AS (SELECT * FROM eligible ORDER BY {order} FETCH FIRST %(budget)s ROWS WITH TIES)
    SELECT * FROM first ORDER BY {order}, md5(caregiver_id || '|' || %(call_date)s::text) COLLATE "C" LIMIT %(budget)s
"""

_COUNTED = """
    SELECT count(*) AS n_evaluated, count(*) FILTER (WHERE NOT ({failures})) AS n_eligible,
        count(*) FILTER (WHERE NOT ({failures}) AND facts.own_index IS NULL) AS n_unranked
    FROM facts WHERE %(district)s::text IS NULL OR facts.district = %(district)s
"""

_OF_ONE = """
    SELECT {columns}, facts.status, facts.warm_up_end_date, facts.as_of_date, {failed}
    FROM facts WHERE facts.caregiver_id = %(caregiver_id)s
"""


@dataclass(frozen=True)
class LiveRules:
    """What decides who is eligible on a day and who comes first: the options of a list that matter as of now."""

    call_date: date
    """The Asia/Kolkata day of the calls."""
    cool_down_days: int
    pending_days: int
    index_level: IndexLevel

    def _parameters(self) -> dict[str, Any]:
        blocked_from = self.call_date - timedelta(days=self.cool_down_days)
        return {
            "call_date": self.call_date,
            "active": ACTIVE_STATUS,
            "control": CONTROL_ARM,
            "blocked_from": blocked_from,
            "called_since": self._called_since(),
            "pending_from": self.call_date - timedelta(days=self.pending_days),
            "pending_until": self.call_date - timedelta(days=1),
        }

    def _called_since(self) -> datetime:
        """The beginning of the days whose calls matter: of the cool-down, and of lists that may wait."""
        return start_of_day(self.call_date - timedelta(days=max(self.cool_down_days, self.pending_days)))


@dataclass(frozen=True)
class LiveVersion:
    """What a ranking as of now depends on; two that are equal rank alike."""

    standing: Standing
    changes: tuple[int, int, int]
    """Calls recorded in the days that matter, batches of opens noted, caregivers forgotten."""

    @property
    def name(self) -> str:
        """The version in letters, for keys of a cache."""
        return "-".join((self.standing.publication, *map(str, self.changes)))


@dataclass(frozen=True)
class LiveRanking:
    """The first of a ranking, and out of how many."""

    rows: list[dict[str, Any]]
    """In order: caregiver_id, district, state, cluster_id, own_index, whittle_index, index_low, index_high,
    last_open_date, last_contact_date, ab_arm, p_passive, p_active."""
    n_evaluated: int
    n_eligible: int
    n_unranked: int
    """Eligible caregivers without an index of their own, who could not be ranked."""
    version: LiveVersion | None
    """What it was made from, of the same moment; None before the first publication."""


def live_version(connection: psycopg.Connection, rules: LiveRules) -> LiveVersion | None:
    """What a ranking by the rules would depend on now; None before the first publication."""
    with reading(connection, _DOING):
        newest = standing(connection)
        if newest is None:
            return None
        row = connection.execute(_CHANGES, rules._parameters()).fetchone()
    assert row is not None  # noqa: S101 - the query has one row
    return LiveVersion(newest, tuple(row))


def rank_now(
    connection: psycopg.Connection,
    rules: LiveRules,
    *,
    model_version: str,
    budget: int,
    district: str | None = None,
    is_control_excluded: bool = True,
) -> LiveRanking:
    """The `budget` eligible caregivers whom a call helps most, in the order of policy.ranking, of one moment.

    `model_version` is the model that the states' clusters are of. Raises BusyError and UnreachableError.
    """
    failures = [
        failure
        for name, failure in zip(EXCLUSIONS, _FAILURES, strict=True)
        if is_control_excluded or "ab_arm" not in failure
    ]
    values = {**rules._parameters(), "model_version": model_version, "budget": budget, "district": district}
    words = {
        "columns": sql.SQL(_COLUMNS),
        "failures": sql.SQL(" OR ".join(failures)),
        "order": sql.SQL(_ORDERS[rules.index_level]),
    }
    with reading(connection, _DOING, is_snapshot=True), connection.cursor(row_factory=dict_row) as cursor:
        version = live_version(connection, rules)
        counted = cursor.execute(sql.SQL(_FACTS + _COUNTED).format(**words), values).fetchone()
        rows = cursor.execute(sql.SQL(_FACTS + _RANKED).format(**words), values).fetchall()
    assert counted is not None  # noqa: S101 - the query has one row
    return LiveRanking(rows, **counted, version=version)


def standing_of(
    connection: psycopg.Connection, rules: LiveRules, caregiver_id: str, *, model_version: str
) -> dict[str, Any] | None:
    """The facts of one caregiver as of now, with `failed`: which of EXCLUSIONS hold; None when she is not known.

    Columns as of LiveRanking.rows, and status, warm_up_end_date, as_of_date.
    """
    failed = sql.SQL("ARRAY[{}] AS failed").format(sql.SQL(", ").join(map(sql.SQL, _FAILURES)))
    statement = sql.SQL(_FACTS + _OF_ONE).format(columns=sql.SQL(_COLUMNS), failed=failed)
    values = {**rules._parameters(), "model_version": model_version, "caregiver_id": caregiver_id}
    with reading(connection, _DOING), connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(statement, values).fetchone()
    if row is None:
        return None
    row["failed"] = [name for name, holds in zip(EXCLUSIONS, row["failed"], strict=True) if holds]
    return row
