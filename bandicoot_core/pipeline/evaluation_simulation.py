"""The policy simulation of a week: materializing it, and what it says.

Three kinds of cohort: two public ones, which say how policies compare where everything is known, and one fitted to the
champion, which says what the programme itself can expect. Large programmes are simulated in miniature: as many
caregivers as fit, with the calls in proportion.
"""

from datetime import date

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bandicoot_core.calendar import last_day_of_week
from bandicoot_core.contracts import (
    ACTIVE_STATUS,
    ACTIVE_TUPLE,
    CALL_WORTH,
    CAREGIVER_STATES,
    CLUSTER_ASSIGNMENTS,
    CONTROL_ARM,
    PASSIVE_TUPLE,
    POLICY_SIMULATION,
    TRANSITION_MODELS,
)
from bandicoot_core.errors import InvalidInputError, NoChampionError
from bandicoot_core.evaluation.cohort_generators import field_cohort, fitted_cohort, public_cohort
from bandicoot_core.evaluation.cohorts import Cohort, with_district_shares
from bandicoot_core.evaluation.policy_comparison import call_worth_table, simulation_table
from bandicoot_core.evaluation.report import Report
from bandicoot_core.evaluation.simulation_charts import share_of_gain_by_budget, worth_of_one_more_call
from bandicoot_core.model.behavioural_types import BehaviouralTypes, means_under_posteriors
from bandicoot_core.pipeline.bundles import BUNDLES, load_types
from bandicoot_core.settings import EvaluationOptions, ListOptions, ModelOptions
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest
from bandicoot_core.stores.published.models import champion

_SEED = 2
_PUBLIC_TRIALS, _PUBLIC_BUDGETS = 10, (15, 30, 60, 120)
_FIELD_TRIALS = 10
_FITTED_TRIALS, _FITTED_WEEKS = 30, 12
_FITTED_BUDGETS = (0.5, 1.0, 2.0)
"""As multiples of the programme's budget."""

_WORTH_TABLE = "call_worth"
_KINDS = {
    "fitted": "the programme as the champion describes it",
    "public": "a public cohort of 500 arms whose calls always help",
    "field": "a cohort of the size of a field study, with a cool-down of three weeks",
}
"""Kinds of cohort in the order of reading."""


def materialize_policy_simulation(
    stores: Installation,
    week: date,
    list_options: ListOptions,
    model_options: ModelOptions,
    options: EvaluationOptions,
) -> Manifest:
    """Write the `policy_simulation` partition of a week: POLICY_SIMULATION and CALL_WORTH.

    The fitted cohort starts from the states at the end of the week. NoChampionError before the first promotion,
    MissingPartitionError when the states are absent, InvalidInputError when nobody has a cluster.
    """
    with stores.published() as connection:
        model = champion(connection)
    if model is None:
        raise NoChampionError("no model has been promoted yet, so there is none to simulate; run weekly_training first")
    last_day = last_day_of_week(week).isoformat()
    with stores.engine() as engine, stores.lake.reader(engine) as reader:
        states = reader.scan(CAREGIVER_STATES, "caregiver_states", [last_day])
        assignments = reader.scan(CLUSTER_ASSIGNMENTS, BUNDLES, [model.model_version], "assignments")
        groups = engine.to_pyarrow(_groups(states, assignments))
        inputs = reader.inputs
    transitions = stores.lake.read(TRANSITION_MODELS, BUNDLES, model.model_version, "transitions")
    types = load_types(stores, model.model_version)
    fitted = _fitted(groups, transitions, types, list_options, model_options, n_arms=options.simulated_caregivers)
    calls_a_week = fitted.budget
    public = [public_cohort(seed) for seed in range(100, 100 + options.simulated_cohorts)]
    field = [field_cohort(seed) for seed in range(200, 200 + options.simulated_cohorts // 2)]
    tables = [
        simulation_table(
            [fitted],
            budgets=sorted({max(1, round(multiple * calls_a_week)) for multiple in _FITTED_BUDGETS}),
            n_trials=_FITTED_TRIALS,
            seed=_SEED,
            interval=model_options.interval,
        ),
        simulation_table(public, budgets=_PUBLIC_BUDGETS, n_trials=_PUBLIC_TRIALS, seed=_SEED),
        simulation_table(field, n_trials=_FIELD_TRIALS, seed=_SEED),
    ]
    return stores.lake.write(
        "policy_simulation",
        week.isoformat(),
        {
            "data": (POLICY_SIMULATION, pa.concat_tables(tables)),
            _WORTH_TABLE: (CALL_WORTH, call_worth_table([with_district_shares(fitted)])),
        },
        inputs=inputs,
        recipe={**list_options.model_dump(include={"budget", "cool_down_days"}), "discount": model_options.discount}
        | options.model_dump(),
        facts={"model_version": model.model_version, "n_simulated": fitted.n_arms, "calls_a_week": calls_a_week},
    )


def read_policy_simulation(lake: Lake, week: date) -> Report:
    """The materialized report; MissingPartitionError when it is absent."""
    key = week.isoformat()
    facts = lake.require("policy_simulation", key).facts
    table = lake.read(POLICY_SIMULATION, "policy_simulation", key)
    worth = lake.read(CALL_WORTH, "policy_simulation", key, _WORTH_TABLE)
    of_kind = {kind: table.filter(pc.equal(table["cohort"], kind)) for kind in _KINDS}
    sentences = [
        "; ".join(f"{kind} cohort: {what}" for kind, what in _KINDS.items()) + ".",
        f"Fitted: {facts['n_simulated']:,} caregivers in the proportions of the programme, "
        f"{facts['calls_a_week']:,} calls a week in proportion, model {facts['model_version']}.",
        "100% of the achievable gain is what no policy can exceed; 0% is making no calls. A policy below random does "
        "harm compared with drawing names.",
    ]
    return Report(
        title=f"What each policy of calling reaches in simulation, week {week}",
        sentences=sentences,
        tables={f"{kind} cohort": rows.drop_columns(["cohort"]) for kind, rows in of_kind.items()},
        pictures={
            **{f"share of gain {kind}": share_of_gain_by_budget(rows) for kind, rows in of_kind.items()},
            "worth of one more call": worth_of_one_more_call(worth),
        },
    )


def _groups(states: ibis.Table, assignments: ibis.Table) -> ibis.Table:
    """How many caregivers who may be called share counts, cluster, way of assignment, state and district."""
    callable_now = states.filter(states.status == ACTIVE_STATUS, states.ab_arm != CONTROL_ARM)
    known = callable_now.inner_join(assignments, "caregiver_key")
    columns = (*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id", "assigned_by", "state", "district")
    return known.group_by(*columns).agg(n_caregivers=known.count()).order_by(*columns)


def _fitted(
    groups: pa.Table,
    transitions: pa.Table,
    types: BehaviouralTypes,
    list_options: ListOptions,
    model_options: ModelOptions,
    *,
    n_arms: int,
) -> Cohort:
    """The programme in miniature; a caregiver's truth is her own posterior means, clusters are what is believed."""
    counts = np.asarray(groups["n_caregivers"].to_numpy(), dtype=np.int64)
    total = int(counts.sum())
    if total == 0:
        raise InvalidInputError(
            "caregiver_states: nobody who may be called has a cluster of the champion; materialize caregiver_states "
            "of the last day and cluster_assignments again"
        )
    n_arms = min(n_arms, total)
    # Each group gets its share of the arms, rounded so that the sum is right: no draw, hence no seed.
    shrunk = np.diff(np.cumsum(counts) * n_arms // total, prepend=0)
    # A group that gets no arm needs no chances.
    described = groups.append_column("n_arms", pa.array(shrunk)).filter(pa.array(shrunk > 0))
    chances = means_under_posteriors(types, described, np.concatenate([types.p_passive, types.p_active]).T)
    described = described.select(["cluster_id", "state", "district"]).append_column("n_caregivers", described["n_arms"])
    for name, values in zip(("p_passive_u", "p_passive_r", "p_active_u", "p_active_r"), chances.T, strict=True):
        described = described.append_column(name, pa.array(values))
    return fitted_cohort(
        transitions,
        described,
        budget=max(1, round(7 * list_options.budget * n_arms / total)),
        n_weeks=_FITTED_WEEKS,
        cool_down_weeks=list_options.cool_down_days // 7,
        discount=model_options.discount,
    )
