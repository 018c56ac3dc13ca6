"""What extraction does with bad input: rows set aside, days refused, a source gone or drifted; no id in the lake."""

from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from extraction_runs import ASSETS, DAY, NEXT_DAY, Extraction, content, fill

from bandicoot_core.calendar import days_between
from bandicoot_core.errors import SchemaDriftError, TooManyInvalidRowsError, UnreachableError
from bandicoot_core.settings import Settings
from bandicoot_core.stores.published.keys import read_keys
from bandicoot_core.stores.source.source import Source
from tests.source_programme import FULL_NAME, PHONE_NUMBER, SCHEMA, SourceProgramme, ist


def test_bad_rows_are_set_aside_beside_the_good_ones(programme: SourceProgramme, extraction: Extraction) -> None:
    fill(programme, [DAY])
    for n in range(2):
        programme.caregiver(f"CG-2{n}", age=300 if n else 24)
    programme.caregiver(None)
    programme.caregiver("CG-3", enrolled_at=ist("2025-01-01 10:00"))
    programme.message("M-17", sent_at="2026-11-20 09:00", opened_at="2026-11-20 08:00")
    programme.message(None, sent_at="2026-11-20 09:00")
    programme.dose("CG-1", " ", DAY)
    programme.call("C-9", "nobody", "2026-11-20 12:00")
    extraction.run_all(DAY)
    assert extraction.facts("caregivers") == (7, 5, 2, 1)
    assert extraction.facts("sms_events") == (4, 2, 2, 0)
    assert extraction.facts("vaccinations") == (2, 1, 1, 0)
    assert extraction.facts("calls") == (2, 1, 1, 0)
    found = {
        asset: [(row["source_row"], row["column_name"], row["action"]) for row in extraction.set_aside(asset)]
        for asset in ASSETS
    }
    rows = read_keys(extraction.connection, experiment="demo").to_pylist()
    assert [row["caregiver_id"] for row in rows] == ["CG-1", "CG-2", "CG-20", "CG-21", "CG-3"]
    assert found == {
        "caregivers": [
            ("caregiver_key=4", "age", "value blanked"),
            ("caregiver_key=5", "caregiver_id", "row set aside"),
            (
                "no caregiver_id, enrolled_at=2026-01-05T04:30:00.000000Z, district=Patna",
                "caregiver_id",
                "row set aside",
            ),
        ],
        "sms_events": [
            ("message_id=M-17", "opened_at", "row set aside"),
            ("no message_id, sent_at=2026-11-20T03:30:00.000000Z", "message_id", "row set aside"),
        ],
        "vaccinations": [
            (
                "vaccine_name= , scheduled_date=2026-11-19, actual_date=2026-11-20",
                "vaccine_name",
                "row set aside",
            )
        ],
        "calls": [("call_id=C-9", "caregiver_id", "row set aside")],
    }


def test_districts_of_the_settings_are_the_known_ones(programme: SourceProgramme, extraction: Extraction) -> None:
    programme.caregiver("CG-1", district="Patnaa")
    extraction.run("caregivers", settings=Settings(districts=("Patna", "Gaya")))
    assert extraction.data("caregivers")[0]["district"] is None
    assert extraction.set_aside("caregivers")[0]["found"] == "Patnaa"
    assert extraction.lake.require("caregivers", "2026-11-20").recipe["districts"] == ["Patna", "Gaya"]


def test_too_many_bad_rows_refuse_the_day_and_the_old_partition_stays(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    days = days_between(date(2026, 11, 18), date(2026, 11, 22))
    fill(programme, days)
    extraction.run_all(*days)
    before = content(extraction.lake)
    for n in (17, 18, 19):
        programme.message(f"M-{n}", sent_at="2026-11-20 09:00", opened_at="2026-11-20 08:00")
    programme.message("M-new", sent_at="2026-11-19 12:00")
    programme.message("M-later", sent_at="2026-11-22 12:00")
    with pytest.raises(TooManyInvalidRowsError) as caught:
        extraction.run("sms_events", *days, settings=Settings(max_invalid_share=0.25))
    message = str(caught.value)
    assert message.startswith(
        "sms_logs: 3 rows have opened_at before sent_at (expected sent_at or later) (first: message_id=M-17, "
    )
    assert "2026-11-20T02:30:00.000000Z, sent_at 2026-11-20T03:30:00.000000Z" in message
    # Two messages were sent and one, of the day before, was opened on the day, besides the three.
    assert "3 of 6 rows of 2026-11-20, 50.0% where max_invalid_share allows 25.0%" in message
    assert "the partition sms_events/2026-11-20 was not written and stays as it was" in message
    assert "fix the source or raise max_invalid_share" in message
    after = content(extraction.lake)
    changed = {name.split("/")[1] for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"2026-11-19"}


def test_the_share_of_bad_rows_may_be_reached_but_not_passed(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    programme.caregiver("CG-1")
    extraction.run("caregivers")
    for n in range(3):
        programme.message(f"M-{n}", sent_at="2026-11-20 09:00")
    programme.message("M-bad", "nobody", sent_at="2026-11-20 09:00")
    extraction.run("sms_events", settings=Settings(max_invalid_share=0.25))
    with pytest.raises(TooManyInvalidRowsError, match=r"1 row has a caregiver_id that the registry does not hold"):
        extraction.run("sms_events", settings=Settings(max_invalid_share=0.24))


def test_blanked_values_never_refuse_a_day(programme: SourceProgramme, extraction: Extraction) -> None:
    programme.caregiver("CG-1", age=300)
    extraction.run("caregivers", settings=Settings(max_invalid_share=0))
    assert extraction.facts("caregivers") == (1, 1, 0, 1)


def test_several_reasons_are_all_named(programme: SourceProgramme, extraction: Extraction) -> None:
    for caregiver_id in ("CG-1", "CG-2", None):
        programme.caregiver(caregiver_id, status=None)
    with pytest.raises(TooManyInvalidRowsError) as caught:
        extraction.run("caregivers")
    assert "2 rows have no status" in str(caught.value)
    assert "1 row has no caregiver_id" in str(caught.value)
    assert extraction.lake.partitions("caregivers") == []


def test_no_temporary_table_is_left_in_the_engine(programme: SourceProgramme, extraction: Extraction) -> None:
    fill(programme, [DAY])
    extraction.run_all(DAY, NEXT_DAY)
    programme.message(None, sent_at="2026-11-20 09:00")
    with pytest.raises(TooManyInvalidRowsError):
        extraction.run("sms_events", settings=Settings(max_invalid_share=0))
    left = extraction.engine.con.execute("SELECT table_name FROM duckdb_tables() WHERE temporary").fetchall()
    assert left == []
    assert "incoming_rows" not in extraction.engine.list_tables()


def test_no_name_phone_or_id_is_in_any_file_of_the_lake(programme: SourceProgramme, extraction: Extraction) -> None:
    ids = [f"WOMAN-{n}" for n in range(40)]
    for n, caregiver_id in enumerate(ids):
        programme.caregiver(caregiver_id, age=300 if n % 9 == 0 else 30, status=None if n % 11 == 0 else "active")
        programme.message(f"M-{n}", caregiver_id, sent_at="2026-11-20 09:00")
        programme.dose(caregiver_id, "BCG", DAY)
        programme.call(f"C-{n}", caregiver_id, "2026-11-20 12:00")
    programme.caregiver(ids[1], enrolled_at=ist("2025-01-01 00:00"))
    programme.message("M-early", ids[1], sent_at="2026-11-20 09:00", opened_at="2026-11-20 08:00")
    programme.message("M-5", ids[1], sent_at="2026-11-20 09:00")
    for stranger in ("STRANGER-1", "STRANGER-2"):
        programme.message(f"M of {stranger[-1]}", stranger, sent_at="2026-11-20 09:00")
        programme.dose(stranger, "BCG", DAY)
        programme.call(f"C of {stranger[-1]}", stranger, "2026-11-20 12:00")
    extraction.run_all(DAY)
    secrets = ["WOMAN", "STRANGER", FULL_NAME, PHONE_NUMBER, "9812345678", "child of", "health worker 7"]
    n_rows = 0
    for name, raw in content(extraction.lake).items():
        text = raw.decode("latin-1")
        if name.endswith(".parquet"):
            table = pq.read_table(Path(str(extraction.lake.root)) / name)
            n_rows += table.num_rows
            text += str(table.to_pylist()) + str(table.schema)
        for secret in secrets:
            assert secret not in text, f"{secret} in {name}"
    assert n_rows > 150


@pytest.mark.parametrize("asset", ["caregivers", "sms_events", "vaccinations"])
def test_a_source_that_does_not_answer_leaves_everything_as_it_was(
    programme: SourceProgramme, extraction: Extraction, asset: str
) -> None:
    fill(programme, [DAY])
    extraction.run_all(DAY)
    before = content(extraction.lake)
    extraction.source = Source("postgresql://reader:s3cret@127.0.0.1:1/programme", SCHEMA)
    with pytest.raises(UnreachableError, match=r"'programme' on 127\.0\.0\.1 port 1"):
        extraction.run(asset)
    assert content(extraction.lake) == before


@pytest.mark.parametrize(
    ("asset", "statement", "finding"),
    [
        ("sms_events", "ALTER TABLE {schema}.sms_logs ALTER sent_at TYPE timestamp", "sms_logs.sent_at is timestamp"),
        ("caregivers", "ALTER TABLE {schema}.caregivers DROP district", "caregivers.district is missing"),
        ("vaccinations", "DROP TABLE {schema}.vaccinations", "vaccinations is missing"),
        (
            "calls",
            "ALTER TABLE bandicoot.call_outcomes RENAME outcome TO result",
            "call_outcomes.outcome is missing, expected text. Nothing was read; undo what was changed by hand",
        ),
    ],
)
def test_a_source_whose_columns_drifted_leaves_everything_as_it_was(
    programme: SourceProgramme, extraction: Extraction, asset: str, statement: str, finding: str
) -> None:
    fill(programme, [DAY])
    extraction.run_all(DAY)
    before = content(extraction.lake)
    programme.execute(statement)
    with pytest.raises(SchemaDriftError, match=finding):
        extraction.run(asset)
    assert content(extraction.lake) == before
