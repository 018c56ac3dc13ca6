"""From a real source to the lake: keys, days, partitions, and the same bytes again."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from extraction_runs import ASSETS, DAY, NEXT_DAY, SEEN_AT, Extraction, content, fill

from bandicoot_core.calendar import day_of, days_between
from bandicoot_core.settings import Settings
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.published.experiments import read_assignments, read_rollouts
from bandicoot_core.stores.published.keys import read_keys
from bandicoot_core.stores.source.source import Source
from bandicoot_core.stores.source.tables import SOURCE_TABLES
from tests.source_programme import SCHEMA, SourceProgramme, ist


def test_a_caregiver_gets_key_and_arm_and_her_day_a_partition(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    programme.caregiver("CG-7")
    (manifest,) = extraction.run("caregivers")
    assert (manifest.asset, manifest.partition, manifest.n_rows()) == ("caregivers", "2026-11-20", 1)
    assert extraction.data("caregivers") == [
        {
            "caregiver_key": 1,
            "district": "Patna",
            "enrolled_at": ist("2026-01-05 10:00").astimezone(UTC),
            "age": 24,
            "parity": 1,
            "phone_reliable": True,
            "enrollment_source": "hospital",
            "status": "active",
            "ab_arm": "treatment",
        }
    ]
    assert extraction.facts("caregivers") == (1, 1, 0, 0)
    assert read_keys(extraction.connection, experiment="demo").to_pylist() == [
        {"caregiver_key": 1, "caregiver_id": "CG-7", "ab_arm": "treatment"}
    ]


def test_keys_and_draws_stay_when_others_come(programme: SourceProgramme, extraction: Extraction) -> None:
    programme.caregiver("CG-7")
    extraction.run("caregivers")
    before = read_assignments(extraction.connection, experiment="demo").to_pylist()
    programme.caregiver("CG-1", enrolled_at=ist("2026-11-21 10:00"))
    extraction.run("caregivers", NEXT_DAY)
    after = read_assignments(extraction.connection, experiment="demo").to_pylist()
    assert [row["caregiver_key"] for row in extraction.data("caregivers", NEXT_DAY)] == [1, 2]
    assert after[:1] == before
    name = "Patna | age 21 to 29 | parity 0 or 1 | phone reliable"
    assert [(row["caregiver_key"], row["stratum"], row["block"]) for row in after] == [(1, name, 0), (2, name, 0)]


def test_a_draw_is_made_from_the_row_that_counts_and_from_none_when_she_has_left(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    programme.caregiver("CG-7", district=" Gaya", age=99, enrolled_at=ist("2026-03-01 10:00"))
    programme.caregiver("CG-7", district="Patna", enrolled_at=ist("2026-02-01 10:00"))
    extraction.run("caregivers")
    programme.execute("DELETE FROM {schema}.caregivers")
    extraction.run("caregivers", NEXT_DAY, settings=Settings(max_invalid_share=0.5, experiment="second"))
    strata = {
        name: read_assignments(extraction.connection, experiment=name)["stratum"].to_pylist()
        for name in ("demo", "second")
    }
    assert strata == {
        "demo": ["Gaya | age unknown | parity 0 or 1 | phone reliable"],
        "second": ["unknown | age unknown | parity unknown | phone unknown"],
    }


def test_a_raised_rollout_takes_effect_with_the_next_snapshot_and_draws_nobody_again(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    for n in range(20):
        programme.caregiver(f"CG-{n}", enrolled_at=ist("2026-01-05 10:00"))
    n_treated = []
    for weeks, control_share in enumerate((0.9, 0.75, 0.5, 0.0)):
        settings = Settings(max_invalid_share=0.5, control_share=control_share)
        extraction.run("caregivers", settings=settings, seen_at=SEEN_AT + timedelta(weeks=weeks))
        n_treated.append(sum(row["ab_arm"] == "treatment" for row in extraction.data("caregivers")))
    assert n_treated == [2, 5, 10, 20]
    assert [
        (rollout.in_force_at - SEEN_AT, rollout.rollout_share)
        for rollout in read_rollouts(extraction.connection, experiment="demo")
    ] == [(timedelta(weeks=weeks), share) for weeks, share in enumerate((0.1, 0.25, 0.5, 1.0))]


def test_a_new_experiment_draws_arms_for_caregivers_known_already(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    for n in range(20):
        programme.caregiver(f"CG-{n}")
    extraction.run("caregivers")
    extraction.run("caregivers", settings=Settings(experiment="second", control_share=0.5))
    arms = [row["ab_arm"] for row in extraction.data("caregivers")]
    assert sorted(arms) == ["control"] * 10 + ["treatment"] * 10


def test_a_registry_backfill_writes_who_was_enrolled_on_each_day(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    for n in range(10):
        programme.caregiver(f"CG-{n}", enrolled_at=ist("2026-11-01 09:00") + timedelta(days=n))
    days = days_between(date(2026, 10, 31), date(2026, 11, 11))
    manifests = extraction.run("caregivers", *days)
    assert [manifest.partition for manifest in manifests] == [day.isoformat() for day in days]
    assert [manifest.n_rows() for manifest in manifests] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10]


def test_a_message_opened_on_a_later_day_gives_events_in_both_partitions(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    programme.caregiver("CG-1")
    programme.message("M-1", sent_at="2026-11-20 23:59:59.999999", opened_at="2026-11-21 00:00")
    extraction.run("caregivers")
    extraction.run("sms_events", DAY, NEXT_DAY)
    sent = {"caregiver_key": 1, "message_id": "M-1", "event_type": "sent"}
    assert extraction.data("sms_events") == [sent | {"occurred_at": datetime(2026, 11, 20, 18, 29, 59, 999999, UTC)}]
    assert extraction.data("sms_events", NEXT_DAY) == [
        sent | {"event_type": "opened", "occurred_at": datetime(2026, 11, 20, 18, 30, tzinfo=UTC)}
    ]


def test_doses_and_calls_are_written_on_their_day(programme: SourceProgramme, extraction: Extraction) -> None:
    programme.caregiver("CG-1")
    programme.dose("CG-1", "BCG", DAY)
    programme.call("C-1", "CG-1", "2026-11-20 00:00", "no_answer")
    programme.call("C-2", "CG-1", "2026-11-21 00:00")
    extraction.run_all(DAY)
    assert extraction.data("vaccinations") == [
        {
            "caregiver_key": 1,
            "vaccine_name": "BCG",
            "scheduled_date": date(2026, 11, 19),
            "actual_date": DAY,
        }
    ]
    assert extraction.data("calls") == [
        {
            "call_id": "C-1",
            "caregiver_key": 1,
            "call_date": DAY,
            "attempted_at": datetime(2026, 11, 19, 18, 30, tzinfo=UTC),
            "outcome": "no_answer",
        }
    ]


@pytest.mark.parametrize("asset", ASSETS)
def test_a_day_without_rows_is_written_empty(extraction: Extraction, programme: SourceProgramme, asset: str) -> None:
    extraction.run(asset)
    assert extraction.data(asset) == []
    assert extraction.set_aside(asset) == []
    assert extraction.facts(asset) == (0, 0, 0, 0)


def test_no_days_write_nothing(extraction: Extraction, programme: SourceProgramme) -> None:
    for asset in ASSETS:
        assert extraction.run(asset, days=[]) == []
    assert content(extraction.lake) == {}


def test_extracting_again_gives_the_same_bytes(programme: SourceProgramme, extraction: Extraction) -> None:
    days = days_between(date(2026, 11, 10), date(2026, 11, 19))
    fill(programme, days)
    for n in range(20):
        programme.caregiver(f"CG-{n}", age=300 if n % 5 == 0 else n, district=None if n % 3 else "Gaya")
        programme.message("M-same", f"CG-{n % 7}", sent_at=f"2026-11-{10 + n % 10} 09:00", opened_at="2026-11-19 10:00")
    extraction.settings = Settings(max_invalid_share=1)
    extraction.run_all(*days)
    first = content(extraction.lake)
    # The order in which the source returns its rows must not matter.
    programme.execute(
        "CREATE TABLE {schema}.turned AS SELECT * FROM {schema}.sms_logs ORDER BY sent_at DESC, caregiver_id DESC; "
        "TRUNCATE {schema}.sms_logs; INSERT INTO {schema}.sms_logs SELECT * FROM {schema}.turned"
    )
    extraction.run_all(*days)
    assert content(extraction.lake) == first


def test_a_day_extracted_alone_has_the_same_bytes_as_among_others(
    programme: SourceProgramme, extraction: Extraction, tmp_path: Path
) -> None:
    days = days_between(date(2026, 11, 10), date(2026, 11, 19))
    fill(programme, days)
    extraction.run_all(*days)
    together = content(extraction.lake)
    extraction.lake = Lake(str(tmp_path / "one by one"))
    for day in days:
        extraction.run_all(day)
    assert content(extraction.lake) == together


def test_days_may_come_in_any_order_twice_and_with_gaps(programme: SourceProgramme, extraction: Extraction) -> None:
    later = date(2026, 11, 23)
    fill(programme, days_between(DAY, later))
    for asset in ASSETS:
        manifests = extraction.run(asset, later, DAY, NEXT_DAY, DAY)
        assert [manifest.partition for manifest in manifests] == ["2026-11-20", "2026-11-21", "2026-11-23"]
    assert {row["message_id"] for row in extraction.data("sms_events", later)} == {"M-3-a", "M-3-b"}
    extraction.run("sms_events", DAY, date(2026, 11, 22))
    days = {day_of(row["occurred_at"]) for row in extraction.data("sms_events", date(2026, 11, 22))}
    assert days == {date(2026, 11, 22)}


def test_progress_counts_the_partitions_written(programme: SourceProgramme, extraction: Extraction) -> None:
    seen: list[tuple[str, int, int]] = []
    for asset in ASSETS:
        extraction.run(asset, DAY, NEXT_DAY, on_progress=lambda *step: seen.append(step))
    assert seen == [(asset, n, 2) for asset in ASSETS for n in (1, 2)]


def test_all_days_of_a_call_show_one_moment_of_the_source(programme: SourceProgramme, extraction: Extraction) -> None:
    days = days_between(date(2026, 11, 1), date(2026, 11, 20))
    fill(programme, days)
    extraction.run("caregivers")

    def write_meanwhile(asset: str, n_done: int, n_total: int) -> None:
        if n_done == 1:
            programme.message("M-late", sent_at="2026-11-20 09:00")
            programme.call("C-late", "CG-1", "2026-11-20 09:00")

    extraction.run("sms_events", *days, on_progress=write_meanwhile)
    programme.execute("DELETE FROM bandicoot.call_outcomes WHERE call_id = 'C-late'")
    extraction.run("calls", *days, on_progress=write_meanwhile)
    assert "M-late" not in {row["message_id"] for row in extraction.data("sms_events")}
    assert "C-late" not in {row["call_id"] for row in extraction.data("calls")}


def test_a_user_who_may_read_the_listed_columns_and_nothing_else_suffices(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    fill(programme, [DAY])
    extraction.run_all(DAY)
    before = content(extraction.lake)
    role = f"reader_{programme.url.split('/test_')[1][:12]}"
    programme.execute(f"CREATE ROLE {role} LOGIN")
    try:
        programme.execute(f"GRANT USAGE ON SCHEMA {{schema}} TO {role}")
        for table in SOURCE_TABLES.values():
            columns = ", ".join(column.name for column in table.columns)
            programme.execute(f"GRANT SELECT ({columns}) ON {{schema}}.{table.name} TO {role}")
        url = programme.url.replace("://postgres@", f"://{role}@")
        with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(f"SELECT full_name FROM {SCHEMA}.caregivers")
        extraction.source = Source(url, SCHEMA)
        extraction.run_all(DAY)
        assert content(extraction.lake) == before
    finally:
        programme.execute(f"DROP OWNED BY {role}")
        programme.execute(f"DROP ROLE {role}")


def test_views_over_columns_of_other_names_and_types_are_read_like_the_tables(
    programme: SourceProgramme, extraction: Extraction
) -> None:
    fill(programme, [DAY])
    extraction.run_all(DAY)
    before = content(extraction.lake)
    programme.execute(
        "ALTER SCHEMA {schema} RENAME TO raw; CREATE SCHEMA {schema}; "
        "ALTER TABLE raw.sms_logs RENAME opened_at TO read_time; "
        "ALTER TABLE raw.sms_logs ALTER sent_at TYPE timestamp USING sent_at AT TIME ZONE 'Asia/Kolkata'; "
        "ALTER TABLE raw.caregivers RENAME district TO zila; ALTER TABLE raw.caregivers ALTER age TYPE text; "
        "ALTER TABLE raw.vaccinations ALTER actual_date TYPE text; "
        "CREATE VIEW {schema}.sms_logs AS SELECT message_id, caregiver_id, "
        "sent_at AT TIME ZONE 'Asia/Kolkata' AS sent_at, delivered_at, read_time AS opened_at, clicked_at, status "
        "FROM raw.sms_logs; "
        "CREATE VIEW {schema}.caregivers AS SELECT caregiver_id, zila AS district, enrolled_at, age::integer AS age, "
        "parity, phone_reliable, enrollment_source, status FROM raw.caregivers; "
        "CREATE VIEW {schema}.vaccinations AS SELECT caregiver_id, vaccine_name, scheduled_date, "
        "actual_date::date AS actual_date FROM raw.vaccinations"
    )
    extraction.run_all(DAY)
    assert content(extraction.lake) == before
