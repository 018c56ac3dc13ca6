"""Rows that come late or are corrected: which days are read again, and that nothing else is written."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
from extraction_runs import content
from small_installation import SmallInstallation

from bandicoot_core.calendar import days_between
from bandicoot_core.errors import TooManyInvalidRowsError
from bandicoot_core.pipeline.rereading import COMPARED_DAYS, DaysRead, days_with_other_calls
from bandicoot_core.stores.recorded_calls import fingerprints_of_calls
from tests.source_programme import SourceProgramme

DAY = date(2026, 11, 20)
EARLIER = days_between(DAY - timedelta(days=9), DAY - timedelta(days=1))


@pytest.fixture
def installation(published_url: str, tmp_path: Path) -> SmallInstallation:
    """Ten days in the lake up to DAY, a message, a dose and a call on each."""
    made = SmallInstallation(SourceProgramme(published_url), tmp_path)
    made.enrol(["CG-1", "CG-2"])
    for n, day in enumerate([*EARLIER, DAY]):
        made.programme.message(f"M-{n}", "CG-1", sent_at=f"{day} 09:00")
        made.programme.dose("CG-1", f"dose {n}", day)
        made.programme.call(f"C-{n}", "CG-1", f"{day} 17:00")
    made.read(*EARLIER)
    return made


def days(manifests: Sequence[object]) -> list[int]:
    """Days of November."""
    return [int(manifest.partition[-2:]) for manifest in manifests]  # type: ignore[attr-defined]


def night(installation: SmallInstallation) -> dict[str, DaysRead]:
    return installation.read_events(DAY)


def test_the_last_days_are_read_again_and_late_rows_are_found(installation: SmallInstallation) -> None:
    installation.programme.message("M-late", "CG-2", sent_at="2026-11-18 09:00", opened_at="2026-11-19 10:00")
    installation.programme.dose("CG-2", "BCG", date(2026, 11, 17))
    read = night(installation)
    assert days(read["sms_events"].asked) == [20]
    assert days(read["sms_events"].again) == [17, 18, 19]
    assert days(read["sms_events"].changed) == [18, 19]
    assert days(read["vaccinations"].changed) == [17]
    assert read["sms_events"].summary == {
        "2026-11-17": "unchanged",
        "2026-11-18": "changed",
        "2026-11-19": "changed",
    }


def test_corrected_and_removed_rows_are_found_too(installation: SmallInstallation) -> None:
    installation.programme.execute(
        "UPDATE {schema}.sms_logs SET opened_at = sent_at + interval '1 hour' WHERE message_id = 'M-7'; "
        "DELETE FROM {schema}.vaccinations WHERE vaccine_name = 'dose 8'"
    )
    read = night(installation)
    assert days(read["sms_events"].changed) == [18]
    assert days(read["vaccinations"].changed) == [19]


def test_reading_again_what_has_not_changed_writes_the_same_bytes(installation: SmallInstallation) -> None:
    night(installation)
    before = content(installation.stores.lake)
    read = night(installation)
    assert [asset.changed for asset in read.values()] == [()] * 3
    assert content(installation.stores.lake) == before


@pytest.mark.parametrize(("reread_days", "again"), [(0, []), (1, [19]), (60, list(range(11, 20)))])
def test_how_many_days_are_read_again_is_a_setting_and_none_before_the_first(
    installation: SmallInstallation, reread_days: int, again: list[int]
) -> None:
    installation.settings["reread_days"] = reread_days
    read = night(installation)
    assert days(read["sms_events"].again) == days(read["vaccinations"].again) == again


def test_a_day_that_is_missing_or_broken_among_the_last_is_written_again(installation: SmallInstallation) -> None:
    lake = installation.stores.lake
    lake.remove("sms_events", "2026-11-18")
    (lake.folder("sms_events", "2026-11-19") / "manifest.json").write_text("{")
    assert days(night(installation)["sms_events"].changed) == [18, 19]
    assert lake.require("sms_events", "2026-11-18").n_rows() == 1


def test_an_empty_lake_has_nothing_to_read_again(published_url: str, tmp_path: Path) -> None:
    empty = SmallInstallation(SourceProgramme(published_url), tmp_path)
    assert [days(asset.again) for asset in empty.read(DAY).values()] == [[]] * 3


def test_a_past_day_with_too_many_bad_rows_now_stays_as_it_was_and_is_named(installation: SmallInstallation) -> None:
    installation.settings["max_invalid_share"] = 0.1
    before = content(installation.stores.lake)
    installation.programme.message(None, "CG-2", sent_at="2026-11-18 09:00")
    with pytest.raises(TooManyInvalidRowsError, match="sms_events/2026-11-18 was not written and stays as it was"):
        night(installation)
    kept = content(installation.stores.lake)
    assert {name: kept[name] for name in before} == before


def test_calls_that_are_recorded_long_after_the_attempt_are_found_on_their_day(installation: SmallInstallation) -> None:
    installation.programme.call("C-late", "CG-2", "2026-11-12 23:59:59.999999", "no_answer")
    installation.programme.call("C-late again", "CG-2", "2026-11-15 00:00", "busy")
    read = night(installation)["calls"]
    assert days(read.again) == days(read.changed) == [12, 15]
    assert [manifest.n_rows() for manifest in read.changed] == [2, 2]
    assert days(night(installation)["calls"].again) == []


def test_an_outcome_that_comes_twice_changes_nothing(installation: SmallInstallation) -> None:
    night(installation)
    installation.programme.execute(
        "INSERT INTO bandicoot.call_outcomes SELECT * FROM bandicoot.call_outcomes ON CONFLICT DO NOTHING"
    )
    assert days(night(installation)["calls"].again) == []


def test_a_call_that_is_corrected_or_removed_is_found(installation: SmallInstallation) -> None:
    changes = [
        "UPDATE bandicoot.call_outcomes SET outcome = 'refused' WHERE call_id = 'C-1'",
        "UPDATE bandicoot.call_outcomes SET attempted_at = attempted_at + interval '1 us' WHERE call_id = 'C-2'",
        "UPDATE bandicoot.call_outcomes SET caregiver_id = 'CG-2' WHERE call_id = 'C-3'",
        "UPDATE bandicoot.call_outcomes SET call_date = call_date - 1 WHERE call_id = 'C-4'",
        "UPDATE bandicoot.call_outcomes SET call_id = 'C-five' WHERE call_id = 'C-5'",
        "DELETE FROM bandicoot.call_outcomes WHERE call_id = 'C-6'",
    ]
    for change in changes:
        installation.programme.execute(change)
    assert days(night(installation)["calls"].changed) == [12, 13, 14, 15, 16, 17]


def test_calls_of_somebody_who_is_known_only_later_are_taken_over_then(installation: SmallInstallation) -> None:
    installation.programme.call("C-early", "CG-3", "2026-11-12 11:00")
    (unknown,) = night(installation)["calls"].again
    assert (unknown.n_rows(), unknown.facts["n_set_aside"]) == (1, 1)
    installation.enrol(["CG-3"])
    installation.read_registry(DAY)
    (changed,) = night(installation)["calls"].changed
    assert (changed.partition, changed.n_rows(), changed.facts["n_set_aside"]) == ("2026-11-12", 2, 0)


def test_calls_older_than_the_longest_training_window_are_left_alone(installation: SmallInstallation) -> None:
    with installation.stores.published() as connection:
        installation.programme.call("C-late", "CG-2", "2026-11-11 10:00")
        lake = installation.stores.lake
        last = EARLIER[0] + timedelta(days=COMPARED_DAYS)
        assert days_with_other_calls(connection, lake, before=last) == EARLIER[:1]
        assert days_with_other_calls(connection, lake, before=last + timedelta(days=1)) == []


def test_a_fingerprint_does_not_depend_on_the_session_or_the_order_of_rows(installation: SmallInstallation) -> None:
    installation.programme.call("C-x", "CG-2", "2026-11-12 11:00")
    with installation.stores.published() as connection:
        first = fingerprints_of_calls(connection, EARLIER[0], DAY)
        connection.execute("SET TimeZone TO 'America/New_York'; SET DateStyle TO 'German'")
        connection.execute(
            "CREATE TEMPORARY TABLE turned AS SELECT * FROM bandicoot.call_outcomes ORDER BY call_id DESC"
        )
        connection.execute("TRUNCATE bandicoot.call_outcomes")
        connection.execute("INSERT INTO bandicoot.call_outcomes SELECT * FROM turned")
        assert fingerprints_of_calls(connection, EARLIER[0], DAY) == first
    assert list(first) == sorted(first)
    assert len(first) == 10
