"""The job `precompute_indices`: chances and indices anew, with the clusters that a training has left."""

from typing import Any

import dagster as dg
import pytest

from bandicoot_core.calendar import last_closed_week
from bandicoot_core.settings import load_model_options
from bandicoot_core.stores.published.models import ModelRecord, champion, list_models
from tests.small_programme import CALL_DATE, Programme

WEEK = last_closed_week(CALL_DATE).isoformat()
KEPT = ("engagement_history", "clusters", "features_only_mapper", "cluster_assignments")
MADE = ("transition_models", "whittle_indices")


def options(programme: Programme, **changed: object) -> dict[str, Any]:
    chosen = load_model_options(**{**programme.model_options.model_dump(), **changed})
    return {"resources": {"training": {"config": chosen.model_dump()}}}


def current(programme: Programme) -> ModelRecord:
    with programme.installation.published() as connection:
        found = champion(connection)
    assert found is not None
    return found


def digests(programme: Programme, *assets: str) -> dict[str, str]:
    return {asset: programme.installation.lake.digest(asset, [WEEK]) for asset in assets}


def refusals(result: dg.ExecuteInProcessResult) -> set[str]:
    return {
        check.check_name
        for check in result.get_asset_check_evaluations()
        if not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    }


def test_with_the_options_of_its_training_the_same_model_comes_out(programme: Programme) -> None:
    before, made = current(programme), digests(programme, *KEPT, *MADE)
    result = programme.run("precompute_indices", WEEK, options(programme))
    assert result.success
    materialized = [event.asset_key.to_user_string() for event in result.get_asset_materialization_events()]
    assert materialized == ["transition_models", "whittle_indices", "model_version"]
    assert refusals(result) == set()
    assert current(programme) == before
    assert digests(programme, *KEPT, *MADE) == made


def test_a_candidate_with_other_indices_is_judged_and_not_promoted_when_it_is_too_different(
    programme: Programme,
) -> None:
    before = current(programme)
    result = programme.run("precompute_indices", WEEK, options(programme, discount=0.3, max_index_shift=0.0))
    assert not result.success
    assert refusals(result) == {"index_shift_bounded"}
    assert current(programme) == before
    with programme.installation.published() as connection:
        assert "rejected" in {model.status for model in list_models(connection)}


@pytest.mark.parametrize(
    "changed",
    [{"n_clusters": 4}, {"training_weeks": 9}, {"min_passive_weeks": 6}, {"model_seed": 8}],
    ids=lambda changed: next(iter(changed)),
)
def test_options_that_the_clusters_were_not_made_with_are_refused_before_anything_is_written(
    programme: Programme, changed: dict[str, int]
) -> None:
    before, made = current(programme), digests(programme, *KEPT, *MADE)
    result = programme.run("precompute_indices", WEEK, options(programme, **changed))
    assert not result.success
    [failed] = [event for event in result.all_events if event.is_step_failure and event.step_key in MADE]
    [name], [value] = changed, changed.values()
    told = str(failed.step_failure_data.error)
    assert failed.step_key == "transition_models"
    assert f"was made with {name}" in told
    assert f"but this run has {value}" in told
    assert (current(programme), digests(programme, *KEPT, *MADE)) == (before, made)


def test_other_indices_of_the_same_clusters_are_promoted_when_their_checks_pass(programme: Programme) -> None:
    before, kept, made = current(programme), digests(programme, *KEPT), digests(programme, *MADE)
    result = programme.run("precompute_indices", WEEK, options(programme, discount=0.98))
    assert result.success
    after = current(programme)
    assert after.model_version != before.model_version
    assert after.training_week == before.training_week
    assert digests(programme, *KEPT) == kept
    assert digests(programme, "whittle_indices") != {"whittle_indices": made["whittle_indices"]}
