"""The engagement group: from events to states of the day, and to each week's history and passive counts."""

import dagster as dg

from bandicoot_core.contracts import CAREGIVER_STATES, ENGAGEMENT_HISTORY, PASSIVE_COUNTS
from bandicoot_core.evaluation.charts import passive_weeks, states_over_time
from bandicoot_core.pipeline.daily_staleness import renew_stale_states
from bandicoot_core.pipeline.engagement import (
    materialize_caregiver_states,
    materialize_engagement_history,
    materialize_passive_counts,
    states_over_days,
    weekly_shares,
)
from bandicoot_core.settings import load_model_options, load_settings
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.assets.events import received_events
from bandicoot_dagster.assets.source import ONE_RUN_FOR_MANY_DAYS, calls, caregivers, sms_events
from bandicoot_dagster.automation import STATES_FOLLOW_THEIR_EVENTS
from bandicoot_dagster.config import Training
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import glance, partition_metadata, picture, preview
from bandicoot_dagster.partitions import daily, last_days, training_window, weekly
from bandicoot_dagster.runtime import day_of_run, days_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version, report_earlier

_lookback = last_days(load_settings().lookback_days)
_window = training_window(load_model_options().training_weeks)


@dg.asset(
    **described(
        CAREGIVER_STATES,
        group="engagement",
        kinds=("duckdb", "parquet"),
        description=(
            "Every caregiver at the end of a day: Responsive if she opened or clicked an SMS in the last 7 days, else "
            "Unresponsive, with the facts that decide whether she may be called."
        ),
    ),
    partitions_def=daily,
    backfill_policy=ONE_RUN_FOR_MANY_DAYS,
    deps=[
        caregivers,
        dg.AssetDep(sms_events, partition_mapping=_lookback),
        dg.AssetDep(received_events, partition_mapping=_lookback),
        dg.AssetDep(calls, partition_mapping=_lookback),
    ],
    automation_condition=STATES_FOLLOW_THEIR_EVENTS,
    pool=pools.STATES,
)
@written_alone(is_retried=True, writes_earlier=True)
def caregiver_states(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation]) -> dg.MaterializeResult:
    """States of each day, and of earlier days whose events or calls have changed."""
    days = days_of_run(context)
    renewed = list(renew_stale_states(stores, before=days[0]))
    report_earlier(
        context,
        [manifest for manifest, _ in renewed],
        {manifest.partition: {**partition_metadata(manifest), "renewed_because": why} for manifest, why in renewed},
    )
    manifests = [materialize_caregiver_states(stores, day) for day in days]
    chart = picture(states_over_time(states_over_days(stores.lake, days[-1])), "Share of responsive caregivers by day")
    for manifest in manifests:
        context.add_asset_metadata(partition_metadata(manifest), partition_key=manifest.partition)
    look = {"states_over_time": chart, **glance(stores.lake, CAREGIVER_STATES, manifests[-1])}
    context.add_asset_metadata(look, partition_key=manifests[-1].partition)
    return dg.MaterializeResult(data_version=data_version(*manifests))


@dg.asset(
    **described(
        ENGAGEMENT_HISTORY,
        group="engagement",
        kinds=("duckdb", "parquet"),
        description=(
            "One row per caregiver for the training window: which weeks she opened an SMS, which weeks she was called, "
            "and which weeks she was observed, as words of bits."
        ),
    ),
    partitions_def=weekly,
    deps=[
        dg.AssetDep(caregivers, partition_mapping=training_window(1)),
        dg.AssetDep(sms_events, partition_mapping=_window),
        dg.AssetDep(received_events, partition_mapping=_window),
        dg.AssetDep(calls, partition_mapping=_window),
    ],
    pool=pools.TRAINING,
)
@written_alone()
def engagement_history(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], training: Training
) -> dg.MaterializeResult:
    """History over the training window."""
    manifest = materialize_engagement_history(stores, day_of_run(context), training.options())
    chart = states_over_time(weekly_shares(manifest))
    metadata = partition_metadata(manifest)
    return dg.MaterializeResult(
        metadata={
            **metadata,
            "states_over_time": picture(chart, "Share of responsive caregivers by week"),
            **glance(stores.lake, ENGAGEMENT_HISTORY, manifest),
        },
        data_version=data_version(manifest),
    )


@dg.asset(
    **described(
        PASSIVE_COUNTS,
        group="model",
        kinds=("duckdb", "parquet"),
        description=(
            "The distinct ways caregivers moved between states in weeks without a call, and how many caregivers moved "
            "in each way. Its size does not grow with the programme."
        ),
    ),
    partitions_def=weekly,
    deps=[engagement_history],
    pool=pools.TRAINING,
)
@written_alone()
def passive_counts(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation]) -> dg.MaterializeResult:
    """Distinct tuples of passive transitions."""
    manifest = materialize_passive_counts(stores, day_of_run(context))
    table = stores.lake.read(PASSIVE_COUNTS, manifest.asset, manifest.partition)
    return dg.MaterializeResult(
        metadata={
            **partition_metadata(manifest),
            "passive_weeks": picture(passive_weeks(table), "Caregivers by weeks seen without a call"),
            "first_rows": preview(table),
        },
        data_version=data_version(manifest),
    )
