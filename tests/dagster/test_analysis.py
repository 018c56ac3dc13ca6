"""What an analyst asks in the UI: a list with other options, and why a caregiver is on a list; nothing is written."""

from typing import Any

import dagster as dg
import pytest

from bandicoot_core.contracts.lineage import COLUMN_LINEAGE
from bandicoot_dagster.config import WhyListedConfig
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.definitions import build_definitions
from tests.everything_kept import everything
from tests.small_programme import CALL_DATE, Programme

WITHOUT_PREVIEW_AND_CHART = {
    "features_only_mapper": "a fitted classifier has no rows; how well it guesses stands as numbers",
}
SOURCE_NAMES = ("caregiver_id", "message_id", "call_id")


def shown_by(programme: Programme, asset: str) -> dict[str, dg.MetadataValue[Any]]:
    """What the newest materialization of an asset shows on its page."""
    with open_instance(programme.installation) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None, asset
    assert event.asset_materialization is not None, asset
    return dict(event.asset_materialization.metadata)


@pytest.mark.parametrize(
    "asset",
    [
        "caregivers",
        "sms_events",
        "vaccinations",
        "calls",
        "caregiver_states",
        "engagement_history",
        "passive_counts",
        "clusters",
        "features_only_mapper",
        "cluster_assignments",
        "transition_models",
        "whittle_indices",
        "model_version",
        "call_list",
        "published_call_list",
    ],
)
def test_what_a_night_and_a_training_wrote_is_counted_previewed_and_drawn(programme: Programme, asset: str) -> None:
    metadata = shown_by(programme, asset)
    in_markdown = [value.value for value in metadata.values() if isinstance(value, dg.MarkdownMetadataValue)]
    pictures = [text for text in in_markdown if text.startswith("![") and "](data:image/png;base64," in text]
    tables = [text for text in in_markdown if text.startswith("| ")]
    domain_metrics = [name for name, value in metadata.items() if isinstance(value.value, int | float)]
    assert domain_metrics, asset
    assert asset in WITHOUT_PREVIEW_AND_CHART or metadata["dagster/row_count"].value, asset
    assert asset in WITHOUT_PREVIEW_AND_CHART or (pictures and tables), asset
    assert not [name for table in tables for name in SOURCE_NAMES if f"| {name} |" in table], asset
    assert (asset in COLUMN_LINEAGE) == ("dagster/column_lineage" in metadata)


def test_the_published_list_leads_to_its_table(programme: Programme) -> None:
    metadata = shown_by(programme, "published_call_list")
    uri = str(metadata["dagster/uri"].value)
    assert uri.startswith("postgresql://")
    assert uri.endswith("/bandicoot.call_list")
    assert "@" not in uri
    assert "published_table" not in metadata  # no database browser is configured


def answer(programme: Programme, job: str, asset: str, config: dict[str, object]) -> dict[str, Any]:
    ran = programme.run(job, CALL_DATE.isoformat(), {"ops": {asset: {"config": config}}})
    assert ran.success
    (event,) = ran.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    return {name: value.value for name, value in metadata.items()}


def test_a_list_with_another_budget_is_shown_and_written_nowhere(programme: Programme) -> None:
    before = everything(programme.installation.settings.home / "lake", programme.installation.database_url)
    shown = answer(
        programme, "what_if", "what_if_call_list", {**programme.list_options().model_dump(mode="json"), "budget": 30}
    )
    assert everything(programme.installation.settings.home / "lake", programme.installation.database_url) == before
    assert shown["dagster/row_count"] == 30
    assert shown["n_stay"] + shown["n_drop_out"] == 20
    assert shown["n_stay"] + shown["n_come_in"] == 30
    assert "30 caregivers would be on the list" in shown["summary"]
    assert shown["list_by_district"].startswith("![The list by district and state](data:image/png;base64,")
    assert "From the registry" in shown["eligibility"]
    assert "| budget_is_used | passed |" in shown["checks_it_would_face"]
    assert shown["who_would_come_in"].count("\n") == 1 + min(10, shown["n_come_in"])


def test_a_caregiver_on_the_list_and_one_who_is_not_are_explained(programme: Programme) -> None:
    (rank, listed, *_), *_ = programme.published()
    with programme.installation.published() as connection:
        (other,) = connection.execute(
            "SELECT min(caregiver_id) FROM bandicoot.caregiver_keys WHERE caregiver_id NOT IN "
            "(SELECT caregiver_id FROM bandicoot.call_list WHERE call_date = %s)",
            (CALL_DATE,),
        ).fetchone() or (None,)
    before = everything(programme.installation.settings.home / "lake", programme.installation.database_url)
    shown = answer(programme, "explain_listing", "why_listed", {"caregiver_id": listed})
    assert (shown["is_listed"], shown["rank"]) == (True, rank)
    assert shown["summary"].startswith(f"She is on the list of {CALL_DATE}, at rank 1 of 20")
    assert "| not active | status is active | active | active | True |" in shown["rules"]
    absent = answer(programme, "explain_listing", "why_listed", {"caregiver_id": other})
    assert not absent["is_listed"]
    assert absent["summary"].startswith(f"She is not on the list of {CALL_DATE}: ")
    assert everything(programme.installation.settings.home / "lake", programme.installation.database_url) == before


def test_an_unknown_id_fails_the_run_with_the_reason(programme: Programme) -> None:
    ran = programme.run(
        "explain_listing", CALL_DATE.isoformat(), {"ops": {"why_listed": {"config": {"caregiver_id": "nobody"}}}}
    )
    assert not ran.success
    (failure,) = [event for event in ran.all_events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
    assert "no caregiver has this id" in str(failure.step_failure_data.error)


def test_a_question_about_nobody_is_refused_in_the_launchpad() -> None:
    with pytest.raises(ValueError, match="at least 1 character"):
        WhyListedConfig(caregiver_id="")


def test_one_model_alone_is_not_compared(programme: Programme) -> None:
    definitions = build_definitions(programme.installation.settings, programme.clock)
    with open_instance(programme.installation) as instance:
        ran = definitions.resolve_job_def("compare_models").execute_in_process(instance=instance, raise_on_error=False)
    assert not ran.success
    (failure,) = [event for event in ran.all_events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
    assert "is the only model" in str(failure.step_failure_data.error)


def test_two_models_are_shown_side_by_side(programme: Programme) -> None:
    options = programme.model_options.model_dump() | {"discount": 0.8}
    config = {"resources": {"training": {"config": options}}}
    programme.run("weekly_training", "2026-11-08", config)
    before = everything(programme.installation.settings.home / "lake", programme.installation.database_url)
    definitions = build_definitions(programme.installation.settings, programme.clock)
    with open_instance(programme.installation) as instance:
        ran = definitions.resolve_job_def("compare_models").execute_in_process(instance=instance)
    (event,) = ran.get_asset_materialization_events()
    shown = {name: data.value for name, data in event.step_materialization_data.materialization.metadata.items()}
    assert everything(programme.installation.settings.home / "lake", programme.installation.database_url) == before
    assert "Of the 100 for whom a call is worth most" in shown["summary"]
    assert "| discount | " in shown["table_of_options_that_differ"]
    assert shown["change_of_index"].startswith("![Change of index](data:image/png;base64,")
