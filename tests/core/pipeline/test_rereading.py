"""Rows that come late or are corrected: which days are read again, and that nothing else is written."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import pytest
from extraction_runs import manifests
from small_installation import SmallInstallation

from bandicoot_core.calendar import days_between
from bandicoot_core.errors import TooManyInvalidRowsError
from bandicoot_core.pipeline.rereading import (
    COMPARED_DAYS,
    DaysRead,
    days_with_other_calls,
    read_calls,
    read_vaccinations,
)
from bandicoot_core.stores.published.recorded_calls import fingerprints_of_calls
from tests.source_programme import SourceProgramme

DAY = date(2026, 11, 20)
EARLIER = days_between(DAY - timedelta(days=6), DAY - timedelta(days=1))


@pytest.fixture
def installation(published_url: str, tmp_path: Path) -> SmallInstallation:
    """Six days in the lake before DAY, a message, a dose and a call on each of the seven."""
    made = SmallInstallation(SourceProgramme(published_url), tmp_path)
    made.enrol(["CG-1", "CG-2"])
    for n, day in enumerate([*EARLIER, DAY]):
        made.programme.message(f"M-{n}", "CG-1", sent_at=f"{day} 09:00")
        made.programme.dose("CG-1", f"dose {n}", day)
        made.programme.call(f"C-{n}", "CG-1", f"{day} 17:00")
    made.read(*EARLIER)
    return made


@pytest.fixture
def calls_only(published_url: str, tmp_path: Path) -> SmallInstallation:
    """The same calls, and no other asset, in the lake."""
    made = SmallInstallation(SourceProgramme(published_url), tmp_path)
    made.enrol(["CG-1", "CG-2"])
    for n, day in enumerate([*EARLIER, DAY]):
        made.programme.call(f"C-{n}", "CG-1", f"{day} 17:00")
    made.read_registry(DAY)
    read_calls(made.stores, EARLIER)
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
    before = manifests(installation.stores.lake)
    again = night(installation)
    assert days(read["sms_events"].asked) == [20]
    assert days(read["sms_events"].again) == [17, 18, 19]
    assert days(read["sms_events"].changed) == [18, 19]
    assert days(read["vaccinations"].changed) == [17]
    assert read["sms_events"].summary == {
        "2026-11-17": "unchanged",
        "2026-11-18": "changed",
        "2026-11-19": "changed",
    }
    assert [asset.changed for asset in again.values()] == [()] * 3
    assert manifests(installation.stores.lake) == before


def test_corrected_and_removed_rows_are_found_too(installation: SmallInstallation) -> None:
    installation.programme.execute(
        "UPDATE {schema}.sms_logs SET opened_at = sent_at + interval '1 hour' WHERE sent_at::date = '2026-11-18'; "
        "DELETE FROM {schema}.vaccinations WHERE actual_date = '2026-11-19'"
    )
    installation.stores.lake.remove("sms_events", "2026-11-19")
    read = night(installation)
    assert days(read["sms_events"].changed) == [18, 19]
    assert days(read["vaccinations"].changed) == [19]


def test_how_many_days_are_read_again_is_a_setting_and_none_before_the_first(installation: SmallInstallation) -> None:
    for reread_days, again in ((0, []), (1, [19]), (60, list(range(14, 20)))):
        installation.settings["reread_days"] = reread_days
        assert days(read_vaccinations(installation.stores, [DAY]).again) == again


def test_an_empty_lake_has_nothing_to_read_again(published_url: str, tmp_path: Path) -> None:
    empty = SmallInstallation(SourceProgramme(published_url), tmp_path)
    assert [days(asset.again) for asset in empty.read(DAY).values()] == [[]] * 3


def test_a_past_day_with_too_many_bad_rows_now_stays_as_it_was_and_is_named(installation: SmallInstallation) -> None:
    installation.settings["max_invalid_share"] = 0.1
    before = manifests(installation.stores.lake)
    installation.programme.message(None, "CG-2", sent_at="2026-11-18 09:00")
    with pytest.raises(TooManyInvalidRowsError, match="sms_events/2026-11-18 was not written and stays as it was"):
        night(installation)
    kept = manifests(installation.stores.lake)
    assert {name: kept[name] for name in before} == before


def test_calls_that_are_recorded_long_after_the_attempt_are_found_on_their_day(calls_only: SmallInstallation) -> None:
    calls_only.programme.call("C-late", "CG-2", "2026-11-14 23:59:59.999999", "no_answer")
    calls_only.programme.call("C-late again", "CG-2", "2026-11-15 00:00", "busy")
    read = read_calls(calls_only.stores, [DAY])
    assert days(read.again) == days(read.changed) == [14, 15]
    assert [manifest.n_rows() for manifest in read.changed] == [2, 2]
    calls_only.programme.execute(
        "INSERT INTO bandicoot.call_outcomes SELECT * FROM bandicoot.call_outcomes ON CONFLICT DO NOTHING"
    )
    assert days(read_calls(calls_only.stores, [DAY]).again) == []


def test_a_call_that_is_corrected_or_removed_is_found(calls_only: SmallInstallation) -> None:
    changes = [
        "UPDATE bandicoot.call_outcomes SET outcome = 'refused' WHERE call_id = 'C-0'",
        "UPDATE bandicoot.call_outcomes SET attempted_at = attempted_at + interval '1 us' WHERE call_id = 'C-1'",
        "UPDATE bandicoot.call_outcomes SET caregiver_id = 'CG-2' WHERE call_id = 'C-2'",
        "UPDATE bandicoot.call_outcomes SET call_date = call_date - 1 WHERE call_id = 'C-3'",
        "UPDATE bandicoot.call_outcomes SET call_id = 'C-five' WHERE call_id = 'C-4'",
        "DELETE FROM bandicoot.call_outcomes WHERE call_id = 'C-5'",
    ]
    for change in changes:
        calls_only.programme.execute(change)
    assert days(read_calls(calls_only.stores, [DAY]).changed) == [14, 15, 16, 17, 18, 19]


def test_calls_of_somebody_who_is_known_only_later_are_taken_over_then(calls_only: SmallInstallation) -> None:
    calls_only.programme.call("C-early", "CG-3", "2026-11-14 11:00")
    (unknown,) = read_calls(calls_only.stores, [DAY]).again
    assert (unknown.n_rows(), unknown.facts["n_set_aside"]) == (1, 1)
    calls_only.enrol(["CG-3"])
    calls_only.read_registry(DAY)
    (changed,) = read_calls(calls_only.stores, [DAY]).changed
    assert (changed.partition, changed.n_rows(), changed.facts["n_set_aside"]) == ("2026-11-14", 2, 0)


def test_calls_older_than_the_longest_training_window_are_left_alone(calls_only: SmallInstallation) -> None:
    with calls_only.stores.published() as connection:
        calls_only.programme.call("C-late", "CG-2", "2026-11-14 10:00")
        lake = calls_only.stores.lake
        last = EARLIER[0] + timedelta(days=COMPARED_DAYS)
        assert days_with_other_calls(connection, lake, before=last) == EARLIER[:1]
        assert days_with_other_calls(connection, lake, before=last + timedelta(days=1)) == []


def test_a_fingerprint_does_not_depend_on_the_session_or_the_order_of_rows(calls_only: SmallInstallation) -> None:
    calls_only.programme.call("C-x", "CG-2", "2026-11-14 11:00")
    with calls_only.stores.published() as connection:
        first = fingerprints_of_calls(connection, EARLIER[0], DAY)
        connection.execute("SET TimeZone TO 'America/New_York'; SET DateStyle TO 'German'")
        connection.execute(
            "CREATE TEMPORARY TABLE turned AS SELECT * FROM bandicoot.call_outcomes ORDER BY call_id DESC"
        )
        connection.execute("TRUNCATE bandicoot.call_outcomes")
        connection.execute("INSERT INTO bandicoot.call_outcomes SELECT * FROM turned")
        assert fingerprints_of_calls(connection, EARLIER[0], DAY) == first
    assert list(first) == sorted(first)
    assert len(first) == 7
