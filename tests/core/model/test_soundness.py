import re
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bandicoot_core.contracts import CLUSTERS
from bandicoot_core.model.bundle import ModelBundle
from bandicoot_core.model.soundness import SOUNDNESS_CHECKS, soundness_checks


def with_values(table: pa.Table, column: str, *values: object) -> pa.Table:
    position = table.column_names.index(column)
    return table.set_column(position, column, pa.array(values, table.schema.field(column).type))


def with_first(table: pa.Table, column: str, value: object) -> pa.Table:
    return with_values(table, column, value, *table[column].to_pylist()[1:])


def without_calls_in_cluster_0(bundle: ModelBundle) -> ModelBundle:
    table = bundle.transitions
    is_hit = pc.and_(pc.equal(table["cluster_id"], 0), pc.equal(table["action"], "active"))
    for name in ("n_to_r", "n_to_u"):
        values = [0 if hit.as_py() else n.as_py() for hit, n in zip(is_hit, table[name], strict=True)]
        table = with_values(table, name, *values)
    return replace(bundle, transitions=table)


def with_states_swapped(bundle: ModelBundle) -> ModelBundle:
    states = ["U" if state == "R" else "R" for state in bundle.transitions["state"].to_pylist()]
    return replace(bundle, transitions=with_values(bundle.transitions, "state", *states))


def test_a_sound_model_passes_every_check(sound_bundle: ModelBundle) -> None:
    outcomes = soundness_checks(sound_bundle)
    assert [outcome.name for outcome in outcomes] == list(SOUNDNESS_CHECKS)
    assert [outcome for outcome in outcomes if not outcome.is_passed] == []
    assert [outcome.name for outcome in outcomes if not outcome.is_blocking] == ["active_data_suffices"]


FAULTS: list[tuple[Callable[[ModelBundle], ModelBundle], str, str]] = [
    (
        lambda b: replace(b, clusters=CLUSTERS.empty()),
        "clusters_exist",
        "0 clusters, 0 of them without caregivers",
    ),
    (
        lambda b: replace(b, clusters=with_first(b.clusters, "n_caregivers", 0)),
        "clusters_exist",
        "2 clusters, 1 of them without caregivers",
    ),
    (
        lambda b: replace(b, clusters=with_values(b.clusters, "cluster_id", 0, 2)),
        "cluster_ids_contiguous",
        "cluster ids are 0, 2; tuples refer to 1 beyond them; expected 0 to 1",
    ),
    (
        lambda b: replace(b, tuple_clusters=with_first(b.tuple_clusters, "cluster_id", 9)),
        "cluster_ids_contiguous",
        "tuples refer to 9 beyond them",
    ),
    (
        lambda b: replace(b, transitions=b.transitions.slice(1)),
        "cells_complete",
        "7 transition models and 4 indices for 2 clusters",
    ),
    (
        lambda b: replace(b, indices=with_first(b.indices, "state", "U")),
        "cells_complete",
        "8 transition models and 4 indices for 2 clusters",
    ),
    (
        lambda b: replace(b, transitions=with_first(b.transitions, "p_next_r", float("nan"))),
        "probabilities_valid",
        "1 chances are not numbers between 0 and 1",
    ),
    (
        lambda b: replace(b, transitions=with_first(b.transitions, "p_low", 0.999)),
        "probabilities_valid",
        "1 chances",
    ),
    (
        lambda b: replace(b, transitions=with_first(b.transitions, "p_high", 1.001)),
        "probabilities_valid",
        "1 chances",
    ),
    (
        lambda b: replace(b, clusters=with_first(b.clusters, "p_passive_u", -0.1)),
        "probabilities_valid",
        "1 chances",
    ),
    (
        lambda b: replace(b, indices=with_first(b.indices, "whittle_index", float("inf"))),
        "indices_valid",
        "1 indices are not finite",
    ),
    (
        lambda b: replace(b, indices=with_first(b.indices, "index_high", -9.0)),
        "indices_valid",
        "1 indices are not finite",
    ),
    (
        lambda b: replace(b, tuple_indices=with_first(b.tuple_indices, "own_index", float("nan"))),
        "indices_valid",
        "1 indices are not finite",
    ),
    (
        lambda b: replace(b, indices=with_first(b.indices, "is_indexable", False)),
        "indices_valid",
        "1 arms are not indexable",
    ),
    (with_states_swapped, "states_not_swapped", "without calls 13.6% of 1100 responsive weeks and 64.8% of 710"),
    (
        without_calls_in_cluster_0,
        "clusters_have_active_data",
        r"1 clusters were never called in the training window \(0\)",
    ),
    (without_calls_in_cluster_0, "active_data_suffices", "2 of 4 active chances rest on fewer than 40 transitions"),
]


@pytest.mark.parametrize(("fault", "name", "found"), FAULTS)
def test_each_fault_fails_its_check_and_says_what_was_found(
    sound_bundle: ModelBundle, fault: Callable[[ModelBundle], ModelBundle], name: str, found: str
) -> None:
    outcome = next(outcome for outcome in soundness_checks(fault(sound_bundle)) if outcome.name == name)
    assert not outcome.is_passed
    assert re.search(found, outcome.description)
    # What to do next follows the finding and the expectation.
    assert "; " in outcome.description.split("expected", 1)[1]


def test_a_failed_check_carries_the_clusters_at_fault(sound_bundle: ModelBundle) -> None:
    broken = replace(sound_bundle, indices=with_first(sound_bundle.indices, "is_indexable", False))
    rows = {outcome.name: outcome.rows for outcome in soundness_checks(broken)}["indices_valid"]
    assert rows is not None
    assert rows.num_rows == 1
    assert rows["cluster_id"][0].as_py() == sound_bundle.indices["cluster_id"][0].as_py()
    assert rows["is_indexable"].to_pylist() == [False]
    thin = {outcome.name: outcome.rows for outcome in soundness_checks(without_calls_in_cluster_0(sound_bundle))}
    never_called = thin["clusters_have_active_data"]
    assert never_called is not None
    assert never_called["cluster_id"].to_pylist() == [0]
    assert [outcome.name for outcome in soundness_checks(sound_bundle) if outcome.rows is not None] == []


def test_an_empty_model_fails_checks_instead_of_raising(sound_bundle: ModelBundle) -> None:
    empty = replace(
        sound_bundle,
        **{name: getattr(sound_bundle, name).slice(0, 0) for name in ("clusters", "transitions", "indices")},
    )
    failed = {outcome.name for outcome in soundness_checks(empty) if not outcome.is_passed}
    assert failed == {"clusters_exist", "cluster_ids_contiguous", "states_not_swapped"}
