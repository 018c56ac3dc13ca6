"""The estimation report compares the model with the calls of published lists that chance chose."""

import uuid
from datetime import UTC, date, datetime

import dagster as dg
import pytest

from bandicoot_core.contracts import CALL_LIST, DRAWN_CALLS, ENGAGEMENT_HISTORY
from bandicoot_dagster.assets.estimation import estimation_report
from bandicoot_dagster.config import Training
from bandicoot_dagster.dagster_home import open_instance
from bandicoot_dagster.resources import build_resources
from tests.small_programme import Programme

WEEK = date(2026, 11, 8)
LIST = date(2026, 11, 3)
CALLED_AT = datetime(2026, 11, 3, 9, tzinfo=UTC)
BIT = 2**8
"""Of the week of the list, the last but one of ten."""


@pytest.fixture(scope="module")
def answered(programme: Programme) -> Programme:
    """A list of the week before, half of it drawn, on which all but every tenth were called."""
    programme.catch_up(LIST, budget=120, exploration_share=0.5)
    with programme.installation.published() as connection:
        connection.execute(
            "INSERT INTO bandicoot.call_outcomes "
            "SELECT %s || rank, caregiver_id, call_date, %s, 'reached', 'centre' FROM bandicoot.call_list "
            "WHERE call_date = %s AND rank %% 10 > 0",
            (uuid.uuid4().hex, CALLED_AT, LIST),
        )
    assert programme.run("source_history", LIST.isoformat()).success
    config = {"resources": {"training": {"config": programme.model_options.model_dump()}}}
    assert programme.run("weekly_training", WEEK.isoformat(), config).success
    return programme


def test_the_check_counts_the_calls_of_lists_by_what_chose_them(answered: Programme) -> None:
    stores = answered.installation
    with open_instance(stores) as instance:
        ran = dg.materialize(
            [estimation_report],
            instance=instance,
            partition_key=WEEK.isoformat(),
            resources={
                **build_resources(stores.settings, answered.clock),
                "training": Training(**answered.model_options.model_dump()),
            },
        )
    (event,) = ran.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    assert any("calls that chance chose" in str(value.value) for value in metadata.values())

    lake = stores.lake
    found = lake.read(DRAWN_CALLS, "estimation_report", WEEK.isoformat(), "drawn_calls").to_pandas()
    listed = lake.read(CALL_LIST, "call_list", LIST.isoformat()).to_pandas()
    history = lake.read(ENGAGEMENT_HISTORY, "engagement_history", WEEK.isoformat()).to_pandas()
    called = listed.merge(history, on="caregiver_key")
    # Others of the list may have been called in that week, too.
    called = called[called["called_weeks"] // BIT % 2 == 1]
    assert (listed["rank"] % 10 > 0).sum() <= len(called) < len(listed)
    called["state"] = (called["opened_weeks"] // BIT % 2 == 1).map({True: "R", False: "U"})
    called["is_responsive_next"] = called["opened_weeks"] // (2 * BIT) % 2 == 1
    called["weight"] = 1 / called["propensity"]
    drawn = called[called["propensity"] < 1]
    assert len(drawn) > 30
    for state, rows in [("any", drawn), *drawn.groupby("state")]:
        row = found[(found["chosen_by"] == "draw") & (found["state"] == state)].iloc[0]
        assert row["n_calls"] == len(rows)
        assert row["p_responsive"] == pytest.approx(
            (rows["weight"] * rows["is_responsive_next"]).sum() / rows["weight"].sum()
        )
        assert 0 < row["p_fitted"] < 1
    by_order = found[(found["chosen_by"] == "order") & (found["state"] == "any")]
    assert by_order["n_calls"].sum() == len(called) - len(drawn)
    by_state = found[found["chosen_by"] == "draw"].set_index("state")["p_fitted"]
    assert by_state["R"] > by_state["U"] + 0.1
