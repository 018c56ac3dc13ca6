from dataclasses import replace
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from bandicoot_core.checks import CheckOutcome, blocking_failures
from bandicoot_core.contracts import CLUSTERS, TRANSITION_MODELS, TUPLE_CLUSTERS, TUPLE_INDICES, WHITTLE_INDICES
from bandicoot_core.model.versions import (
    CANDIDATE_CHECKS,
    ModelBundle,
    bundle_digest,
    candidate_checks,
    index_shifts,
    model_version,
)


def checked(bundle: ModelBundle, champion: ModelBundle | None = None, **changes: Any) -> dict[str, CheckOutcome]:
    facts = {
        "engagement_share": 0.5,
        "n_caregivers": 200,
        "n_assigned": 200,
        "max_index_shift": 0.5,
        **changes,
    }
    return {outcome.name: outcome for outcome in candidate_checks(bundle, champion, **facts)}


def bundle_of(indices: dict[str, list[float]], sizes: list[int]) -> ModelBundle:
    """A bundle of which only indices by state and cluster, and cluster sizes, are filled in."""
    n = len(sizes)
    clusters = {"cluster_id": list(range(n)), "p_passive_u": [0.5] * n, "p_passive_r": [0.5] * n}
    rows = [(k, state, values[k]) for state, values in indices.items() for k in range(n)]
    index = [row[2] for row in rows]
    return ModelBundle(
        clusters=pa.table({**clusters, "n_caregivers": sizes, "n_tuples": [1] * n}, schema=CLUSTERS.arrow_schema()),
        tuple_clusters=TUPLE_CLUSTERS.empty(),
        transitions=TRANSITION_MODELS.empty(),
        indices=pa.table(
            {
                "cluster_id": [row[0] for row in rows],
                "state": [row[1] for row in rows],
                "whittle_index": index,
                "index_low": index,
                "index_high": index,
                "is_indexable": [True] * len(rows),
                "p_passive": [0.5] * len(rows),
                "p_active": [0.5] * len(rows),
            },
            schema=WHITTLE_INDICES.arrow_schema(),
        ),
        tuple_indices=TUPLE_INDICES.empty(),
        recipe={},
        first_week=date(2026, 5, 24),
        last_week=date(2026, 11, 15),
    )


def test_a_version_is_the_week_and_the_start_of_the_digest() -> None:
    assert model_version(date(2026, 11, 15), "3f9a1c2b" + "0" * 56) == "2026-11-15-3f9a1c2b"


def test_the_same_content_has_the_same_version(sound_bundle: ModelBundle) -> None:
    again = replace(sound_bundle, indices=sound_bundle.indices.take([3, 1, 2, 0]))
    versions = {model_version(date(2026, 11, 15), bundle_digest(bundle)) for bundle in (sound_bundle, again)}
    assert len(versions) == 1


@pytest.mark.parametrize(("day", "digest"), [(date(2026, 11, 16), "3f9a1c2b"), (date(2026, 11, 15), "3F9A1C2B")])
def test_a_week_that_is_no_sunday_or_a_digest_that_is_none_is_refused(day: date, digest: str) -> None:
    with pytest.raises(ValueError, match=r"named by its Sunday|hexadecimal"):
        model_version(day, digest)


def test_a_sound_first_candidate_passes_every_check(sound_bundle: ModelBundle) -> None:
    outcomes = checked(sound_bundle)
    assert list(outcomes) == list(CANDIDATE_CHECKS)
    assert all(outcome.is_passed for outcome in outcomes.values())
    assert blocking_failures(tuple(outcomes.values())) == ()


@pytest.mark.parametrize("share", [0.02, 0.97, float("nan")])
def test_implausible_engagement_blocks(sound_bundle: ModelBundle, share: float) -> None:
    outcome = checked(sound_bundle, engagement_share=share)["engagement_plausible"]
    assert (outcome.is_passed, outcome.is_blocking) == (False, True)
    assert "expected 5.0% to 95.0%" in outcome.description


@pytest.mark.parametrize(("n_caregivers", "n_assigned"), [(200, 199), (200, 201), (0, 0)])
def test_caregivers_without_cluster_block(sound_bundle: ModelBundle, n_caregivers: int, n_assigned: int) -> None:
    outcome = checked(sound_bundle, n_caregivers=n_caregivers, n_assigned=n_assigned)["caregivers_have_clusters"]
    assert (outcome.is_passed, outcome.is_blocking) == (False, True)


def test_the_shift_weighs_clusters_by_their_caregivers() -> None:
    champion = bundle_of({"U": [1.0, 2.0], "R": [0.0, 0.0]}, [30, 10])
    candidate = bundle_of({"U": [1.0, 2.4], "R": [0.1, 0.1]}, [30, 10])
    assert index_shifts(candidate, champion) == pytest.approx({"U": 0.1, "R": 0.1})


def test_clusters_that_are_split_or_renumbered_are_no_shift() -> None:
    champion = bundle_of({"U": [1.0, 2.0], "R": [0.0, 3.0]}, [30, 10])
    candidate = bundle_of({"U": [2.0, 1.0, 1.0], "R": [3.0, 0.0, 0.0]}, [10, 10, 20])
    assert index_shifts(candidate, champion) == pytest.approx({"U": 0.0, "R": 0.0})


def test_the_mean_shift_weighs_states_by_engagement_and_blocks_beyond_its_bound() -> None:
    champion = bundle_of({"U": [1.0], "R": [0.0]}, [10])
    candidate = bundle_of({"U": [2.0], "R": [0.2]}, [10])
    outcome = checked(candidate, champion, engagement_share=0.75, max_index_shift=0.39)["index_shift_bounded"]
    assert outcome.facts["mean_index_shift"] == pytest.approx(0.75 * 0.2 + 0.25 * 1.0)
    assert (outcome.is_passed, outcome.is_blocking) == (False, True)
    assert "moved by 0.400 responsive weeks on average" in outcome.description
    assert checked(candidate, champion, engagement_share=0.75, max_index_shift=0.41)["index_shift_bounded"].is_passed


@pytest.mark.parametrize("index", [float("nan"), float("inf")])
def test_indices_that_cannot_be_compared_block(sound_bundle: ModelBundle, index: float) -> None:
    outcome = checked(bundle_of({"U": [index], "R": [0.0]}, [10]), sound_bundle)["index_shift_bounded"]
    assert (outcome.is_passed, outcome.is_blocking) == (False, True)
    assert "lacks caregivers or a finite index in U" in outcome.description


def test_a_candidate_without_anything_fails_instead_of_raising(sound_bundle: ModelBundle) -> None:
    outcomes = checked(bundle_of({"U": [], "R": []}, []), sound_bundle)
    assert not outcomes["clusters_exist"].is_passed
    assert not outcomes["index_shift_bounded"].is_passed


CLUSTER_LISTS = st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 1000)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(CLUSTER_LISTS, CLUSTER_LISTS)
def test_the_shift_is_the_wasserstein_distance(left: list[tuple[float, int]], right: list[tuple[float, int]]) -> None:
    models = [([index for index, _ in side], [size for _, size in side]) for side in (left, right)]
    bundles = [bundle_of({"U": index, "R": index}, sizes) for index, sizes in models]
    expected = wasserstein_distance(models[0][0], models[1][0], models[0][1], models[1][1])
    assert index_shifts(*bundles)["U"] == pytest.approx(expected, abs=1e-9)
    assert index_shifts(*bundles[::-1])["U"] == pytest.approx(expected, abs=1e-9)
