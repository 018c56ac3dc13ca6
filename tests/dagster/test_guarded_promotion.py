"""Broken candidates through the real pipeline: refused with a reason, the champion stays, the list still goes out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bandicoot_core.calendar import days_between, last_closed_week, last_day_of_week, weeks_ending_with
from bandicoot_core.contracts import (
    BEHAVIOURAL_TYPES,
    CALIBRATION,
    CAREGIVERS,
    CLUSTER_ASSIGNMENTS,
    CLUSTER_TYPES,
    CLUSTERS,
    COVERAGE,
    ENGAGEMENT_HISTORY,
    ESTIMATION,
    MODEL_BACKTEST,
    POLICY_SIMULATION,
    SMS_EVENTS,
    TRANSITION_MODELS,
    TUPLE_CLUSTERS,
    TUPLE_INDICES,
    WHITTLE_INDICES,
    TableContract,
)
from bandicoot_core.errors import OutdatedPartitionError, RejectedModelError, TrainingFailedError
from bandicoot_core.model.recipe import train_recipe
from bandicoot_core.pipeline.bundles import BUNDLE_FORMAT, BUNDLES
from bandicoot_core.pipeline.call_list import materialize_call_list
from bandicoot_core.pipeline.promotion import Decision, decide_model_version
from bandicoot_core.pipeline.training import MIXES, TYPES
from bandicoot_core.settings import load_model_options
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.published.models import ModelRecord, champion, list_models
from tests.small_programme import CALL_DATE, Programme

WEEK = last_closed_week(CALL_DATE)
KEY = WEEK.isoformat()
TABLES_OF: dict[str, dict[str, TableContract]] = {
    "transition_models": {"data": TRANSITION_MODELS, TYPES: BEHAVIOURAL_TYPES, MIXES: CLUSTER_TYPES},
    "whittle_indices": {"data": WHITTLE_INDICES, "tuple_indices": TUPLE_INDICES},
}


def current(programme: Programme) -> ModelRecord:
    with programme.installation.published() as connection:
        found = champion(connection)
    assert found is not None
    return found


@contextmanager
def broken(lake: Lake, asset: str, fault: Callable[[pa.Table], pa.Table]) -> Iterator[None]:
    """The week's partition of a model asset with its main table broken for a while."""
    manifest = lake.require(asset, KEY)
    whole = {name: (contract, lake.read(contract, asset, KEY, name)) for name, contract in TABLES_OF[asset].items()}
    kept: dict[str, Any] = {name: getattr(manifest, name) for name in ("inputs", "recipe", "facts")}
    contract, rows = whole["data"]
    lake.write(asset, KEY, {**whole, "data": (contract, fault(rows))}, **kept)
    try:
        yield
    finally:
        lake.write(asset, KEY, whole, **kept)


def decide(programme: Programme) -> Decision:
    return decide_model_version(
        programme.installation, WEEK, programme.model_options, run_id="test", decided_at=programme.clock()
    )


def with_values(table: pa.Table, column: str, values: list[object]) -> pa.Table:
    position = table.column_names.index(column)
    return table.set_column(position, table.schema.field(column), pa.array(values, table.schema.field(column).type))


def with_states_swapped(table: pa.Table) -> pa.Table:
    return with_values(table, "state", ["U" if state == "R" else "R" for state in table["state"].to_pylist()])


def with_chances_swapped(table: pa.Table) -> pa.Table:
    """P(next = R) of U and R exchanged; the counts behind them stay where they are."""
    for name in ("p_next_r", "p_low", "p_high"):
        by_cell = {
            (row["cluster_id"], row["action"], row["state"]): row[name]
            for row in table.select(["cluster_id", "action", "state", name]).to_pylist()
        }
        other = {"U": "R", "R": "U"}
        cells = table.select(["cluster_id", "action", "state"]).to_pylist()
        swapped = [by_cell[cell["cluster_id"], cell["action"], other[cell["state"]]] for cell in cells]
        table = with_values(table, name, swapped)
    return table


def without_calls_in_cluster_0(table: pa.Table) -> pa.Table:
    is_hit = pc.and_(pc.equal(table["cluster_id"], 0), pc.equal(table["action"], "active")).to_pylist()
    for name in ("n_to_r", "n_to_u"):
        values = zip(is_hit, table[name].to_pylist(), strict=True)
        table = with_values(table, name, [0 if hit else n for hit, n in values])
    return table


def with_a_nan(column: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: with_values(table, column, [float("nan"), *table[column].to_pylist()[1:]])


T, W = "transition_models", "whittle_indices"


@pytest.mark.parametrize(
    ("asset", "fault", "reason"),
    [
        (T, with_states_swapped, "states_not_swapped: without calls "),
        (T, with_chances_swapped, "predicts_last_weeks: caregivers at the nearest centroid: log loss "),
        (T, without_calls_in_cluster_0, "clusters_have_active_data: 1 clusters were never called in the training"),
        (T, with_a_nan("p_next_r"), "probabilities_valid: 1 chances are not numbers between 0 and 1"),
        (T, with_a_nan("p_next_r"), "predicts_last_weeks: .*the log loss of the candidate is nan"),
        (W, with_a_nan("whittle_index"), "indices_valid: 1 indices are not finite or lie outside their interval"),
    ],
)
def test_a_broken_candidate_is_rejected_with_a_reason_and_the_champion_stays(
    programme: Programme, asset: str, fault: Callable[[pa.Table], pa.Table], reason: str
) -> None:
    before = current(programme)
    with broken(programme.installation.lake, asset, fault):
        decision = decide(programme)
    assert not decision.is_promoted
    assert decision.summary.startswith("rejected: ")
    assert pc.match_substring_regex(pa.array([decision.summary]), reason).to_pylist() == [True], decision.summary
    assert current(programme) == before
    with programme.installation.published() as connection:
        [noted] = [model.note for model in list_models(connection) if model.model_version == decision.version]
    assert noted is not None
    assert noted in decision.summary
    assert decide(programme).version == before.model_version


def test_a_candidate_too_broken_for_the_registry_is_rejected_in_the_lake(programme: Programme) -> None:
    before = current(programme)
    with (
        broken(programme.installation.lake, W, with_a_nan("p_passive")),
        broken(programme.installation.lake, T, with_a_nan("p_next_r")),
    ):
        decision = decide(programme)
    assert decision.summary.startswith("rejected: probabilities_valid: 1 chances")
    assert decision.manifest.partition == decision.version
    assert current(programme) == before
    with programme.installation.published() as connection:
        assert decision.version not in {model.model_version for model in list_models(connection)}
    assert decide(programme).version == before.model_version


def test_training_on_a_week_with_half_its_logs_missing_is_refused_and_the_champion_makes_the_list(
    programme: Programme,
) -> None:
    before, published, lake = current(programme), programme.published(), programme.installation.lake
    days = [day.isoformat() for day in days_between(WEEK, last_day_of_week(WEEK))]
    whole = {day: (lake.require("sms_events", day), lake.read(SMS_EVENTS, "sms_events", day)) for day in days}
    random = np.random.default_rng(4)
    try:
        for day, (manifest, rows) in whole.items():
            half = rows.filter(pa.array(random.random(rows.num_rows) < 0.5))
            lake.write("sms_events", day, {"data": (SMS_EVENTS, half)}, inputs=manifest.inputs, facts=manifest.facts)
        with pytest.raises(RejectedModelError, match=rf"logs_complete.*in the week of {WEEK}.*the usual") as refused:
            programme.catch_up()
        assert f"the list was made with the champion {before.model_version}" in str(refused.value)
        assert current(programme) == before
        assert {row[6] for row in programme.published()} == {before.model_version}
    finally:
        for day, (manifest, rows) in whole.items():
            lake.write("sms_events", day, {"data": (SMS_EVENTS, rows)}, inputs=manifest.inputs, facts=manifest.facts)
    programme.catch_up()
    assert current(programme).model_version == before.model_version
    assert programme.published() == published


def test_a_training_that_fails_outright_does_not_hold_up_the_list(programme: Programme) -> None:
    before, published = current(programme), programme.published()
    trained = programme.model_options
    # A window longer than the lake makes the model stale; without a passive week anywhere there is nothing to cluster.
    programme.model_options = load_model_options(**{**trained.model_dump(), "training_weeks": 11})
    lake = programme.installation.lake
    day = last_day_of_week(WEEK).isoformat()
    manifest, rows = lake.require("caregivers", day), lake.read(CAREGIVERS, "caregivers", day)
    try:
        lake.write("caregivers", day, {"data": (CAREGIVERS, rows.slice(0, 0))}, facts=manifest.facts)
        with pytest.raises(
            TrainingFailedError, match=f"the list was made with the champion {before.model_version}"
        ) as failed:
            programme.catch_up()
        assert failed.value.__cause__ is not None
    finally:
        programme.model_options = trained
        lake.write("caregivers", day, {"data": (CAREGIVERS, rows)}, recipe=manifest.recipe, facts=manifest.facts)
    assert current(programme) == before
    programme.catch_up()
    assert programme.published() == published


def test_a_champion_of_an_older_form_is_replaced_before_the_next_list(programme: Programme) -> None:
    before, lake = current(programme), programme.installation.lake
    bundle, decided = lake.require(BUNDLES, before.model_version), lake.require("model_version", KEY)
    tables = {
        name: (contract, lake.read(contract, BUNDLES, before.model_version, name))
        for name, contract in (
            ("clusters", CLUSTERS),
            ("tuple_clusters", TUPLE_CLUSTERS),
            ("transitions", TRANSITION_MODELS),
            ("indices", WHITTLE_INDICES),
            ("tuple_indices", TUPLE_INDICES),
            ("assignments", CLUSTER_ASSIGNMENTS),
        )
    }
    older = replace(TRANSITION_MODELS, columns=TRANSITION_MODELS.columns[:-1])
    tables["transitions"] = (older, tables["transitions"][1])
    lake.write(BUNDLES, before.model_version, tables, recipe=bundle.recipe, facts=bundle.facts)
    lake.write("model_version", KEY, {}, recipe={**decided.recipe, "bundle_format": 1}, facts=decided.facts)
    with pytest.raises(OutdatedPartitionError, match="written by another version of the software"):
        materialize_call_list(programme.installation, CALL_DATE, programme.list_options())
    programme.catch_up()
    assert lake.require("model_version", KEY).recipe["bundle_format"] == BUNDLE_FORMAT
    assert {row[6] for row in programme.published()} == {current(programme).model_version}


def test_the_recipe_in_one_piece_gives_the_tables_of_the_pipeline(programme: Programme) -> None:
    stores, lake = programme.installation, programme.installation.lake
    with stores.engine() as engine, lake.reader(engine) as reader:
        trained = train_recipe(
            reader.scan(ENGAGEMENT_HISTORY, "engagement_history", [KEY]),
            programme.model_options,
            n_weeks=programme.model_options.training_weeks,
            caregivers=reader.scan(CAREGIVERS, "caregivers", [last_day_of_week(WEEK).isoformat()]),
        )
        n_assigned = trained.assignments.count().to_pyarrow().as_py()
    assert trained.fit.tuple_clusters.equals(lake.read(TUPLE_CLUSTERS, "clusters", KEY, "tuple_clusters"))
    assert trained.transitions.equals(lake.read(TRANSITION_MODELS, "transition_models", KEY))
    assert n_assigned == lake.require("cluster_assignments", KEY).n_rows()


def test_the_evaluation_of_a_week_is_written_with_its_pictures_and_its_check(programme: Programme) -> None:
    config = {"resources": {"training": {"config": programme.model_options.model_dump()}}}
    result = programme.run("evaluation", KEY, config)
    assert result.success
    lake = programme.installation.lake
    scores = lake.read(MODEL_BACKTEST, "model_backtest", KEY)
    assert set(scores["origin_week"].to_pylist()) == set(weeks_ending_with(WEEK - timedelta(weeks=1), 5))
    assert lake.read(CALIBRATION, "model_backtest", KEY, "calibration").num_rows > 10
    overall = scores.filter((pc.field("scope") == "all") & (pc.field("horizon") == 1))
    loss = {
        name: overall.filter(pc.field("predictor") == name)["log_loss"].to_numpy().mean()
        for name in ("model", "persistence", "population_rate")
    }
    assert loss["model"] < loss["persistence"] < loss["population_rate"]
    [materialization] = result.asset_materializations_for_node("model_backtest")
    for name in ("calibration", "loss_by_origin", "loss_of_the_newest_week"):
        assert str(materialization.metadata[name].value).startswith("![")
    assert "wo states are enough" in str(materialization.metadata["lag_test"].value)
    [evaluation] = result.get_asset_check_evaluations()
    assert (evaluation.check_name, evaluation.blocking) == ("loss_within_band", False)

    simulation = lake.read(POLICY_SIMULATION, "policy_simulation", KEY)
    assert set(simulation["cohort"].to_pylist()) == {"fitted", "public", "field"}
    [materialization] = result.asset_materializations_for_node("policy_simulation")
    for name in ("share_of_gain_fitted", "share_of_gain_public", "share_of_gain_field", "worth_of_one_more_call"):
        assert str(materialization.metadata[name].value).startswith("![")

    estimation = lake.read(ESTIMATION, "estimation_report", KEY)
    assert {"random", "no effect", "sharp types", "held-out weeks"} == set(estimation["programme"].to_pylist())
    [materialization] = result.asset_materializations_for_node("estimation_report")
    assert str(materialization.metadata["gain_by_active_weeks"].value).startswith("![")

    covered = lake.read(COVERAGE, "coverage_report", KEY)
    calls = covered.filter(pc.field("dimension") == "district")["n_calls"].to_numpy().sum()
    assert calls == covered.filter(pc.field("dimension") == "all")["n_calls"][0].as_py() > 50
    [materialization] = result.asset_materializations_for_node("coverage_report")
    assert str(materialization.metadata["whom_the_calls_reached"].value).startswith("![")
