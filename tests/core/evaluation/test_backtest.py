"""The backtest against a reference that walks from caregiver to caregiver, and against chains whose truth is known."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.contracts import CALIBRATION, MODEL_BACKTEST, PREDICTORS
from bandicoot_core.engagement.history import history_until
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.evaluation.backtest import (
    Backtest,
    backtest,
    backtest_origins,
    fewest_training_weeks,
    pooled_scores,
)
from bandicoot_core.model.recipe import train_recipe
from bandicoot_core.model.transitions import transition_arrays
from bandicoot_core.settings import ModelOptions
from tests.core.evaluation.histories import KINDS, draw_history, registry_of, weeks_of
from tests.core.evaluation.models import in_engine

OPTIONS = ModelOptions(n_clusters=4, min_cluster_share=0.01)
N_WEEKS = 14
ROWS = draw_history(3000, N_WEEKS, seed=21, p_call=0.1)


@pytest.fixture(scope="module")
def made(shared_engine: Backend) -> Backtest:
    registry = in_engine(shared_engine, registry_of(ROWS))
    return backtest(in_engine(shared_engine, ROWS), OPTIONS, weeks=weeks_of(N_WEEKS), caregivers=registry, n_origins=3)


def one(scores: pa.Table, **wanted: object) -> dict[str, float]:
    for name, value in wanted.items():
        scores = scores.filter(pc.equal(scores[name], pa.scalar(value, scores.schema.field(name).type)))
    [row] = scores.to_pylist()
    return row


@pytest.mark.parametrize("horizon", [1, 2, 3])
def test_scores_are_those_of_a_walk_from_caregiver_to_caregiver(
    made: Backtest, shared_engine: Backend, horizon: int
) -> None:
    origin = N_WEEKS - 1 - 3
    trained = train_recipe(
        history_until(in_engine(shared_engine, ROWS), n_weeks=origin + 1),
        OPTIONS,
        n_weeks=origin + 1,
        caregivers=in_engine(shared_engine, registry_of(ROWS)),
    )
    passive, active = transition_arrays(trained.transitions)
    assigned = trained.assignments.to_pyarrow().to_pylist()
    cluster = {row["caregiver_key"]: row["cluster_id"] for row in assigned}
    losses = []
    for row in ROWS.to_pylist():
        if not (row["observed_weeks"] >> origin) & 1:
            continue
        p = float((row["opened_weeks"] >> origin) & 1)
        for week in range(origin, origin + horizon):
            chance = (active if (row["called_weeks"] >> week) & 1 else passive)[cluster[row["caregiver_key"]]]
            p = p * chance[1] + (1 - p) * chance[0]
        is_responsive = (row["opened_weeks"] >> (origin + horizon)) & 1
        losses.append((-np.log(p if is_responsive else 1 - p), (p - is_responsive) ** 2))
    expected = np.array(losses)
    found = one(made.scores, origin_week=weeks_of(N_WEEKS)[origin], horizon=horizon, scope="all", predictor="model")
    assert found["n_caregiver_weeks"] == len(expected)
    assert found["log_loss"] == pytest.approx(expected[:, 0].mean(), rel=1e-12)
    assert found["brier"] == pytest.approx(expected[:, 1].mean(), rel=1e-12)
    assert found["log_loss_error"] == pytest.approx(expected[:, 0].std() / np.sqrt(len(expected)), rel=1e-9)


def test_the_model_predicts_nearly_as_well_as_the_truth_could_and_better_than_every_baseline(made: Backtest) -> None:
    pooled = pooled_scores(made.scores).to_pylist()
    loss = {(row["predictor"], row["horizon"]): row["log_loss"] for row in pooled}
    # Entropy of the next week, knowing her kind, state and action, in the long run of these chains.
    chances = np.array([[kind.p_passive, kind.p_active] for kind in KINDS])
    moves = 0.9 * chances[:, 0] + 0.1 * chances[:, 1]
    in_r = moves[:, 0] / (moves[:, 0] + 1 - moves[:, 1])
    weight = np.stack([1 - in_r, in_r], axis=-1)[:, None] * np.array([0.9, 0.1])[None, :, None] / len(KINDS)
    entropy = -(weight * (chances * np.log(chances) + (1 - chances) * np.log(1 - chances))).sum()
    assert entropy < loss["model", 1] < entropy + 0.05
    for horizon in (1, 2, 3):
        assert loss["model", horizon] < 0.9 * min(loss[name, horizon] for name in PREDICTORS if name != "model")


def test_every_scope_adds_up_to_everybody(made: Backtest) -> None:
    total = pooled_scores(made.scores).filter(pc.field("predictor") == "model")
    for scope in ("district", "cluster", "action", "assigned_by"):
        parts = pooled_scores(made.scores, scope=scope).filter(pc.field("predictor") == "model")
        for row in total.to_pylist():
            of_horizon = parts.filter(pc.field("horizon") == row["horizon"])
            n = of_horizon["n_caregiver_weeks"].to_numpy()
            assert n.sum() == row["n_caregiver_weeks"], scope
            assert n @ of_horizon["log_loss"].to_numpy() / n.sum() == pytest.approx(row["log_loss"]), scope
    assert set(pooled_scores(made.scores, scope="assigned_by")["scope_value"].to_pylist()) == {"history", "features"}
    assert set(pooled_scores(made.scores, scope="action")["scope_value"].to_pylist()) == {"active", "passive"}


def test_without_a_registry_the_population_predicts_those_without_history(shared_engine: Backend) -> None:
    found = backtest(in_engine(shared_engine, ROWS), OPTIONS, weeks=weeks_of(N_WEEKS), n_origins=1).scores
    assert set(pooled_scores(found, scope="assigned_by")["scope_value"].to_pylist()) == {"history", "population"}
    assert pooled_scores(found, scope="district").num_rows == 0
    # Knowing only her state and action, the population's chances can't differ from persistence but for the calls.
    by = {"scope": "assigned_by", "scope_value": "population", "horizon": 1}
    model, persistence = (one(found, predictor=name, **by) for name in ("model", "persistence"))
    assert model["log_loss"] == pytest.approx(persistence["log_loss"], abs=0.03)


def test_the_hard_baseline_pays_for_every_change_of_state(made: Backtest) -> None:
    found = one(made.scores, origin_week=weeks_of(N_WEEKS)[-2], horizon=1, scope="all", predictor="stays")
    opened, observed = (ROWS[name].to_numpy() >> (N_WEEKS - 2) for name in ("opened_weeks", "observed_weeks"))
    changed = ((opened & 1) != (opened >> 1))[observed & 1 == 1].mean()
    assert found["log_loss"] == pytest.approx(-changed * np.log(0.05) - (1 - changed) * np.log(0.95))
    assert found["brier"] == pytest.approx(changed * 0.95**2 + (1 - changed) * 0.05**2)


def test_predicted_chances_come_true(made: Backtest) -> None:
    assert made.calibration.schema == CALIBRATION.arrow_schema()
    rows = made.calibration.filter(pc.field("predictor") == "model")
    n = rows["n_caregiver_weeks"].to_numpy()
    gap = np.abs(rows["mean_predicted"].to_numpy() - rows["observed_share"].to_numpy())
    assert n @ gap / n.sum() < 0.03
    for row in made.calibration.to_pylist():
        assert row["bin"] / 10 <= row["mean_predicted"] <= (row["bin"] + 1) / 10
        assert row["share_low"] <= row["observed_share"] <= row["share_high"]
    horizon_1 = rows.filter(pc.field("horizon") == 1)["n_caregiver_weeks"].to_numpy().sum()
    assert horizon_1 == sum(
        one(made.scores, origin_week=week, horizon=1, scope="all", predictor="model")["n_caregiver_weeks"]
        for week in weeks_of(N_WEEKS)[-4:-1]
    )


def test_origins_are_the_newest_and_horizons_end_with_the_window(made: Backtest) -> None:
    rows = made.scores.filter((pc.field("scope") == "all") & (pc.field("predictor") == "model")).to_pylist()
    last = weeks_of(N_WEEKS)[-1]
    assert [(row["origin_week"], row["horizon"]) for row in rows] == [
        (last - timedelta(weeks=back), horizon) for back in (3, 2, 1) for horizon in range(1, back + 1)
    ]


def test_the_same_history_in_another_order_gives_the_same_bytes(made: Backtest, shared_engine: Backend) -> None:
    order = np.random.default_rng(3).permutation(ROWS.num_rows)
    registry = in_engine(shared_engine, registry_of(ROWS).take(order))
    again = backtest(
        in_engine(shared_engine, ROWS.take(order[::-1])),
        OPTIONS,
        weeks=weeks_of(N_WEEKS),
        caregivers=registry,
        n_origins=3,
    )
    assert again.scores.equals(made.scores)
    assert again.calibration.equals(made.calibration)
    assert made.scores.schema == MODEL_BACKTEST.arrow_schema()


def test_a_window_has_as_many_origins_as_leave_enough_weeks_to_train_on() -> None:
    assert fewest_training_weeks(OPTIONS) == 5
    assert fewest_training_weeks(ModelOptions(min_passive_weeks=1)) == 4
    assert backtest_origins(6, n_training=5) == [4]
    assert backtest_origins(8, n_training=4) == [3, 4, 5, 6]
    assert backtest_origins(26, n_training=5) == list(range(17, 25))
    with pytest.raises(InvalidInputError, match="5 weeks; a backtest needs 6, 5 to train on and one to predict"):
        backtest_origins(5, n_training=5)
