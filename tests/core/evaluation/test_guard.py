"""What the guard refuses: worse recipes, and tables broken after training; each with a reason that can be read."""

import re
from collections.abc import Callable
from dataclasses import replace

import ibis
import numpy as np
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.engagement.history import history_until
from bandicoot_core.evaluation.guard import LossComparison, backtest_not_worse, compare_losses, predicts_last_weeks
from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.model.recipe import train_recipe
from bandicoot_core.settings import ModelOptions
from tests.core.evaluation.histories import draw_history
from tests.core.evaluation.models import bundle_of, in_engine, trained_bundle

OPTIONS = ModelOptions(n_clusters=5, min_cluster_share=0.01, training_weeks=14)
N_WEEKS = 14


@pytest.fixture(scope="module")
def history(shared_engine: Backend) -> ibis.Table:
    return in_engine(shared_engine, draw_history(4000, N_WEEKS, seed=33, p_call=0.08))


@pytest.fixture(scope="module")
def champion(history: ibis.Table) -> ModelBundle:
    return trained_bundle(history_until(history, n_weeks=N_WEEKS - 1), OPTIONS)


@pytest.fixture(scope="module")
def candidate(history: ibis.Table) -> tuple[ModelBundle, ibis.Table]:
    trained = train_recipe(history, OPTIONS)
    return bundle_of(trained, OPTIONS), trained.assignments


def with_values(table: pa.Table, column: str, values: list[object]) -> pa.Table:
    position = table.column_names.index(column)
    return table.set_column(position, table.schema.field(column), pa.array(values, table.schema.field(column).type))


def swapped(table: pa.Table, column: str, one: str, other: str) -> pa.Table:
    names = {one: other, other: one}
    return with_values(table, column, [names[value] for value in table[column].to_pylist()])


def test_a_candidate_of_the_same_recipe_a_week_later_predicts_as_well(
    history: ibis.Table, candidate: tuple[ModelBundle, ibis.Table], champion: ModelBundle
) -> None:
    bundle, assignments = candidate
    outcome = predicts_last_weeks(history, N_WEEKS, bundle, champion, assignments=assignments, max_loss_increase=0.01)
    assert (outcome.is_passed, outcome.is_blocking) == (True, True)
    assert abs(outcome.facts["difference"]) < 0.01
    assert re.search(r"log loss 0\.\d{4} against 0\.\d{4} of the champion on \d+ caregiver-weeks", outcome.description)


@pytest.mark.parametrize("n_clusters", [4, 7])
def test_finer_or_coarser_clusters_of_the_same_weeks_are_not_refused_for_what_they_remember(
    history: ibis.Table, candidate: tuple[ModelBundle, ibis.Table], n_clusters: int
) -> None:
    bundle, assignments = candidate
    other = trained_bundle(history, OPTIONS.model_copy(update={"n_clusters": n_clusters}))
    outcome = predicts_last_weeks(history, N_WEEKS, bundle, other, assignments=assignments, max_loss_increase=0.01)
    assert outcome.is_passed, outcome.description


FAULTS: list[tuple[Callable[[pa.Table], pa.Table], str]] = [
    (lambda table: swapped(table, "state", "U", "R"), r"log loss 0\.\d+ against .* compare the clusters and chances"),
    (
        lambda table: with_values(table, "p_next_r", [float("nan"), *table["p_next_r"].to_pylist()[1:]]),
        "the log loss of the candidate is nan, .* some chance of the candidate is none",
    ),
    (lambda table: with_values(table, "p_next_r", [0.0] * table.num_rows), "expected at most 1.0% more"),
    (lambda table: table.slice(4), "cannot be compared with the champion's"),
]


@pytest.mark.parametrize(("fault", "found"), FAULTS, ids=["swapped states", "nan", "all zero", "a cluster is missing"])
def test_tables_that_were_broken_after_training_are_refused_and_say_why(
    history: ibis.Table,
    candidate: tuple[ModelBundle, ibis.Table],
    champion: ModelBundle,
    fault: Callable[[pa.Table], pa.Table],
    found: str,
) -> None:
    bundle, assignments = candidate
    broken = replace(bundle, transitions=fault(bundle.transitions))
    outcome = predicts_last_weeks(history, N_WEEKS, broken, champion, assignments=assignments, max_loss_increase=0.01)
    assert (outcome.is_passed, outcome.is_blocking) == (False, True)
    assert re.search(found, outcome.description)


def test_caregivers_in_the_wrong_clusters_are_noticed(
    history: ibis.Table, candidate: tuple[ModelBundle, ibis.Table], champion: ModelBundle
) -> None:
    bundle, assignments = candidate
    wrong = assignments.mutate(cluster_id=bundle.clusters.num_rows - 1 - assignments.cluster_id)
    outcome = predicts_last_weeks(history, N_WEEKS, bundle, champion, assignments=wrong, max_loss_increase=0.01)
    assert not outcome.is_passed
    assert outcome.description.startswith("caregivers in the candidate's own clusters: ")


def test_without_a_champion_or_anybody_to_compare_nothing_is_hidden(
    history: ibis.Table, candidate: tuple[ModelBundle, ibis.Table], champion: ModelBundle
) -> None:
    bundle, assignments = candidate
    first = predicts_last_weeks(history, N_WEEKS, bundle, None, assignments=assignments, max_loss_increase=0.01)
    assert (first.is_passed, first.description) == (True, "there is no champion yet to compare with")
    nobody = assignments.filter(assignments.caregiver_key < 0)
    outcome = predicts_last_weeks(history, N_WEEKS, bundle, champion, assignments=nobody, max_loss_increase=0.01)
    assert not outcome.is_passed
    assert "no caregiver with a cluster was observed" in outcome.description


def test_equal_recipes_are_equal_by_construction(history: ibis.Table) -> None:
    later = OPTIONS.model_copy(update={"discount": 0.9, "max_index_shift": 3.0})
    outcome = backtest_not_worse(history, N_WEEKS, later, {**OPTIONS.model_dump(), "cluster_assignments": "3f9a"})
    assert (outcome.is_passed, outcome.is_blocking) == (True, True)
    assert outcome.description == "the champion was trained with the same options: equal by construction"


def test_a_recipe_that_predicts_worse_is_refused_with_the_option_that_changed(history: ibis.Table) -> None:
    coarse = OPTIONS.model_copy(update={"n_clusters": 1})
    refused = backtest_not_worse(history, N_WEEKS, coarse, OPTIONS.model_dump())
    assert (refused.is_passed, refused.is_blocking) == (False, True)
    assert refused.description.startswith("n_clusters is 1, not 5; log loss 0.")
    assert refused.facts["difference"] > 2 * refused.facts["standard_error"]
    better = backtest_not_worse(history, N_WEEKS, OPTIONS, coarse.model_dump())
    assert better.is_passed
    assert better.facts["difference"] == pytest.approx(-refused.facts["difference"])
    allowed = backtest_not_worse(
        history, N_WEEKS, coarse.model_copy(update={"max_loss_increase": 0.9}), OPTIONS.model_dump()
    )
    assert allowed.is_passed


def test_a_champion_of_fewer_weeks_is_trained_on_fewer(history: ibis.Table) -> None:
    short = OPTIONS.model_copy(update={"training_weeks": 9})
    outcome = backtest_not_worse(history, N_WEEKS, OPTIONS, short.model_dump())
    assert outcome.is_passed
    assert outcome.facts["difference"] < -0.005


def test_a_window_too_short_to_hold_weeks_out_is_said_and_passes(shared_engine: Backend) -> None:
    short = in_engine(shared_engine, draw_history(100, 8, seed=1))
    outcome = backtest_not_worse(short, 8, OPTIONS, OPTIONS.model_copy(update={"n_clusters": 2}).model_dump())
    assert outcome.is_passed
    assert "the window of 8 weeks is too short to hold any out" in outcome.description


def by_hand(groups: list[tuple[int, int, int, int]], p: dict[str, list[float]]) -> LossComparison:
    """Caregivers one by one: rows of (state, opened, n, cluster), two horizons, no calls; p by model and cluster."""
    difference, n_caregivers, losses = [], 0, {"candidate": 0.0, "champion": 0.0}
    for state, opened, n, cluster in groups:
        own = {}
        for model, chances in p.items():
            q, own[model] = float(state), 0.0
            for h in range(2):
                q = chances[cluster]  # memoryless: the same chance from either state
                own[model] -= np.log(q if (opened >> h) & 1 else 1 - q)
            losses[model] += n * own[model]
        difference += [own["candidate"] - own["champion"]] * n
        n_caregivers += n
    d = np.array(difference)
    n_weeks = 2 * n_caregivers
    error = np.sqrt(((d - d.mean()) ** 2).sum()) / n_weeks
    return LossComparison(
        n_caregivers, n_weeks, losses["candidate"] / n_weeks, losses["champion"] / n_weeks, d.sum() / n_weeks, error
    )


def test_the_standard_error_is_that_of_caregivers_not_of_their_weeks() -> None:
    groups = [(0, 0b01, 3, 0), (1, 0b11, 2, 1), (1, 0b00, 4, 0), (0, 0b10, 1, 1)]
    p = {"candidate": [0.2, 0.6], "champion": [0.4, 0.5]}
    table = pa.table(
        {
            "candidate_cluster": [row[3] for row in groups],
            "champion_cluster": [row[3] for row in groups],
            "is_responsive": [row[0] for row in groups],
            "called": [0] * len(groups),
            "opened": [row[1] for row in groups],
            "n_caregivers": [row[2] for row in groups],
        }
    )
    arrays = [np.broadcast_to(np.array(chances)[:, None, None], (2, 2, 2)) for chances in p.values()]
    found = compare_losses(table, *arrays, n_horizons=2)
    expected = by_hand(groups, p)
    assert (found.n_caregivers, found.n_caregiver_weeks) == (10, 20)
    for name in ("candidate_loss", "champion_loss", "difference", "standard_error"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-12), name
