"""The experiment report of a week: arms and draws from the published schema, everything else from the lake.

What is summed, compared and estimated belongs to evaluation; here it is read, put together and written.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta

import ibis
import numpy as np
import pyarrow as pa
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import days_between, end_of_day, last_day_of_week, weeks_ending_with
from bandicoot_core.contracts import (
    CAREGIVERS,
    ENGAGEMENT_HISTORY,
    EXPERIMENT_BALANCE,
    EXPERIMENT_EFFECTS,
    EXPERIMENT_WEEKS,
    OFF_POLICY_VALUES,
    VACCINATIONS,
)
from bandicoot_core.evaluation.balance import balance_table
from bandicoot_core.evaluation.experiment_charts import (
    balance_of_arms,
    effect_over_weeks,
    effects_with_intervals,
    values_of_policies,
)
from bandicoot_core.evaluation.experiment_effects import BALANCE_FACTS, balance_facts, effects_table, weeks_table
from bandicoot_core.evaluation.experiment_outcomes import (
    Period,
    dose_schedule,
    dose_sums,
    engagement_by_week,
    engagement_sums,
)
from bandicoot_core.evaluation.report import Report
from bandicoot_core.pipeline.other_policies import value_of_other_policies
from bandicoot_core.policy.experiment import is_control
from bandicoot_core.settings import ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.lake.reader import LakeReader
from bandicoot_core.stores.published.experiments import Rollout, read_assignments, read_rollouts

_N_REDRAWS = 999
_N_BALANCE_REDRAWS = 499


@dataclass(frozen=True)
class _Tables:
    """The tables of a report, empty where there is nothing to say."""

    effects: pa.Table = field(default_factory=EXPERIMENT_EFFECTS.empty)
    weeks: pa.Table = field(default_factory=EXPERIMENT_WEEKS.empty)
    balance: pa.Table = field(default_factory=EXPERIMENT_BALANCE.empty)


def materialize_experiment_report(stores: Installation, week: date, options: ModelOptions) -> Manifest:
    """Write the `experiment_report` partition of a week.

    Tables: data (EXPERIMENT_EFFECTS), weeks, balance and off_policy. The arms are those of the share in force at the
    end of the week; where there is nothing to compare, the tables are empty and the fact `note` says why.
    MissingPartitionError when the week's history or registry is absent.
    """
    key = week.isoformat()
    history = stores.lake.require("engagement_history", key)
    first_week = date.fromisoformat(history.facts["first_week_date"])
    weeks = weeks_ending_with(week, (week - first_week).days // 7 + 1)
    experiment = stores.settings.experiment
    with stores.published() as connection:
        rollouts = [
            rollout
            for rollout in read_rollouts(connection, experiment=experiment)
            if rollout.in_force_at < end_of_day(last_day_of_week(week))
        ]
        assignments = read_assignments(connection, experiment=experiment)
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        note = _why_nothing(rollouts, weeks, assignments)
        tables = _Tables() if note else _compare(stores, reader, engine, weeks, rollouts, assignments, options)
        others = value_of_other_policies(stores, reader, engine, weeks)
        return stores.lake.write(
            "experiment_report",
            key,
            {
                "data": (EXPERIMENT_EFFECTS, tables.effects),
                "weeks": (EXPERIMENT_WEEKS, tables.weeks),
                "balance": (EXPERIMENT_BALANCE, tables.balance),
                "off_policy": (OFF_POLICY_VALUES, others.values),
            },
            inputs={**reader.inputs, **others.inputs},
            recipe={
                "experiment": experiment,
                "rollouts": [[rollout.in_force_at.isoformat(), rollout.rollout_share] for rollout in rollouts],
                "warm_up_weeks": stores.settings.warm_up_weeks,
                **options.model_dump(include={"model_seed"}),
            },
            facts={
                "experiment": experiment,
                **({"rollout_share": rollouts[-1].rollout_share} if rollouts else {}),
                **({"in_force_at": rollouts[-1].in_force_at.isoformat()} if rollouts else {}),
                "n_drawn": assignments.num_rows,
                "note": note or "treatment and control are compared as they were drawn",
            },
        )


def read_experiment_report(lake: Lake, week: date) -> Report:
    """The materialized report; MissingPartitionError when it is absent."""
    key = week.isoformat()
    facts = lake.require("experiment_report", key).facts
    effects, weeks, balance, values = (
        lake.read(contract, "experiment_report", key, table)
        for contract, table in (
            (EXPERIMENT_EFFECTS, "data"),
            (EXPERIMENT_WEEKS, "weeks"),
            (EXPERIMENT_BALANCE, "balance"),
            (OFF_POLICY_VALUES, "off_policy"),
        )
    )
    share = f", {facts['rollout_share']:.0%} in treatment" if "rollout_share" in facts else ""
    return Report(
        title=f"The experiment {facts['experiment']!r}, week {week}",
        sentences=[f"{facts['n_drawn']:,} caregivers were drawn{share}: {facts['note']}."],
        tables={"effects": effects, "effect week by week": weeks, "balance": balance, "other policies": values},
        pictures={
            "effects with intervals": effects_with_intervals(effects),
            "effect over weeks": effect_over_weeks(weeks),
            "balance of the arms": balance_of_arms(balance),
            "values of other policies": values_of_policies(values),
        },
    )


def _why_nothing(rollouts: list[Rollout], weeks: list[date], assignments: pa.Table) -> str | None:
    if not rollouts:
        return "no experiment had begun by the end of the week"
    if rollouts[-1].rollout_share >= 1 or not _treated(assignments, rollouts[-1]).any():
        return f"nobody can be compared at a rollout of {rollouts[-1].rollout_share:g}: one arm is empty"
    if _period(rollouts, weeks, 0).first_week >= len(weeks):
        return f"the share in force since {rollouts[-1].in_force_at.isoformat()} has no whole week yet"
    return None


def _compare(
    stores: Installation,
    reader: LakeReader,
    engine: Backend,
    weeks: list[date],
    rollouts: list[Rollout],
    assignments: pa.Table,
    options: ModelOptions,
) -> _Tables:
    week, last_day = weeks[-1], last_day_of_week(weeks[-1])
    period = _period(rollouts, weeks, stores.settings.warm_up_weeks)
    registry = reader.scan(CAREGIVERS, "caregivers", [last_day.isoformat()])
    history = reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [week.isoformat()])
    drawn = engine.create_table("drawn", _drawn(assignments, rollouts[-1]), temp=True)
    first_day, doses = _doses(stores, reader, weeks)
    sums = (
        registry.inner_join(drawn, "caregiver_key")
        .left_join(engagement_sums(history, registry, period), "caregiver_key", rname="engagement_{name}")
        .left_join(
            dose_sums(
                doses,
                registry,
                period,
                schedule=dose_schedule(doses, registry),
                first_day=first_day,
                last_day=last_day,
            ),
            "caregiver_key",
            rname="dose_{name}",
        )
        .select(
            *("caregiver_key", "is_treatment", "block", *BALANCE_FACTS),
            *("n_weeks_before", "n_responsive_before", "n_weeks", "n_responsive", "n_due", "n_on_time"),
        )
    )
    # The order decides which redraw falls on whom: the same report every time.
    of_all = sums.order_by("caregiver_key").to_pyarrow()
    by_week = drawn.inner_join(engagement_by_week(history, registry, period), "caregiver_key")
    balance = balance_table(
        balance_facts(of_all),
        of_all["is_treatment"].to_numpy(),
        of_all["block"].to_numpy(),
        n_redraws=_N_BALANCE_REDRAWS,
        seed=options.model_seed,
    )
    return _Tables(
        effects=effects_table(of_all, n_redraws=_N_REDRAWS, seed=options.model_seed),
        weeks=weeks_table(by_week.order_by("caregiver_key").to_pyarrow(), weeks[period.first_week :]),
        balance=balance,
    )


def _period(rollouts: list[Rollout], weeks: list[date], warm_up_weeks: int) -> Period:
    return Period(weeks, rollouts[0].in_force_at, rollouts[-1].in_force_at, warm_up_weeks)


def _treated(assignments: pa.Table, rollout: Rollout) -> np.ndarray:
    return np.logical_not(is_control(assignments["draw"].to_numpy(), rollout_share=rollout.rollout_share))


def _drawn(assignments: pa.Table, rollout: Rollout) -> pa.Table:
    """caregiver_key, is_treatment and block, the blocks of all strata numbered through."""
    stratum = assignments["stratum"].combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    block = assignments["block"].to_numpy().astype(np.int64)
    return pa.table(
        {
            "caregiver_key": assignments["caregiver_key"],
            "is_treatment": _treated(assignments, rollout),
            "block": stratum * (int(block.max(initial=0)) + 1) + block,
        }
    )


def _doses(stores: Installation, reader: LakeReader, weeks: list[date]) -> tuple[date, ibis.Table]:
    """The doses of the window, and the first day from which the lake has every day of them."""
    days = days_between(weeks[0], last_day_of_week(weeks[-1]))
    existing = set(stores.lake.partitions("vaccinations"))
    missing = [day for day in days if day.isoformat() not in existing]
    first_day = missing[-1] + timedelta(days=1) if missing else days[0]
    covered = [day.isoformat() for day in days if day >= first_day]
    return first_day, reader.scan_existing(VACCINATIONS, "vaccinations", covered)
