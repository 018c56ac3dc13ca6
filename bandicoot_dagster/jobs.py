"""Jobs: the nightly one, the list of the day, training, evaluation, and history backfill. All run in one process.

A run of Dagster has one partition, and the list of day D is made from the states of D-1: so closing a day (`nightly`,
partition D-1) and making the next one's list (`daily_list`, partition D) are two runs, the second started by a sensor.
Evaluation follows weekly training in a run of its own, so that it can neither hold up a promotion nor undo one.
"""

import dagster as dg

from bandicoot_dagster.assets import (
    analysis,
    backtest,
    call_list,
    costs,
    coverage,
    engagement,
    estimation,
    experiment,
    model,
    simulation,
    source,
)
from bandicoot_dagster.automation import FOLLOWED
from bandicoot_dagster.run_sizes import LARGE

_MAX_RUNTIME = "dagster/max_runtime"
"""After so many seconds Dagster's run monitoring fails a run: it hangs, and its pools would stay taken. A run
that is cut off leaves whole partitions, and can be started again. Other jobs have the two hours of dagster.yaml."""

nightly = dg.define_asset_job(
    "nightly",
    selection=dg.AssetSelection.assets(
        source.caregivers, source.sms_events, source.vaccinations, source.calls, engagement.caregiver_states
    ),
    description="Closes a day: its registry snapshot, message events, doses and calls, and every caregiver's state.",
    # An hour: by then the list is late (02:00), and the next try must be able to start.
    tags={_MAX_RUNTIME: "3600", **FOLLOWED},
    executor_def=dg.in_process_executor,
)

daily_list = dg.define_asset_job(
    "daily_list",
    selection=dg.AssetSelection.assets(call_list.call_list, call_list.published_call_list, call_list.index_cache),
    description="Makes, checks and publishes the call list of a day from the states of the day before, then caches.",
    # Half an hour: it ranks and publishes in minutes, and readers are waiting for it.
    tags={_MAX_RUNTIME: "1800"},
    executor_def=dg.in_process_executor,
)

weekly_training = dg.define_asset_job(
    "weekly_training",
    selection=dg.AssetSelection.assets(
        engagement.engagement_history,
        engagement.passive_counts,
        model.clusters,
        model.features_only_mapper,
        model.cluster_assignments,
        model.transition_models,
        model.whittle_indices,
        model.model_version,
    ),
    description="Trains the model of a week over its training window and promotes it when its checks pass.",
    # Two hours: 02:00 to 04:00 leaves two more until the model is due at 06:00.
    tags={_MAX_RUNTIME: "7200", **FOLLOWED, **LARGE},
    executor_def=dg.in_process_executor,
)

precompute_indices = dg.define_asset_job(
    "precompute_indices",
    selection=dg.AssetSelection.assets(model.transition_models, model.whittle_indices, model.model_version),
    description=(
        "Makes chances and indices of a week again, with the clusters that are there, and promotes the model when its "
        "checks pass; `weekly_training` makes the clusters."
    ),
    # Made by a person or the service, so it carries no FOLLOWED: the report that takes no options follows it.
    tags={_MAX_RUNTIME: "7200", **LARGE},
    executor_def=dg.in_process_executor,
)

evaluation = dg.define_asset_job(
    "evaluation",
    selection=dg.AssetSelection.assets(
        backtest.model_backtest,
        estimation.estimation_report,
        simulation.policy_simulation,
        experiment.experiment_report,
        coverage.coverage_report,
    ),
    description=(
        "Judges a week: how well its models predict and its chances are estimated, whether behaviour has changed, what "
        "policies would reach, what the experiment shows, and whom the calls reached."
    ),
    # Two hours: nobody waits for it, and housekeeping at 05:00 should not find it still running.
    tags={_MAX_RUNTIME: "7200", **LARGE},
    executor_def=dg.in_process_executor,
)

registry = dg.define_asset_job(
    "registry",
    selection=dg.AssetSelection.assets(source.caregivers),
    description="Takes the registry snapshot of a day and gives every new caregiver her key and arm.",
    executor_def=dg.in_process_executor,
)

source_history = dg.define_asset_job(
    "source_history",
    selection=dg.AssetSelection.assets(source.sms_events, source.vaccinations, source.calls),
    description="Brings many past days of events, doses and calls into the lake in a single run.",
    tags=LARGE,
    executor_def=dg.in_process_executor,
)

cost_of_month = dg.define_asset_job(
    "cost_of_month",
    selection=dg.AssetSelection.assets(costs.cost_report),
    description="Says what the month has cost so far, and what it will come to.",
    executor_def=dg.in_process_executor,
)

explain_listing = dg.define_asset_job(
    "explain_listing",
    selection=dg.AssetSelection.assets(analysis.why_listed),
    description="Says why a caregiver is or is not on the list of a day; asks for her id.",
    executor_def=dg.in_process_executor,
)

what_if = dg.define_asset_job(
    "what_if",
    selection=dg.AssetSelection.assets(analysis.what_if_call_list),
    description="Tries the list of a day with other options, beside the one that stands; publishes nothing.",
    executor_def=dg.in_process_executor,
)

compare_models = dg.define_asset_job(
    "compare_models",
    selection=dg.AssetSelection.assets(analysis.model_comparison),
    description="Puts two models side by side: options, checks, indices, and whom the second one values otherwise.",
    executor_def=dg.in_process_executor,
)

all_jobs = [
    nightly,
    daily_list,
    weekly_training,
    precompute_indices,
    evaluation,
    registry,
    source_history,
    cost_of_month,
    explain_listing,
    what_if,
    compare_models,
]
