import numpy as np
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.engagement.history import history_until
from bandicoot_core.errors import InvalidInputError
from bandicoot_core.model.recipe import options_behind_chances, train_recipe
from bandicoot_core.model.transitions import transition_arrays
from bandicoot_core.settings import ModelOptions
from tests.core.evaluation.histories import KINDS, draw_history, registry_of

OPTIONS = ModelOptions(n_clusters=4, min_cluster_share=0.01)


def test_the_recipe_finds_the_chances_that_drew_the_history(engine: Backend) -> None:
    history = engine.create_table("history", draw_history(6000, 26, seed=3, p_call=0.2, share_new=0.0))
    trained = train_recipe(history, OPTIONS)
    p_passive, p_active = transition_arrays(trained.transitions)
    true = sorted((kind.p_passive, kind.p_active) for kind in KINDS)
    assert p_passive == pytest.approx(np.array([passive for passive, _ in true]), abs=0.08)
    # The two kinds that rarely come back by themselves share clusters; what a call does is clear for the other two.
    assert p_active[2:] == pytest.approx(np.array([active for _, active in true[2:]]), abs=0.05)


def test_without_a_registry_only_caregivers_with_enough_weeks_have_a_cluster(engine: Backend) -> None:
    rows = draw_history(800, 10, seed=5)
    history = engine.create_table("history", rows)
    assigned = train_recipe(history, OPTIONS).assignments.to_pyarrow()
    assert set(assigned["assigned_by"].to_pylist()) == {"history"}
    n_observed = np.array([bin(word).count("1") for word in rows["observed_weeks"].to_pylist()])
    n_called = np.array([bin(word).count("1") for word in rows["called_weeks"].to_pylist()])
    assert (n_observed >= 5).sum() >= assigned.num_rows >= (n_observed - n_called >= 6).sum()


def test_with_a_registry_everybody_has_one_and_features_tell_which(engine: Backend) -> None:
    rows = draw_history(1200, 10, seed=5)
    history, registry = engine.create_table("history", rows), engine.create_table("registry", registry_of(rows))
    trained = train_recipe(history, OPTIONS, caregivers=registry)
    assigned = trained.assignments.order_by("caregiver_key").to_pyarrow()
    assert assigned["caregiver_key"].to_pylist() == rows["caregiver_key"].to_pylist()
    by_features = np.array(assigned["assigned_by"].to_pylist()) == "features"
    assert 50 < by_features.sum() < 300
    # The always responsive kind is the last in the order of ids; its age gives it away.
    kind = (rows["caregiver_key"].to_numpy() - 1) % len(KINDS)
    assert set(assigned["cluster_id"].to_numpy()[by_features & (kind == 3)]) == {trained.fit.clusters.num_rows - 1}


def test_what_happens_after_the_origin_changes_nothing(engine: Backend) -> None:
    rows = draw_history(500, 12, seed=8)
    flipped = rows.set_column(
        1,
        rows.schema.field(1),
        pa.array((rows["opened_weeks"].to_numpy() ^ (0b1111 << 8)) & rows["observed_weeks"].to_numpy()),
    )
    trained = [
        train_recipe(history_until(engine.create_table(name, table), n_weeks=8), OPTIONS)
        for name, table in (("real", rows), ("flipped", flipped))
    ]
    assert trained[0].transitions.equals(trained[1].transitions)
    assert trained[0].fit.tuple_clusters.equals(trained[1].fit.tuple_clusters)


def test_a_history_without_behaviour_is_refused(engine: Backend) -> None:
    rows = draw_history(10, 6, seed=1)
    history = history_until(engine.create_table("history", rows), n_weeks=1)
    with pytest.raises(InvalidInputError, match="no behaviour to cluster"):
        train_recipe(history, OPTIONS)


def test_options_that_act_after_training_do_not_make_another_recipe() -> None:
    changed = OPTIONS.model_copy(update={"discount": 0.5, "max_index_shift": 9.0, "interval": 0.5, "n_draws": 100})
    assert options_behind_chances(changed) == options_behind_chances(OPTIONS)
    for name, value in (("n_clusters", 5), ("training_weeks", 12), ("model_seed", 8), ("min_passive_weeks", 2)):
        assert options_behind_chances(OPTIONS.model_copy(update={name: value})) != options_behind_chances(OPTIONS)
