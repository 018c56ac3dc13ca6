"""Questions about the list of a day: why somebody is on it, and what it would be with other options."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_installation import SmallInstallation

from bandicoot_core.errors import InvalidInputError, InvalidSettingError
from bandicoot_core.pipeline.forgetting import forget_caregiver
from bandicoot_core.pipeline.what_if import WhatIf, what_if_call_list
from bandicoot_core.pipeline.why_listed import WhyListed, why_listed
from bandicoot_core.settings import load_list_options
from tests.everything_kept import everything
from tests.source_programme import SourceProgramme

CALL_DATE = date(2026, 11, 19)
EVERYBODY = [f"CG-{n}" for n in range(30)]
NOON = datetime(2026, 11, 19, 6, 30, tzinfo=UTC)


@pytest.fixture
def installation(published_url: str, tmp_path: Path) -> SmallInstallation:
    made = SmallInstallation(SourceProgramme(published_url), tmp_path)
    made.enrol(EVERYBODY)
    made.live_through(EVERYBODY, CALL_DATE)
    return made


def ask(installation: SmallInstallation, caregiver_id: str, day: date = CALL_DATE) -> WhyListed:
    return why_listed(installation.stores, day, caregiver_id)


def what_if(installation: SmallInstallation, **options: Any) -> WhatIf:
    chosen = load_list_options(**{"budget": 10, "min_engagement": 0, "max_engagement": 1, **options})
    return what_if_call_list(installation.stores, CALL_DATE, chosen)


def unmet(answer: WhyListed) -> list[str]:
    return [row["criterion"] for row in answer.rules.to_pylist() if not row["is_met"]]


def test_everybody_is_told_what_the_list_of_the_day_says(installation: SmallInstallation) -> None:
    listed = installation.make_list(CALL_DATE, exploration_share=0.2)
    n_drawn = 0
    for caregiver_id in EVERYBODY:
        answer = ask(installation, caregiver_id)
        assert answer.is_listed == (caregiver_id in listed)
        assert unmet(answer) == []
        assert answer.facts["n_eligible"] == len(EVERYBODY)
        if answer.is_listed:
            rank = listed.index(caregiver_id) + 1
            assert answer.facts["rank"] == rank
            assert answer.summary.startswith(f"She is on the list of {CALL_DATE}, at rank {rank} of 10: her index of ")
        else:
            assert answer.summary.startswith(f"She is not on the list of {CALL_DATE}: her index of ")
            assert float(answer.facts["own_index"]) <= float(answer.facts["last_by_order_index"])
            assert "did not fall on her" in answer.summary
        reasons = {row["rank"]: row["reason"] for row in installation.list_rows(CALL_DATE)}
        reason = reasons.get(answer.facts.get("rank"), "")
        assert answer.is_drawn == reason.startswith("Chosen at random")
        n_drawn += answer.is_drawn
        assert caregiver_id not in answer.summary + str(answer.facts)
    assert n_drawn == 2


def test_who_may_not_be_called_is_told_every_rule_that_says_so(installation: SmallInstallation) -> None:
    yesterday = CALL_DATE - timedelta(days=1)
    installation.programme.call("C-1", "CG-1", f"{yesterday} 12:00")
    installation.programme.execute(
        "UPDATE {schema}.caregivers SET status = 'moved' WHERE caregiver_id IN ('CG-1', 'CG-2')"
    )
    installation.close(yesterday)
    called = ask(installation, "CG-1")
    assert unmet(called) == ["not active", "cool-down"]
    assert not called.is_listed
    assert called.summary == (
        f"She is not on the list of {CALL_DATE}: she may not be called, by the rules of not active (moved, where the "
        f"rule asks for active); cool-down ({yesterday}, where the rule asks for before 2026-11-05). "
        "No list of that day was made yet; this is what would be made now."
    )
    assert unmet(ask(installation, "CG-2")) == ["not active"]
    assert unmet(ask(installation, "CG-3")) == []


def test_who_waits_for_a_call_or_lives_elsewhere_is_told_so(installation: SmallInstallation) -> None:
    listed = installation.make_list(CALL_DATE - timedelta(days=1))
    installation.make_list(CALL_DATE, only_districts=["Patna"])
    assert unmet(ask(installation, listed[0])) == ["waiting for outcome"]
    installation.programme.execute("UPDATE {schema}.caregivers SET district = 'Gaya' WHERE caregiver_id = 'CG-5'")
    installation.close(CALL_DATE - timedelta(days=1))
    elsewhere = ask(installation, "CG-5")
    assert "outside the districts of the list" in unmet(elsewhere)
    assert "were renewed after the list was made" in elsewhere.summary


def test_an_unknown_and_a_forgotten_caregiver_are_refused_without_naming_them(installation: SmallInstallation) -> None:
    installation.make_list(CALL_DATE)
    with pytest.raises(InvalidInputError, match="no caregiver has this id") as unknown:
        ask(installation, "CG-unknown")
    assert "CG-unknown" not in str(unknown.value)
    forget_caregiver(installation.stores, "CG-4", requested_by="desk", reason="asked", clock=lambda: NOON)
    with pytest.raises(InvalidInputError, match="was forgotten") as forgotten:
        ask(installation, "CG-4")
    assert "CG-4" not in str(forgotten.value)
    with pytest.raises(InvalidInputError, match="empty text"):
        ask(installation, " ")


def test_a_what_if_with_the_same_options_is_the_list_that_stands(installation: SmallInstallation) -> None:
    installation.make_list(CALL_DATE)
    tried = what_if(installation)
    assert tried.drawn.call_list.to_pylist() == installation.list_rows(CALL_DATE)
    assert tried.comparison is not None
    changes = tried.comparison.came_in.num_rows, tried.comparison.dropped_out.num_rows
    assert (tried.comparison.n_stay, *changes) == (10, 0, 0)


def test_a_what_if_tells_who_stays_comes_and_goes_and_changes_nothing(installation: SmallInstallation) -> None:
    installation.make_list(CALL_DATE, exploration_share=0)
    standing = [row["caregiver_key"] for row in installation.list_rows(CALL_DATE)]
    before = everything(installation.home / "lake", installation.programme.url)
    more = what_if(installation, budget=14, exploration_share=0)
    fewer = what_if(installation, budget=4, exploration_share=0, min_engagement=1)
    ask(installation, "CG-1")
    assert everything(installation.home / "lake", installation.programme.url) == before

    assert more.comparison is not None
    assert fewer.comparison is not None
    assert more.drawn.call_list["caregiver_key"].to_pylist()[:10] == standing
    assert (more.comparison.n_stay, more.comparison.dropped_out.num_rows) == (10, 0)
    assert more.comparison.came_in["rank"].to_pylist() == [11, 12, 13, 14]
    assert fewer.comparison.dropped_out["caregiver_key"].to_pylist() == standing[4:]
    assert fewer.summary == (
        f"4 caregivers would be on the list of {CALL_DATE}. Of the list that stands 4 would stay and 6 drop out; "
        "0 would come in. Its checks would refuse it: engagement_is_plausible. Nothing was written or published."
    )


def test_a_what_if_takes_who_waited_then_and_not_who_waits_by_its_own_list(installation: SmallInstallation) -> None:
    waiting = installation.make_list(CALL_DATE - timedelta(days=1))
    installation.make_list(CALL_DATE)
    assert what_if(installation, budget=30).drawn.call_list.num_rows == len(EVERYBODY) - len(waiting)
    assert what_if(installation, budget=30, pending_days=0).drawn.call_list.num_rows == len(EVERYBODY)


def test_a_what_if_of_a_day_without_a_list_has_nothing_to_compare_with(installation: SmallInstallation) -> None:
    tried = what_if(installation, budget=3)
    assert tried.comparison is None
    assert tried.drawn.call_list.num_rows == 3
    assert "there is none to compare with" in tried.summary
    with pytest.raises(InvalidSettingError, match="not before the list's day"):
        what_if_call_list(installation.stores, CALL_DATE, load_list_options(), as_of_day=CALL_DATE)
