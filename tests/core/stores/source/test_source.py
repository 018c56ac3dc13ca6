"""Reading the programme's source: what is selected, from which days, in one snapshot, and how failures are told."""

import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from bandicoot_core.errors import UnreachableError
from bandicoot_core.stores.source.source import Source, SourceSnapshot
from bandicoot_core.stores.source.tables import SMS_LOGS_TABLE, read_query
from tests.source_programme import FULL_NAME, PHONE_NUMBER, SCHEMA, SourceProgramme, ist

DAY = date(2026, 11, 20)


@pytest.fixture
def programme(database_url: str) -> SourceProgramme:
    return SourceProgramme(database_url)


@pytest.fixture
def source(programme: SourceProgramme) -> Source:
    return Source(programme.url, SCHEMA)


@pytest.fixture
def snapshot(source: Source) -> Iterator[SourceSnapshot]:
    with source.snapshot() as snapshot:
        yield snapshot


def read(source: Source, table: str, first_day: date = DAY, last_day: date = DAY) -> pa.Table:
    with source.snapshot() as snapshot:
        return rows_of(snapshot, table, first_day, last_day)


def rows_of(snapshot: SourceSnapshot, table: str, first_day: date = DAY, last_day: date = DAY) -> pa.Table:
    with snapshot.rows(table, first_day, last_day) as reader:
        return reader.read_all()


def ids(table: pa.Table, column: str) -> list[str]:
    return sorted(table[column].to_pylist())


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (
            "caregivers",
            [
                "caregiver_id",
                "district",
                "enrolled_at",
                "age",
                "parity",
                "phone_reliable",
                "enrollment_source",
                "status",
            ],
        ),
        (
            "sms_logs",
            ["message_id", "caregiver_id", "sent_at", "delivered_at", "opened_at", "clicked_at", "status"],
        ),
        ("vaccinations", ["caregiver_id", "vaccine_name", "scheduled_date", "actual_date"]),
    ],
)
def test_names_and_phones_are_never_selected(
    programme: SourceProgramme, source: Source, table: str, columns: list[str]
) -> None:
    programme.caregiver("CG-1")
    programme.message("M-1", sent_at="2026-11-20 09:00")
    programme.dose("CG-1", "BCG", DAY)
    rows = read(source, table)
    assert rows.num_rows == 1
    assert rows.column_names == columns
    assert FULL_NAME not in str(rows.to_pylist())
    assert PHONE_NUMBER not in str(rows.to_pylist())


def test_values_arrive_with_their_types_and_instants_in_utc(programme: SourceProgramme, source: Source) -> None:
    programme.caregiver("CG-1", enrolled_at=ist("2026-01-05 10:00:00.000001"), district="गया")
    rows = read(source, "caregivers")
    instant = pa.timestamp("us", tz="UTC")
    assert rows.schema.types == [
        pa.string(),
        pa.string(),
        instant,
        pa.int64(),
        pa.int64(),
        pa.bool_(),
        pa.string(),
        pa.string(),
    ]
    assert rows["enrolled_at"].to_pylist() == [datetime(2026, 1, 5, 4, 30, 0, 1, tzinfo=UTC)]
    assert rows["district"].to_pylist() == ["गया"]


def test_a_day_begins_and_ends_at_midnight_in_india(programme: SourceProgramme, source: Source) -> None:
    programme.message("before", sent_at="2026-11-19 23:59:59.999999")
    programme.message("first", sent_at="2026-11-20 00:00")
    programme.message("last", sent_at="2026-11-20 23:59:59.999999")
    programme.message("after", sent_at="2026-11-21 00:00")
    assert ids(read(source, "sms_logs"), "message_id") == ["first", "last"]


@pytest.mark.parametrize("column", ["sent_at", "delivered_at", "opened_at", "clicked_at"])
def test_a_message_is_read_for_the_day_of_anything_that_happened_to_it(
    programme: SourceProgramme, source: Source, column: str
) -> None:
    instants = dict.fromkeys(("sent_at", "delivered_at", "opened_at", "clicked_at"), "2026-11-10 09:00")
    programme.message("M-1", **(instants | {column: "2026-11-20 09:00"}))
    assert ids(read(source, "sms_logs"), "message_id") == ["M-1"]
    assert ids(read(source, "sms_logs", date(2026, 11, 19), date(2026, 11, 19)), "message_id") == []


def test_a_message_with_several_events_is_one_row(programme: SourceProgramme, source: Source) -> None:
    programme.message("M-1", sent_at="2026-11-20 09:00", delivered_at="2026-11-20 09:01", opened_at="2026-11-20 10:00")
    assert read(source, "sms_logs").num_rows == 1


def test_the_registry_is_read_up_to_the_end_of_the_last_day(programme: SourceProgramme, source: Source) -> None:
    programme.caregiver("early", enrolled_at=ist("2025-01-01 00:00"))
    programme.caregiver("last minute", enrolled_at=ist("2026-11-20 23:59:59"))
    programme.caregiver("next day", enrolled_at=ist("2026-11-21 00:00"))
    programme.caregiver("never", enrolled_at=None)
    assert ids(read(source, "caregivers"), "caregiver_id") == ["early", "last minute", "never"]


def test_doses_are_read_by_the_day_they_were_given(programme: SourceProgramme, source: Source) -> None:
    for day in (date(2026, 11, 19), DAY, date(2026, 11, 21), date(2026, 11, 22), None):
        programme.dose("CG-1", f"dose of {day}", day)
    rows = read(source, "vaccinations", DAY, date(2026, 11, 21))
    assert ids(rows, "vaccine_name") == ["dose of 2026-11-20", "dose of 2026-11-21"]


def test_infinity_reads_as_missing(programme: SourceProgramme, source: Source) -> None:
    programme.caregiver("CG-1", enrolled_at="-infinity")
    programme.execute(
        "INSERT INTO {schema}.vaccinations (caregiver_id, scheduled_date, actual_date) "
        "VALUES ('CG-1', 'infinity', '2026-11-20')"
    )
    assert read(source, "caregivers")["enrolled_at"].to_pylist() == [None]
    assert read(source, "vaccinations")["scheduled_date"].to_pylist() == [None]


def test_a_snapshot_does_not_see_what_is_written_while_it_is_open(
    programme: SourceProgramme, snapshot: SourceSnapshot
) -> None:
    programme.caregiver("CG-1")
    assert rows_of(snapshot, "caregivers").num_rows == 1
    programme.caregiver("CG-2")
    programme.message("M-1", sent_at="2026-11-20 09:00")
    assert rows_of(snapshot, "caregivers").num_rows == 1
    assert rows_of(snapshot, "sms_logs").num_rows == 0


def test_a_snapshot_cannot_write(snapshot: SourceSnapshot) -> None:
    with (
        pytest.raises(Exception, match="read-only transaction"),
        snapshot._connection.cursor() as cursor,
    ):
        cursor.execute("DELETE FROM suvita_production.caregivers")


def test_reading_leaves_no_session_behind(programme: SourceProgramme, source: Source) -> None:
    read(source, "caregivers")
    source.check_schema()
    with psycopg.connect(programme.url) as connection:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        for _ in range(50):
            row = connection.execute(others).fetchone()
            connection.rollback()
            if row == (0,):
                break
        assert row == (0,)


def test_a_schema_of_any_name_is_quoted(database_url: str) -> None:
    name = 'The "real" programme; DROP SCHEMA public'
    SourceProgramme(database_url, name).caregiver("CG-1")
    source = Source(database_url, name)
    source.check_schema()
    assert ids(read(source, "caregivers"), "caregiver_id") == ["CG-1"]


def test_a_day_of_messages_is_read_through_the_indexes_of_its_instants(programme: SourceProgramme) -> None:
    programme.execute(
        """
        INSERT INTO {schema}.sms_logs (message_id, caregiver_id, sent_at, delivered_at, opened_at, clicked_at, status)
        SELECT 'M-' || n, 'CG-' || n %% 5000, at, at + interval '1 minute',
            CASE WHEN n %% 3 = 0 THEN at + interval '9 hours' END,
            CASE WHEN n %% 9 = 0 THEN at + interval '10 hours' END,
            'delivered'
        FROM (SELECT n, timestamptz '2026-06-01 00:00+05:30' + n * interval '2 minutes' AS at
              FROM generate_series(1, 120000) AS n) AS messages
        """
    )
    for column in SMS_LOGS_TABLE.happens:
        programme.execute(f"CREATE INDEX ON {{schema}}.sms_logs ({column}) WHERE {column} IS NOT NULL")
    with psycopg.connect(programme.url, autocommit=True) as connection:
        connection.execute("ANALYZE suvita_production.sms_logs")
        query = read_query(SMS_LOGS_TABLE, SCHEMA, date(2026, 9, 1), date(2026, 9, 1)).as_string(connection)
        plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {query}").fetchall())
    assert "BitmapOr" in plan
    assert plan.count("Bitmap Index Scan") == 4
    assert "Seq Scan" not in plan


def test_a_big_day_is_streamed_and_never_held_whole(programme: SourceProgramme, source: Source) -> None:
    programme.execute(
        "INSERT INTO {schema}.sms_logs (message_id, caregiver_id, sent_at) "
        "SELECT n::text, repeat('x', 600), %s FROM generate_series(1, 300000) AS n",
        (ist("2026-11-20 09:00"),),
    )
    with source.snapshot() as snapshot:
        rows_of(snapshot, "caregivers")
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, n_bytes = peak_mb(), 0
        with snapshot.rows("sms_logs", DAY, DAY) as reader:
            for batch in reader:
                n_bytes += batch.nbytes
        grown = peak_mb() - before
    print(f"{n_bytes >> 20} MB read, memory grew by {grown} MB")
    assert n_bytes > 180 << 20
    assert grown < 80


def peak_mb() -> int:
    """Peak memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) >> 10 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("use", [Source.check_schema, lambda source: read(source, "caregivers")])
def test_a_server_that_does_not_answer_is_named_without_its_password(use: Callable[[Source], object]) -> None:
    source = Source("postgresql://reader:s3cret@127.0.0.1:1/programme", SCHEMA)
    with pytest.raises(UnreachableError) as caught:
        use(source)
    message = str(caught.value)
    assert "127.0.0.1" in message
    assert "'programme'" in message
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_server_that_goes_away_while_it_is_read_is_unreachable(programme: SourceProgramme, source: Source) -> None:
    def interrupt() -> None:
        with source.snapshot() as snapshot:
            rows_of(snapshot, "caregivers")
            with psycopg.connect(programme.url, autocommit=True) as other:
                other.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND application_name = 'bandicoot'"
                )
            rows_of(snapshot, "sms_logs")

    with pytest.raises(UnreachableError, match=r"connection to the source, PostgreSQL database 'test_.* was lost"):
        interrupt()


def test_an_error_that_is_not_the_servers_stays_what_it_is(source: Source) -> None:
    with pytest.raises(ZeroDivisionError), source.snapshot():
        raise ZeroDivisionError
