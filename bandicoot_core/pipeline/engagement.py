"""Materializing caregiver states, engagement history and passive counts from the lake's source partitions."""

from collections.abc import Sequence
from datetime import date, timedelta

import pyarrow as pa

from bandicoot_core.calendar import days_between, last_day_of_week, weeks_ending_with
from bandicoot_core.contracts import (
    ACTIVE_STATUS,
    CALLS,
    CAREGIVER_STATES,
    CAREGIVERS,
    ENGAGEMENT_HISTORY,
    PASSIVE_COUNTS,
)
from bandicoot_core.engagement.completeness import message_rates, messages_by_week
from bandicoot_core.engagement.counts import passive_counts, responsive_share_by_week
from bandicoot_core.engagement.history import engagement_history
from bandicoot_core.engagement.states import caregiver_states
from bandicoot_core.errors import InvalidInputError, MissingPartitionError
from bandicoot_core.pipeline.told_events import read_events
from bandicoot_core.settings import ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest

_MINIMUM_WEEKS = 4


def materialize_caregiver_states(stores: Installation, day: date) -> Manifest:
    """Write the `caregiver_states` partition of a day.

    Reads the registry snapshot of the day and the lookback's events and calls. MissingPartitionError when the day's
    own partitions, or any day of the 7-day state window that the lake should hold, are absent.
    """
    settings = stores.settings
    lookback = days_between(day - timedelta(days=settings.lookback_days - 1), day)
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        states = caregiver_states(
            reader.scan(CAREGIVERS, "caregivers", [day.isoformat()]),
            read_events(reader, stores.lake, covered_days(stores.lake.partitions("sms_events"), lookback)),
            reader.scan(CALLS, "calls", covered_days(stores.lake.partitions("calls"), lookback)),
            day=day,
            lookback_days=settings.lookback_days,
            warm_up_weeks=settings.warm_up_weeks,
        )
        table = engine.create_table("states_of_day", states, temp=True)
        counts = table.group_by("state").agg(n=table.count()).to_pyarrow().to_pylist()
        n_by_state = {row["state"]: row["n"] for row in counts}
        n_responsive, n_unresponsive = n_by_state.get("R", 0), n_by_state.get("U", 0)
        return stores.lake.write(
            "caregiver_states",
            day.isoformat(),
            {"data": (CAREGIVER_STATES, table)},
            engine=engine,
            inputs=reader.inputs,
            recipe={"lookback_days": settings.lookback_days, "warm_up_weeks": settings.warm_up_weeks},
            facts={
                "n_responsive": n_responsive,
                "n_unresponsive": n_unresponsive,
                "responsive_share": n_responsive / max(n_responsive + n_unresponsive, 1),
            },
        )


def states_over_days(lake: Lake, last_day: date, n_days: int = 28) -> pa.Table:
    """Counts of responsive caregivers by day from the manifests of existing partitions, oldest first."""
    rows = []
    for day in days_between(last_day - timedelta(days=n_days - 1), last_day):
        manifest = lake.manifest("caregiver_states", day.isoformat())
        if manifest is not None:
            rows.append(
                {
                    "period_date": day,
                    "n_observed": manifest.n_rows(),
                    "n_responsive": int(manifest.facts["n_responsive"]),
                }
            )
    schema = pa.schema([("period_date", pa.date32()), ("n_observed", pa.int64()), ("n_responsive", pa.int64())])
    return pa.Table.from_pylist(rows, schema=schema)


def materialize_engagement_history(stores: Installation, week: date, options: ModelOptions) -> Manifest:
    """Write the `engagement_history` partition of a week: active caregivers over the training window it ends.

    The window starts later when the lake's history does. InvalidInputError when fewer than 4 weeks are covered,
    MissingPartitionError when a day inside the covered window is absent.
    """
    lake = stores.lake
    weeks = training_weeks(lake, week, options.training_weeks)
    last_day = last_day_of_week(week)
    days = [day.isoformat() for day in days_between(weeks[0], last_day)]
    with stores.engine() as engine, lake.reader(engine) as reader:
        registry = reader.scan(CAREGIVERS, "caregivers", [last_day.isoformat()])
        events = read_events(reader, lake, days)
        history = engagement_history(
            # Messages stop when somebody leaves: her silence says nothing about passive behaviour.
            registry.filter(registry.status == ACTIVE_STATUS),
            events,
            reader.scan(CALLS, "calls", covered_days(lake.partitions("calls"), days_between(weeks[0], last_day))),
            weeks=weeks,
        )
        table = engine.create_table("history", history, temp=True)
        shares = responsive_share_by_week(table, weeks=weeks).order_by("week_date").to_pyarrow()
        n_sent = messages_by_week(events, table, weeks=weeks).to_pyarrow()
        rates = message_rates(n_sent, shares["n_observed"].to_pylist())
        return lake.write(
            "engagement_history",
            week.isoformat(),
            {"data": (ENGAGEMENT_HISTORY, table)},
            engine=engine,
            inputs=reader.inputs,
            recipe={"training_weeks": options.training_weeks},
            facts={
                "n_weeks": len(weeks),
                "first_week_date": weeks[0].isoformat(),
                "weekly_shares": [{**row, "week_date": row["week_date"].isoformat()} for row in shares.to_pylist()],
                "messages_per_caregiver": rates,
            },
        )


def weekly_shares(manifest: Manifest) -> pa.Table:
    """Responsive caregivers by week of a history partition, as the chart wants them."""
    rows = [
        {
            "period_date": date.fromisoformat(row["week_date"]),
            "n_observed": row["n_observed"],
            "n_responsive": row["n_responsive"],
        }
        for row in manifest.facts["weekly_shares"]
    ]
    return pa.Table.from_pylist(rows)


def materialize_passive_counts(stores: Installation, week: date) -> Manifest:
    """Write the `passive_counts` partition of a week from its engagement history."""
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        counts = passive_counts(reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [week.isoformat()]))
        table = counts.to_pyarrow()
        return stores.lake.write(
            "passive_counts",
            week.isoformat(),
            {"data": (PASSIVE_COUNTS, table)},
            inputs=reader.inputs,
            facts={"n_distinct_tuples": table.num_rows, "n_caregivers": _total(table["n_caregivers"])},
        )


def training_weeks(lake: Lake, week: date, n_weeks: int) -> list[date]:
    """The weeks of the training window that the lake's events cover, oldest first, without gaps before `week`."""
    existing = lake.partitions("sms_events")
    if not existing:
        raise MissingPartitionError(
            "sms_events has no partitions; materialize sms_events for the training window first"
        )
    first_day = date.fromisoformat(existing[0])
    weeks = [start for start in weeks_ending_with(week, n_weeks) if start >= first_day]
    if len(weeks) < _MINIMUM_WEEKS:
        raise InvalidInputError(
            f"the lake's sms_events start on {first_day}: only {len(weeks)} complete weeks up to {week}, and a model "
            f"needs {_MINIMUM_WEEKS}; backfill sms_events further back, or train on a later week"
        )
    return weeks


def covered_days(existing: Sequence[str], days: Sequence[date]) -> list[str]:
    """The days from an asset's first existing partition on; a gap after it is refused when the days are scanned."""
    last = days[-1].isoformat()
    first = min(existing[0], last) if existing else last
    return [day.isoformat() for day in days if day.isoformat() >= first]


def _total(column: pa.ChunkedArray) -> int:
    return int(column.to_numpy().sum())
