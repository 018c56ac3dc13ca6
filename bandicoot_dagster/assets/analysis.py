"""The analysis group: questions an analyst asks in the UI. The answers are metadata; no table is written or published.

What is asked, an asset takes from its run configuration. They have a pool of their own, so that a question never holds
up the night.
"""

import dagster as dg

from bandicoot_core.calendar import parse_day, refuse_future_day
from bandicoot_core.contracts import CALL_LIST
from bandicoot_core.evaluation.charts import eligibility_funnel, list_by_district
from bandicoot_core.pipeline.model_comparison import compare_models
from bandicoot_core.pipeline.what_if import what_if_call_list as draw_what_if
from bandicoot_core.pipeline.why_listed import why_listed as explain_listing
from bandicoot_core.stores.installation import Installation
from bandicoot_dagster import pools
from bandicoot_dagster.assets.call_list import PREVIEW, call_list
from bandicoot_dagster.assets.engagement import caregiver_states
from bandicoot_dagster.assets.model import model_version
from bandicoot_dagster.clock import Clock
from bandicoot_dagster.config import CallListConfig, ModelComparisonConfig, WhyListedConfig
from bandicoot_dagster.describe import described
from bandicoot_dagster.metadata import outcomes_table, picture, preview, report_metadata
from bandicoot_dagster.partitions import day_before, list_days
from bandicoot_dagster.runtime import day_of_run
from bandicoot_dagster.steps import retried

_MADE_OF = [
    dg.AssetDep(caregiver_states, partition_mapping=day_before),
    dg.AssetDep(model_version, partition_mapping=dg.LastPartitionMapping()),
    call_list,
]


@dg.asset(
    **described(
        CALL_LIST,
        group="analysis",
        kinds=("duckdb",),
        description=(
            "What the list of a day would be with other options, for example another budget: from the same states, "
            "model and waiting caregivers as the list that stands, and compared with it. Nothing is written or "
            "published; the answer is in the metadata. Choose the day as partition and the options in the Launchpad."
        ),
    ),
    partitions_def=list_days,
    deps=_MADE_OF,
    pool=pools.ANALYSIS,
)
@retried
def what_if_call_list(
    context: dg.AssetExecutionContext,
    config: CallListConfig,
    stores: dg.ResourceParam[Installation],
    clock: dg.ResourceParam[Clock],
) -> dg.MaterializeResult:
    """Try a list."""
    call_date = refuse_future_day(day_of_run(context), now=clock(), name="partition")
    as_of_day = parse_day(config.as_of_date, name="as_of_date") if config.as_of_date else None
    tried = draw_what_if(stores, call_date, config.options(), as_of_day=as_of_day)
    metadata = {
        "summary": dg.MetadataValue.md(tried.summary),
        "dagster/row_count": tried.drawn.call_list.num_rows,
        "model_version": tried.basis.model_version,
        "as_of_date": tried.basis.as_of_day.isoformat(),
        "list_by_district": picture(list_by_district(tried.drawn.call_list), "The list by district and state"),
        "eligibility": picture(eligibility_funnel(tried.drawn.funnel), "From the registry to who may be called"),
        "first_rows": preview(tried.drawn.call_list, PREVIEW),
        "checks_it_would_face": outcomes_table(tried.outcomes),
    }
    if tried.comparison is not None:
        metadata |= {
            "n_stay": tried.comparison.n_stay,
            "n_come_in": tried.comparison.came_in.num_rows,
            "n_drop_out": tried.comparison.dropped_out.num_rows,
            "who_would_come_in": preview(tried.comparison.came_in, PREVIEW),
            "who_would_drop_out": preview(tried.comparison.dropped_out, PREVIEW),
        }
    return dg.MaterializeResult(metadata=metadata)


@dg.asset(
    **described(
        None,
        group="analysis",
        kinds=("duckdb",),
        description=(
            "Why a caregiver is or is not on the list of a day: each rule with her value and the limit, her state, "
            "cluster and index, and her place beside the last one listed. Choose the day as partition and her id in "
            "the Launchpad; the answer is in the metadata, and nothing is written."
        ),
    ),
    partitions_def=list_days,
    deps=_MADE_OF,
    pool=pools.ANALYSIS,
)
@retried
def why_listed(
    context: dg.AssetExecutionContext,
    config: WhyListedConfig,
    stores: dg.ResourceParam[Installation],
    clock: dg.ResourceParam[Clock],
) -> dg.MaterializeResult:
    """Explain one caregiver's place."""
    call_date = refuse_future_day(day_of_run(context), now=clock(), name="partition")
    answer = explain_listing(stores, call_date, config.caregiver_id)
    return dg.MaterializeResult(
        metadata={
            "summary": dg.MetadataValue.md(answer.summary),
            "is_listed": answer.is_listed,
            "is_drawn": answer.is_drawn,
            "rules": preview(answer.rules),
            **answer.facts,
        }
    )


@dg.asset(
    **described(
        None,
        group="analysis",
        kinds=("duckdb", "postgres"),
        description=(
            "Two models side by side: the options that differ, their checks, the indices, how many caregivers have "
            "another index now, and how far the top of a list would stay. Choose the versions in the Launchpad; the "
            "answer is in the metadata, and nothing is written."
        ),
    ),
    deps=[dg.AssetDep(model_version, partition_mapping=dg.LastPartitionMapping())],
    pool=pools.ANALYSIS,
)
@retried
def model_comparison(
    context: dg.AssetExecutionContext, config: ModelComparisonConfig, stores: dg.ResourceParam[Installation]
) -> dg.MaterializeResult:
    """Compare two models."""
    return dg.MaterializeResult(
        metadata=report_metadata(compare_models(stores, config.first_version, config.second_version))
    )
