"""What a fill and an extension write."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import psycopg
import pytest
from demo_database import DemoDatabase, control_arm

from bandicoot_core.calendar import start_of_day
from bandicoot_core.demo import (
    DemoSummary,
    Programme,
    create_source_schema,
    extend,
    fill,
    is_truth_of,
    stored_programme,
)


def test_the_same_programme_is_written_twice_to_the_byte_and_another_seed_differs(
    database: DemoDatabase, programme: Programme
) -> None:
    summary = database.fill(programme)
    first, first_truth = database.dump(), database.truth_bytes()
    other_summary = database.fill(replace(programme, seed=12))
    other = database.dump()
    assert database.fill(programme) == summary
    assert database.dump() == first
    assert database.truth_bytes() == first_truth
    assert other_summary.n_caregivers == summary.n_caregivers == 400
    assert all(first[table] != other[table] for table in first)


def test_the_summary_counts_the_rows_that_are_there(database: DemoDatabase, programme: Programme) -> None:
    summary = database.fill(programme)
    counts = [
        database.select(f"SELECT count(*) FROM {table}")[0][0]
        for table in (
            "suvita_production.caregivers",
            "suvita_production.sms_logs",
            "suvita_production.vaccinations",
            "bandicoot.call_outcomes",
        )
    ]
    assert counts == [summary.n_caregivers, summary.n_messages, summary.n_vaccinations, summary.n_calls]
    assert counts[2] == 4 * counts[0]
    assert summary.n_calls > 100
    assert (summary.start_date, summary.as_of_date) == (date(2026, 7, 30), date(2026, 11, 19))
    assert 0.25 < summary.responsive_share < 0.55


@pytest.mark.parametrize("later", [date(2026, 11, 20), date(2026, 11, 22), date(2026, 11, 24), date(2026, 12, 29)])
def test_an_extended_programme_equals_one_filled_to_the_later_date(
    database: DemoDatabase, programme: Programme, later: date
) -> None:
    longer = replace(programme.with_fixed_start(), as_of_date=later)
    whole = database.fill(longer)
    expected = database.dump()
    expected_truth = database.truth_bytes()

    database.fill(programme)
    # What the caller knows is the size, the seed and the day; the start is the stored one.
    wanted = replace(programme, as_of_date=later)
    summary = database.extend(wanted)

    assert database.dump() == expected
    assert database.truth_bytes() == expected_truth
    assert stored_programme(database.connection) == longer
    assert 0 < summary.n_messages < whole.n_messages / 2


def test_many_nights_in_a_row_equal_one_fill(database: DemoDatabase, programme: Programme) -> None:
    database.fill(replace(programme.with_fixed_start(), as_of_date=programme.as_of_date + timedelta(days=9)))
    expected = database.dump()
    database.fill(programme)
    for days in range(1, 10):
        tonight = replace(programme, as_of_date=programme.as_of_date + timedelta(days=days))
        database.extend(tonight)
    assert database.dump() == expected


def test_what_was_there_stays_except_for_what_happens_to_it_later(database: DemoDatabase, programme: Programme) -> None:
    database.fill(programme)
    query = (
        "SELECT message_id, caregiver_id, sent_at, delivered_at, opened_at, clicked_at FROM suvita_production.sms_logs"
    )
    before = {row[0]: row for row in database.select(query)}
    later = replace(programme, as_of_date=programme.as_of_date + timedelta(days=5))
    database.extend(later)
    after = {row[0]: row for row in database.select(query)}
    end = start_of_day(programme.as_of_date)
    n_opened_later = 0
    for message_id, row in before.items():
        for old, new in zip(row, after[message_id], strict=True):
            assert old == new or (old is None and new >= end)
        n_opened_later += row[4] is None and after[message_id][4] is not None
    assert n_opened_later > 0
    assert all(row[2] >= end for message_id, row in after.items() if message_id not in before)


def test_an_extension_to_the_same_day_changes_no_row_and_mends_the_truth(
    database: DemoDatabase, programme: Programme
) -> None:
    database.fill(programme)
    before = database.dump()
    (database.truth_dir / "truth_states.parquet").unlink()
    assert not is_truth_of(database.truth_dir, programme)
    summary = database.extend(programme)
    assert database.dump() == before
    assert (summary.n_caregivers, summary.n_messages, summary.n_vaccinations, summary.n_calls) == (0, 0, 0, 0)
    assert is_truth_of(database.truth_dir, programme)


def test_instants_do_not_depend_on_the_database_time_zone(database: DemoDatabase, programme: Programme) -> None:
    database.fill(programme)
    before = database.select("SELECT min(sent_at), max(opened_at) FROM suvita_production.sms_logs")
    database.connection.execute("SET timezone TO 'America/New_York'")
    database.fill(programme)
    assert database.select("SELECT min(sent_at), max(opened_at) FROM suvita_production.sms_logs") == before


def test_readers_see_the_old_programme_until_an_extension_commits(database: DemoDatabase, programme: Programme) -> None:
    database.fill(programme)
    counts = []
    with psycopg.connect(database.url, autocommit=True) as reader:

        def count() -> tuple[Any, ...] | None:
            return reader.execute("SELECT count(*), max(sent_at) FROM suvita_production.sms_logs").fetchone()

        before = count()
        database.extend(
            replace(programme, as_of_date=programme.as_of_date + timedelta(days=20)),
            lambda stage, done, total: counts.append(count()),
        )
        assert set(counts) == {before}
        assert count() != before


def test_progress_counts_every_week_up_to_the_last(database: DemoDatabase, programme: Programme) -> None:
    seen: list[tuple[str, int, int]] = []
    database.fill(programme, lambda *report: seen.append(report))
    assert seen == [*(("weeks", week, 17) for week in range(1, 18)), ("indexes", 0, 1), ("indexes", 1, 1)]


def test_a_programme_of_one_caregiver_works(database: DemoDatabase) -> None:
    summary = database.fill(Programme(n_caregivers=1, n_weeks=2, as_of_date=date(2026, 11, 22)))
    assert summary.n_caregivers == 1
    n_messages, first_sent_at = database.select("SELECT count(*), min(sent_at) FROM suvita_production.sms_logs")[0]
    assert n_messages == 4
    assert first_sent_at > start_of_day(date(2026, 11, 8))


def test_a_fill_commits_on_a_connection_without_autocommit(database: DemoDatabase, programme: Programme) -> None:
    with psycopg.connect(database.url) as connection:
        create_source_schema(connection)
        assert stored_programme(connection) is None
        fill(connection, programme, truth_dir=database.truth_dir, is_control=control_arm)
        connection.rollback()
    assert stored_programme(database.connection) == programme.with_fixed_start()


def test_the_schema_can_be_created_again_and_has_the_promised_indexes(
    database: DemoDatabase, programme: Programme
) -> None:
    query = "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'suvita_production' ORDER BY 1, 2"
    create_source_schema(database.connection)
    assert stored_programme(database.connection) is None
    empty_indexes = database.select(query)
    database.fill(programme)
    before = database.dump()
    create_source_schema(database.connection)
    assert database.dump() == before
    assert database.select(query) == empty_indexes
    indexed = [(table, definition.split("btree (")[1].split(")")[0]) for table, definition in empty_indexes]
    for column in ("message_id", "caregiver_id", "sent_at", "delivered_at", "opened_at", "clicked_at"):
        assert ("sms_logs", column) in indexed
    assert ("caregivers", "caregiver_id") in indexed
    assert ("vaccinations", "caregiver_id") in indexed
    assert ("vaccinations", "actual_date") in indexed


def test_two_extensions_at_once_follow_each_other(database: DemoDatabase, programme: Programme) -> None:
    tomorrow, later = (replace(programme, as_of_date=programme.as_of_date + timedelta(days=d)) for d in (1, 8))
    database.fill(replace(later, start_date=programme.origin_date))
    expected = database.dump()
    database.fill(programme)

    with ThreadPoolExecutor() as pool, psycopg.connect(database.url) as other:

        def extend_at_once() -> DemoSummary:
            return extend(other, later, truth_dir=database.truth_dir, is_control=control_arm)

        started: list[Future[DemoSummary]] = []

        def start_other(stage: str, done: int, total: int) -> None:
            if done == 3:
                started.append(pool.submit(extend_at_once))
                with pytest.raises(TimeoutError):
                    started[0].result(timeout=0.5)

        database.extend(tomorrow, start_other)
        assert started[0].result(timeout=60).as_of_date == later.as_of_date
    assert database.dump() == expected
    assert is_truth_of(database.truth_dir, replace(later, start_date=programme.origin_date))
