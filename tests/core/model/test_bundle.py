from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pyarrow as pa
import pytest

from bandicoot_core.contracts import ACTIVE_TUPLE, PASSIVE_TUPLE, TRANSITION_MODELS
from bandicoot_core.model.bundle import ModelBundle, bundle_digest

TABLES = ("clusters", "tuple_clusters", "transitions", "indices", "tuple_indices")


def test_the_digest_ignores_row_order_buffer_layout_and_key_order(sound_bundle: ModelBundle) -> None:
    def reversed_in_chunks(table: pa.Table) -> pa.Table:
        rows = list(range(table.num_rows))[::-1]
        return pa.concat_tables([table.take(rows[:1]), table.take(rows[1:])])

    other = replace(
        sound_bundle,
        **{name: reversed_in_chunks(getattr(sound_bundle, name)) for name in TABLES},
        recipe=dict(reversed(sound_bundle.recipe.items())),
    )
    assert bundle_digest(other) == bundle_digest(sound_bundle)


def test_the_digest_is_the_same_on_every_machine() -> None:
    empty = ModelBundle(
        clusters=pa.table(
            {"cluster_id": [0], "p_passive_u": [0.25], "p_passive_r": [0.75], "n_caregivers": [5], "n_tuples": [2]}
        ),
        tuple_clusters=_empty("n_rr", "n_ru", "n_ur", "n_uu", "cluster_id", "n_caregivers"),
        transitions=_empty(*TRANSITION_MODELS.column_names),
        indices=_empty(
            "cluster_id", "state", "whittle_index", "index_low", "index_high", "is_indexable", "p_passive", "p_active"
        ),
        tuple_indices=_empty(*PASSIVE_TUPLE, *ACTIVE_TUPLE, "cluster_id", "state", "own_index"),
        recipe={"n_clusters": 1},
        first_week=date(2026, 5, 24),
        last_week=date(2026, 11, 15),
    )
    assert bundle_digest(empty) == "76b17e9bb992be1fe53381fac995fe4a1c0d9e22cca9d57acef167d6e2f9e875"


def _empty(*names: str) -> pa.Table:
    return pa.table({name: pa.nulls(0) for name in names})


@pytest.mark.parametrize(
    "change",
    [
        lambda b: replace(b, recipe={**b.recipe, "discount": 0.98}),
        lambda b: replace(b, first_week=date(2026, 5, 17)),
        lambda b: replace(b, last_week=date(2026, 11, 8)),
        lambda b: replace(b, transitions=b.transitions.slice(1)),
        lambda b: replace(b, tuple_clusters=b.tuple_clusters.slice(1)),
        lambda b: replace(b, tuple_indices=b.tuple_indices.slice(1)),
        lambda b: replace(b, clusters=b.clusters.set_column(1, "p_passive_u", pa.array([0.1, 0.3]))),
        lambda b: replace(b, indices=b.indices.set_column(1, "state", pa.array(["U", "U", "R", "R"]))),
    ],
)
def test_any_change_changes_the_digest(sound_bundle: ModelBundle, change: Callable[[ModelBundle], ModelBundle]) -> None:
    assert bundle_digest(change(sound_bundle)) != bundle_digest(sound_bundle)


def test_a_recipe_that_is_not_json_has_no_digest(sound_bundle: ModelBundle) -> None:
    with pytest.raises(TypeError):
        bundle_digest(replace(sound_bundle, recipe={"week": date(2026, 11, 15)}))
