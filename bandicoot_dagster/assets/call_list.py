"""The call-list group: the ranked list of a day, its checks, its publication, and the cache for its readers."""

import dagster as dg

from bandicoot_core.calendar import parse_day, refuse_future_day
from bandicoot_core.contracts import CALL_LIST, PUBLISHED_CALL_LIST
from bandicoot_core.evaluation.charts import eligibility_funnel, list_by_district
from bandicoot_core.pipeline.call_list import materialize_call_list, materialize_published_call_list
from bandicoot_core.pipeline.daily_staleness import stale_lists
from bandicoot_core.pipeline.index_cache import CACHE_CHECKS, materialize_index_cache
from bandicoot_core.policy.checks import LIST_CHECKS, WARNING_ONLY
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.call_lists import read_call_list
from bandicoot_dagster import pools
from bandicoot_dagster.assets.engagement import caregiver_states
from bandicoot_dagster.assets.model import model_version
from bandicoot_dagster.automation import CACHE_FOLLOWS_ITS_LIST
from bandicoot_dagster.checks import check_specs
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.config import CallListConfig
from bandicoot_dagster.describe import described
from bandicoot_dagster.freshness import LIST_BY_TWO
from bandicoot_dagster.metadata import check_results, column_lineage, partition_metadata, picture, preview
from bandicoot_dagster.partitions import day_before, list_days
from bandicoot_dagster.runtime import day_of_run
from bandicoot_dagster.steps import written_alone
from bandicoot_dagster.versions import data_version

PREVIEW = [
    "rank",
    "caregiver_key",
    "district",
    "state",
    "cluster_id",
    "whittle_index",
    "own_index",
    "p_top_k",
    "reason",
]
"""Columns of a list that are shown in the UI."""

PUBLISHED_PREVIEW = ["rank", "district", "state", "whittle_index", "reason", "model_version", "published_at"]
"""Columns of the published list that are shown in the UI; whom a row is about stays in the table."""


@dg.asset(
    **described(
        CALL_LIST,
        group="call_list",
        kinds=("duckdb", "parquet"),
        description=(
            "Whom to call on a day, in order: the eligible caregivers for whom a call is worth most, and a small share "
            "drawn at random to keep learning what calls do. It is published only when every blocking check passes."
        ),
    ),
    partitions_def=list_days,
    deps=[
        dg.AssetDep(caregiver_states, partition_mapping=day_before),
        dg.AssetDep(model_version, partition_mapping=dg.LastPartitionMapping()),
    ],
    check_specs=check_specs("call_list", LIST_CHECKS, warning_only=WARNING_ONLY),
    freshness_policy=LIST_BY_TWO,
    pool=pools.CALL_LIST,
)
@written_alone(is_retried=True)
def call_list(
    context: dg.AssetExecutionContext,
    config: CallListConfig,
    stores: dg.ResourceParam[Installation],
    clock: dg.ResourceParam[Clock],
) -> dg.MaterializeResult:
    """The ranked list of a day."""
    call_date = refuse_future_day(day_of_run(context), now=clock(), name="partition")
    as_of_day = parse_day(config.as_of_date, name="as_of_date") if config.as_of_date else None
    made = materialize_call_list(stores, call_date, config.options(), as_of_day=as_of_day)
    stale = stale_lists(stores.lake, call_date, stores.settings.lookback_days)
    return dg.MaterializeResult(
        metadata={
            **partition_metadata(made.manifest),
            "list_by_district": picture(list_by_district(made.drawn.call_list), "The list by district and state"),
            "eligibility": picture(eligibility_funnel(made.drawn.funnel), "From the registry to who may be called"),
            "first_rows": preview(made.drawn.call_list, PREVIEW),
            "stale_earlier_lists": dg.MetadataValue.json({str(day): why for day, why in stale.items()}),
        },
        check_results=check_results(made.outcomes, "call_list"),
        data_version=data_version(made.manifest),
    )


@dg.asset(
    **described(
        PUBLISHED_CALL_LIST,
        group="call_list",
        kinds=("postgres",),
        description=(
            "The list of a day as downstream systems and call centres read it: table bandicoot.call_list, and for the "
            "newest day the view bandicoot.current_call_list. Its rows are replaced in one transaction."
        ),
        published_as="bandicoot.call_list",
    ),
    partitions_def=list_days,
    deps=[call_list],
    freshness_policy=LIST_BY_TWO,
    pool=pools.CALL_LIST,
)
@written_alone(is_retried=True)
def published_call_list(
    context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation], clock: dg.ResourceParam[Clock]
) -> dg.MaterializeResult:
    """Commit the list to PostgreSQL."""
    call_date = refuse_future_day(day_of_run(context), now=clock(), name="partition")
    n_rows = materialize_published_call_list(stores, call_date, run_id=context.run.run_id, published_at=clock())
    with stores.published() as connection:
        rows = read_call_list(connection, call_date)
    page = stores.settings.published_table_page(call_date)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": n_rows,
            "dagster/uri": f"{stores.published_place}/bandicoot.call_list",
            **({"published_table": dg.MetadataValue.url(page)} if page else {}),
            "list_by_district": picture(list_by_district(rows), "The published list by district and state"),
            "first_rows": preview(rows, PUBLISHED_PREVIEW),
            **column_lineage("published_call_list"),
        },
        data_version=data_version(stores.lake.require("call_list", call_date.isoformat())),
    )


@dg.asset(
    **described(
        None,
        group="call_list",
        kinds=("redis",),
        description=(
            "What applications ask for again and again, in Redis: the Whittle indices of the model that made the "
            "newest list, and every caregiver's state. Without Redis, or when it fails, they read PostgreSQL; the list "
            "is published before and never waits for it."
        ),
    ),
    partitions_def=list_days,
    deps=[published_call_list],
    automation_condition=CACHE_FOLLOWS_ITS_LIST,
    check_specs=check_specs("index_cache", CACHE_CHECKS, warning_only=CACHE_CHECKS),
    pool=pools.CALL_LIST,
)
def index_cache(context: dg.AssetExecutionContext, stores: dg.ResourceParam[Installation]) -> dg.MaterializeResult:
    """Fill Redis."""
    cached = materialize_index_cache(stores, day_of_run(context))
    return dg.MaterializeResult(
        metadata=dict(cached.facts), check_results=check_results([cached.outcome], "index_cache")
    )
