"""The source group: the programme's tables as external assets, and their daily partitions in the lake.

Reading, keys and setting rows aside happen in bandicoot_core; the other groups read only the lake. Events, doses and
calls depend on `caregivers` because that asset gives every caregiver the key they are stored under. With the days of a
run they read earlier ones again, and report those that have changed.
"""

from datetime import date
from typing import Any

import dagster as dg

from bandicoot_core.contracts import CALL_OUTCOMES_TABLE, CALLS, CAREGIVERS, SMS_EVENTS, VACCINATIONS, TableContract
from bandicoot_core.evaluation.charts import rows_over_days
from bandicoot_core.pipeline.extraction import extract_caregivers
from bandicoot_core.pipeline.intake_partitions import reasons_set_aside, rows_by_day
from bandicoot_core.pipeline.rereading import DaysRead, read_calls, read_sms_events, read_vaccinations
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.source.tables import SOURCE_TABLES
from bandicoot_dagster import pools
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.describe import OWNERS, described
from bandicoot_dagster.metadata import column_schema, glance, partition_metadata, picture, preview
from bandicoot_dagster.partitions import daily
from bandicoot_dagster.runtime import days_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version, report_earlier

PROGRAMME = "suvita_production"
ONE_RUN_FOR_MANY_DAYS = dg.BackfillPolicy.single_run()

programme_tables = [
    dg.AssetSpec(
        dg.AssetKey([PROGRAMME, table]),
        group_name="programme",
        owners=OWNERS,
        kinds={"postgres"},
        description=description,
        metadata={
            "dagster/table_name": f"{PROGRAMME}.{table}",
            "dagster/column_schema": dg.TableSchema(
                columns=[dg.TableColumn(column.name, column.family) for column in SOURCE_TABLES[table].columns]
            ),
        },
    )
    for table, description in (
        ("caregivers", "The programme's registry. Names and phone numbers stay there: they are never selected."),
        ("sms_logs", "Messages sent by the programme, with the times of delivery, opening and clicking."),
        ("vaccinations", "Doses scheduled and given, one row per child and dose."),
    )
]
call_outcomes = dg.AssetSpec(
    dg.AssetKey(["bandicoot", "call_outcomes"]),
    group_name="programme",
    owners=OWNERS,
    kinds={"postgres"},
    description="What the call centre wrote back: one row per attempted call.",
    metadata={**column_schema(CALL_OUTCOMES_TABLE), "dagster/table_name": "bandicoot.call_outcomes"},
)


@dg.asset(
    **described(
        CAREGIVERS,
        group="source",
        kinds=("postgres", "parquet"),
        description=(
            "The registry at the end of a day: district, enrolment, features and experiment arm of every caregiver, "
            "under a pseudonymous key. Impossible values are blanked and rows without an identity set aside."
        ),
    ),
    partitions_def=daily,
    backfill_policy=ONE_RUN_FOR_MANY_DAYS,
    deps=[dg.AssetKey([PROGRAMME, "caregivers"])],
    pool=pools.SOURCE,
)
@written_alone(is_retried=True)
def caregivers(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], clock: dg.ResourceParam[Clock]
) -> dg.MaterializeResult:
    """Snapshot of the registry."""
    with stores.published() as connection, stores.engine() as engine:
        manifests = extract_caregivers(
            stores.source(),
            connection,
            stores.lake,
            engine,
            days=days_of_run(context),
            settings=stores.settings,
            seen_at=clock(),
        )
    return _result(context, stores, CAREGIVERS, DaysRead(asked=tuple(manifests)))


@dg.asset(
    **described(
        SMS_EVENTS,
        group="source",
        kinds=("postgres", "parquet"),
        description=(
            "What happened to messages on a day: sent, delivered, opened, clicked or failed, one row per message and "
            "event. A message sent on Monday and opened on Wednesday has a row in each day."
        ),
    ),
    partitions_def=daily,
    backfill_policy=ONE_RUN_FOR_MANY_DAYS,
    deps=[dg.AssetKey([PROGRAMME, "sms_logs"]), caregivers],
    pool=pools.SOURCE,
)
@written_alone(is_retried=True, writes_earlier=True)
def sms_events(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation]) -> dg.MaterializeResult:
    """Message events of each day."""
    return _result(context, stores, SMS_EVENTS, read_sms_events(stores, days_of_run(context)))


@dg.asset(
    **described(
        VACCINATIONS,
        group="source",
        kinds=("postgres", "parquet"),
        description="Doses given on a day, with the day they were due.",
    ),
    partitions_def=daily,
    backfill_policy=ONE_RUN_FOR_MANY_DAYS,
    deps=[dg.AssetKey([PROGRAMME, "vaccinations"]), caregivers],
    pool=pools.SOURCE,
)
@written_alone(is_retried=True, writes_earlier=True)
def vaccinations(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation]) -> dg.MaterializeResult:
    """Doses of each day."""
    return _result(context, stores, VACCINATIONS, read_vaccinations(stores, days_of_run(context)))


@dg.asset(
    **described(
        CALLS,
        group="source",
        kinds=("postgres", "parquet"),
        description=(
            "Calls attempted on a day and what came of them, as the call centre recorded them. An attempt counts as a "
            "call whatever its outcome."
        ),
    ),
    partitions_def=daily,
    backfill_policy=ONE_RUN_FOR_MANY_DAYS,
    deps=[call_outcomes, caregivers],
    pool=pools.SOURCE,
)
@written_alone(is_retried=True, writes_earlier=True)
def calls(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation]) -> dg.MaterializeResult:
    """Attempted calls of each day."""
    return _result(context, stores, CALLS, read_calls(stores, days_of_run(context)))


def _result(
    context: dg.AssetExecutionContext, stores: Installation, contract: TableContract, read: DaysRead
) -> dg.MaterializeResult:
    """Metadata for each partition of the run and each earlier one that has changed; a look at the newest of the run."""
    for manifest in read.asked:
        metadata = _metadata(stores, manifest)
        if read.again:
            metadata["read_again"] = dg.MetadataValue.json(read.summary)
        context.add_asset_metadata(metadata, partition_key=manifest.partition)
    newest = read.asked[-1]
    chart = rows_over_days(rows_by_day(stores.lake, newest.asset, date.fromisoformat(newest.partition)))
    look = {"rows_by_day": picture(chart, "Rows by day"), **glance(stores.lake, contract, newest)}
    context.add_asset_metadata(look, partition_key=newest.partition)
    report_earlier(context, read.changed, {m.partition: _metadata(stores, m) for m in read.changed})
    return dg.MaterializeResult(data_version=data_version(*read.asked))


def _metadata(stores: Installation, manifest: Manifest) -> dict[str, Any]:
    """Metadata of a partition, with why rows were set aside where any were; which they were stays in the lake."""
    metadata = partition_metadata(manifest)
    reasons = reasons_set_aside(stores.lake, manifest)
    if reasons is not None:
        metadata["why_set_aside"] = preview(reasons, n_rows=reasons.num_rows)
    return metadata
