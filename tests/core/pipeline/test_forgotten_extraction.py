"""The source still has who was forgotten; extraction passes her over."""

from datetime import timedelta

from extraction_runs import ASSETS, DAY, SEEN_AT, Extraction, fill

from bandicoot_core.stores.published.forgettings import count_published, forget_published
from tests.source_programme import SourceProgramme

NEXT_DAY = DAY + timedelta(days=1)


def forget(extraction: Extraction, caregiver_id: str) -> None:
    forget_published(extraction.connection, caregiver_id, requested_at=SEEN_AT, requested_by="desk 4", reason="")


def test_rows_of_a_forgotten_caregiver_are_neither_taken_nor_set_aside_nor_counted(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    fill(programme, [DAY, NEXT_DAY])
    programme.message("M-stranger", "CG-stranger", sent_at=f"{NEXT_DAY} 09:00")
    extraction.run_all(DAY)
    key_of_2 = 2
    assert any(row["caregiver_key"] == key_of_2 for row in extraction.data("sms_events"))
    forget(extraction, "CG-2")
    extraction.run_all(DAY, NEXT_DAY)
    extraction.run_all(DAY, NEXT_DAY)
    for asset in ASSETS:
        for day in (DAY, NEXT_DAY):
            assert all(row["caregiver_key"] != key_of_2 for row in extraction.data(asset, day))
            assert all(row["caregiver_key"] != key_of_2 for row in extraction.set_aside(asset, day))
    assert {asset: extraction.facts(asset, NEXT_DAY) for asset in ASSETS} == {
        "caregivers": (2, 2, 0, 0),
        "sms_events": (2, 1, 1, 0),
        "vaccinations": (0, 0, 0, 0),
        "calls": (1, 1, 0, 0),
    }
    assert count_published(extraction.connection, "CG-2") == {}


def test_a_caregiver_who_was_forgotten_before_she_came_never_comes(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    forget(extraction, "CG-3")
    fill(programme, [DAY])
    extraction.run_all(DAY)
    assert [row["caregiver_key"] for row in extraction.data("caregivers")] == [1, 2]
    assert extraction.facts("calls") == (0, 0, 0, 0)
    assert extraction.facts("sms_events")[2] == 0


def test_an_id_that_only_looks_alike_is_another_caregiver(programme: SourceProgramme, extraction: Extraction) -> None:
    for caregiver_id in ("cg-3", " CG-3", "CG-3 "):
        forget(extraction, caregiver_id)
    fill(programme, [DAY])
    extraction.run_all(DAY)
    assert len(extraction.data("caregivers")) == 3
