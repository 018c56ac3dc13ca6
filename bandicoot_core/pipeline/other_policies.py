"""What the published lists tell about other policies: who was listed with which chance, and who could have been.

Everybody counts whose next week is known, listed or not.

The policies and their values belong to evaluation.listed_policies; here lists, states and histories are read from the
lake and brought together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import ibis
import pyarrow as pa
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import days_between, start_of_day, week_of
from bandicoot_core.contracts import (
    CALL_LIST,
    CALLS,
    CAREGIVER_STATES,
    CLUSTER_ASSIGNMENTS,
    ENGAGEMENT_HISTORY,
    IN_CONTROL_ARM,
    OFF_POLICY_VALUES,
    WHITTLE_INDICES,
)
from bandicoot_core.evaluation.listed_policies import off_policy_table
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.policy.eligibility import with_eligibility
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.lake.reader import LakeReader

N_WEEKS = 8
"""Weeks of lists that are looked at: older ones tell about older models."""


@dataclass(frozen=True)
class OtherPolicies:
    """Values of other policies, and the digests of what was read a day at a time."""

    values: pa.Table = field(default_factory=OFF_POLICY_VALUES.empty)
    inputs: Mapping[str, str] = field(default_factory=dict)


def value_of_other_policies(
    stores: Installation, reader: LakeReader, engine: Backend, weeks: Sequence[date]
) -> OtherPolicies:
    """OFF_POLICY_VALUES from the published lists of the last N_WEEKS weeks whose next week has ended.

    weeks: the window of the newest week's history. A list counts when the states it was made from and the bundle of its
    model are still in the lake. No such list makes an empty table.
    """
    lake = stores.lake
    first_day = max(weeks[0], weeks[-1] - timedelta(weeks=N_WEEKS))
    made = [lake.require("call_list", key) for key in lake.partitions("call_list")]
    published = [manifest for manifest in made if not manifest.facts["refusals"]]
    chosen = [
        manifest
        for manifest in published
        if first_day <= _call_date(manifest) < weeks[-1]
        and lake.manifest("caregiver_states", manifest.recipe["as_of_date"]) is not None
        and lake.manifest(BUNDLES, manifest.facts["model_version"]) is not None
    ]
    if not chosen:
        return OtherPolicies()
    listed = engine.create_table(
        "published_lists",
        reader.scan(CALL_LIST, "call_list", [manifest.partition for manifest in published]),
        temp=True,
    )
    pending = engine.create_table("pending_of_lists", _pending(reader, listed, chosen), temp=True)
    history = reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [weeks[-1].isoformat()])
    outcomes, eligible = [], []
    for manifest in chosen:
        next_week = weeks.index(week_of(_call_date(manifest)) + timedelta(days=7))
        known = history.filter((history.observed_weeks >> next_week) & 1 == 1)
        known = known.select("caregiver_key", is_responsive_next=(known.opened_weeks >> next_week) & 1 == 1)
        rows = listed.filter(listed.call_date == ibis.literal(_call_date(manifest)))
        outcomes.append(
            rows.inner_join(known, "caregiver_key")
            .select("call_date", "cluster_id", "state", "propensity", "is_responsive_next")
            .to_pyarrow()
        )
        eligible.append(_eligible(reader, known, pending, manifest))
    return OtherPolicies(
        values=off_policy_table(pa.concat_tables(outcomes), pa.concat_tables(eligible)),
        inputs={
            "caregiver_states": lake.digest("caregiver_states", [each.recipe["as_of_date"] for each in chosen]),
            BUNDLES: lake.digest(BUNDLES, sorted({each.facts["model_version"] for each in chosen})),
        },
    )


def _pending(reader: LakeReader, listed: ibis.Table, chosen: Sequence[Manifest]) -> ibis.Table:
    """caregiver_key, call_date and, where a call of that list was attempted, called_at: who may have been waiting."""
    n_days = max(int(manifest.recipe["pending_days"]) for manifest in chosen)
    first, last = _call_date(chosen[0]) - timedelta(days=n_days), _call_date(chosen[-1])
    calls = reader.scan_existing(CALLS, "calls", [day.isoformat() for day in days_between(first, last)])
    called = calls.group_by("caregiver_key", "call_date").aggregate(called_at=calls.attempted_at.min())
    return listed.select("caregiver_key", "call_date").left_join(called, ["caregiver_key", "call_date"])


def _eligible(reader: LakeReader, known: ibis.Table, pending: ibis.Table, manifest: Manifest) -> pa.Table:
    """By cluster and state: who could have been on a list, who was kept from it as control alone, and the model."""
    call_date, version = _call_date(manifest), manifest.facts["model_version"]
    states = reader.scan(CAREGIVER_STATES, "caregiver_states", [manifest.recipe["as_of_date"]])
    if manifest.recipe["only_districts"]:
        states = states.filter(states.district.isin(manifest.recipe["only_districts"]))
    first = call_date - timedelta(days=int(manifest.recipe["pending_days"]))
    earlier = pending.filter(pending.call_date >= ibis.literal(first), pending.call_date < ibis.literal(call_date))
    waiting = earlier.filter(ibis.or_(earlier.called_at.isnull(), earlier.called_at >= start_of_day(call_date)))
    judged = with_eligibility(
        states,
        reader.scan(CLUSTER_ASSIGNMENTS, BUNDLES, [version], "assignments"),
        waiting.select("caregiver_key"),
        call_date=call_date,
        cool_down_days=int(manifest.recipe["cool_down_days"]),
    )
    candidates = judged.filter(ibis.or_(judged.excluded_by.isnull(), judged.excluded_by == IN_CONTROL_ARM))
    candidates = candidates.inner_join(known, "caregiver_key")
    is_control = candidates.excluded_by.notnull()
    counted = candidates.group_by("cluster_id", "state").aggregate(
        n_eligible=candidates.count(where=candidates.excluded_by.isnull()),
        n_control=candidates.count(where=is_control),
        n_control_responsive=candidates.count(where=ibis.and_(is_control, candidates.is_responsive_next)),
    )
    counted = counted.filter(counted.n_eligible > 0)
    indices = reader.scan(WHITTLE_INDICES, BUNDLES, [version], "indices")
    return (
        counted.inner_join(indices, ["cluster_id", "state"])
        .select(
            *(*counted.columns, "whittle_index", "p_passive", "p_active"),
            call_date=ibis.literal(call_date),
            n_listed=ibis.literal(manifest.n_rows()),
        )
        .order_by("cluster_id", "state")
        .to_pyarrow()
    )


def _call_date(manifest: Manifest) -> date:
    return date.fromisoformat(manifest.partition)
