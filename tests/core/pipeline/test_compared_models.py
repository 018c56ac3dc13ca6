"""Two models side by side: the same model moves nobody, another one is told from it."""

from datetime import date
from pathlib import Path

import pytest
from small_installation import OPTIONS, SmallInstallation

from bandicoot_core.calendar import last_closed_week
from bandicoot_core.contracts import CLUSTER_ASSIGNMENTS, TUPLE_INDICES
from bandicoot_core.errors import InvalidInputError, MissingPartitionError
from bandicoot_core.pipeline.bundles import BUNDLES
from bandicoot_core.pipeline.model_comparison import compare_models
from tests.source_programme import SourceProgramme

CALL_DATE = date(2026, 11, 19)
EVERYBODY = [f"CG-{n}" for n in range(30)]
JOINED = [name for name in TUPLE_INDICES.key if name != "state"]


@pytest.fixture
def installation(published_url: str, tmp_path: Path) -> SmallInstallation:
    made = SmallInstallation(SourceProgramme(published_url), tmp_path)
    made.enrol(EVERYBODY)
    return made


def own_indices(installation: SmallInstallation, version: str) -> dict[int, float]:
    """The index of each caregiver by a model, joined here in pandas."""
    lake = installation.stores.lake
    assigned = lake.read(CLUSTER_ASSIGNMENTS, BUNDLES, version, "assignments").to_pandas()
    indices = lake.read(TUPLE_INDICES, BUNDLES, version, "tuple_indices").to_pandas()
    states = {row["caregiver_key"]: row["state"] for row in installation.states(date(2026, 11, 18)).values()}
    assigned["state"] = assigned["caregiver_key"].map(states)
    joined = assigned.merge(indices, on=[*JOINED, "state"])
    return dict(zip(joined["caregiver_key"], joined["own_index"], strict=True))


def test_two_models_are_told_apart_by_options_indices_and_whom_they_move(installation: SmallInstallation) -> None:
    first = installation.live_through(EVERYBODY, CALL_DATE).version
    with pytest.raises(InvalidInputError, match="is the only model"):
        compare_models(installation.stores)
    other = OPTIONS.model_copy(update={"discount": 0.5})
    second = installation.train(last_closed_week(CALL_DATE), other).version
    with pytest.raises(InvalidInputError, match="two different models"):
        compare_models(installation.stores, first, first)
    with pytest.raises(InvalidInputError, match="not registered"):
        compare_models(installation.stores, "m-none", first)

    report = compare_models(installation.stores, first, second)
    differing = {row["name"]: (row[first], row[second]) for row in report.tables["Options that differ"].to_pylist()}
    assert differing["discount"][1] == "0.5"
    assert "training_weeks" not in differing
    before, after = own_indices(installation, first), own_indices(installation, second)
    n_moved = sum(abs(after[key] - before[key]) > 0.01 for key in before)
    assert "for 30 active caregivers at the end of 2026-11-18" in report.sentences[0]
    assert f"for {n_moved / 30:.1%} their own index moves" in report.sentences[1]
    assert "Of the 30 for whom a call is worth most by the first, 30 are among" in report.sentences[2]
    assert set(report.tables["Index by state"]["model"].to_pylist()) == {first, second}
    assert report.pictures["Change of index"].startswith(b"\x89PNG")
    assert {"Models", "Checks", "Index by cluster and state"} <= report.tables.keys()


def test_without_states_nothing_is_compared(installation: SmallInstallation) -> None:
    with pytest.raises(MissingPartitionError, match="no day is in the lake"):
        compare_models(installation.stores)
