"""The Dagster definitions of Bandicoot, listed one by one.

`build_definitions` is the one seam: production, the command line and tests differ only in what they pass to it.
"""

import warnings

import dagster as dg

# `backfill_policy`, `owners`-like parameters marked beta are chosen knowingly and pinned by the constraints file.
warnings.filterwarnings("ignore", category=dg.BetaWarning)

from bandicoot_core.settings import Settings, load_settings  # noqa: E402
from bandicoot_dagster.assets import (  # noqa: E402
    analysis,
    backtest,
    call_list,
    costs,
    coverage,
    engagement,
    estimation,
    events,
    experiment,
    model,
    simulation,
    source,
)
from bandicoot_dagster.clock import Clock, system_clock  # noqa: E402
from bandicoot_dagster.code_references import with_code_references  # noqa: E402
from bandicoot_dagster.event_files import ingest_event_files  # noqa: E402
from bandicoot_dagster.events_sensor import event_sensors  # noqa: E402
from bandicoot_dagster.housekeeping import housekeeping  # noqa: E402
from bandicoot_dagster.jobs import all_jobs  # noqa: E402
from bandicoot_dagster.logs import set_up_logs  # noqa: E402
from bandicoot_dagster.progress import progress_logger  # noqa: E402
from bandicoot_dagster.resources import build_resources  # noqa: E402
from bandicoot_dagster.schedules import all_schedules  # noqa: E402
from bandicoot_dagster.sensors import all_sensors  # noqa: E402

ALL_ASSETS = [
    *source.programme_tables,
    source.call_outcomes,
    source.caregivers,
    source.sms_events,
    source.vaccinations,
    source.calls,
    events.received_events,
    engagement.caregiver_states,
    engagement.engagement_history,
    engagement.passive_counts,
    model.clusters,
    model.features_only_mapper,
    model.cluster_assignments,
    model.transition_models,
    model.whittle_indices,
    model.model_version,
    call_list.call_list,
    call_list.published_call_list,
    call_list.index_cache,
    coverage.coverage_report,
    estimation.estimation_report,
    simulation.policy_simulation,
    backtest.model_backtest,
    experiment.experiment_report,
    costs.cost_report,
    analysis.why_listed,
    analysis.what_if_call_list,
    analysis.model_comparison,
]

# Whoever loads the code logs as the setting says: the code server, and each process that executes a run.
set_up_logs(assets=[asset.key.to_user_string() for asset in ALL_ASSETS])


def build_definitions(settings: Settings | None = None, clock: Clock = system_clock) -> dg.Definitions:
    """The project's definitions over one set of settings (default: the environment's) and one clock."""
    settings = settings or load_settings()
    return dg.Definitions(
        assets=with_code_references(ALL_ASSETS, settings.repository_url, settings.repository_branch),
        jobs=[*all_jobs, housekeeping, ingest_event_files],
        schedules=all_schedules,
        sensors=[*all_sensors, *event_sensors(settings)],
        resources=build_resources(settings, clock),
        loggers={"console": dg.colored_console_logger, "progress": progress_logger},
        executor=dg.in_process_executor,
    )


defs = build_definitions()
