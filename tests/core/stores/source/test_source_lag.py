"""A source that is a streaming replica: a day is closed only when the replica has its end."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
from ibis.backends.duckdb import Backend

from bandicoot_core.calendar import day_of, end_of_day
from bandicoot_core.errors import LaggingSourceError, UnreachableError
from bandicoot_core.pipeline.extraction import extract_vaccinations
from bandicoot_core.settings import Settings
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.source.source import Source
from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.source_programme import SCHEMA, SourceProgramme, ist

READER = "reader"
PASSWORD = "of the reader"


@pytest.fixture(scope="module")
def primary() -> Iterator[DebianPostgres]:
    with debian_postgres(wal_keep_size="64MB") as server:
        server.create_role(READER, password=PASSWORD)
        server.create_database("programme")
        yield server


@pytest.fixture(scope="module")
def programme(primary: DebianPostgres) -> SourceProgramme:
    """Its tables, which the reader may read."""
    made = SourceProgramme(primary.url("programme"))
    made.execute("GRANT USAGE ON SCHEMA {schema} TO reader")
    made.execute("GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO reader")
    return made


@pytest.fixture(scope="module")
def replica(primary: DebianPostgres, programme: SourceProgramme) -> Iterator[DebianPostgres]:
    with primary.replica(wal_receiver_timeout="1s", wal_retrieve_retry_interval="100ms") as standby:
        until(lambda: receives(standby))
        yield standby


def source(server: DebianPostgres, user: str = READER, password: str = PASSWORD) -> Source:
    return Source(server.url("programme", user=user, password=password), SCHEMA)


def ask(server: DebianPostgres, query: str) -> object:
    with psycopg.connect(server.url("programme"), autocommit=True) as connection:
        cursor = connection.execute(query)  # type: ignore[call-overload]
        return cursor.fetchone()[0] if cursor.description else None


@contextmanager
def cut_off(replica: DebianPostgres) -> Iterator[None]:
    """The replica looks for its primary in the wrong place."""
    settings = replica.data_dir / "postgresql.auto.conf"
    kept = settings.read_bytes()
    try:
        ask(replica, "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
        ask(replica, "SELECT pg_reload_conf()")
        until(lambda: not receives(replica))
        yield
    finally:
        settings.write_bytes(kept)
        ask(replica, "SELECT pg_reload_conf()")
        until(lambda: receives(replica))


def receives(server: DebianPostgres) -> bool:
    return ask(server, "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'") == 1


def until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read(server: DebianPostgres, complete_until: datetime, **who: str) -> pa.Table:
    with source(server, **who).snapshot(complete_until=complete_until) as snapshot:
        day = date(2026, 11, 20)
        with snapshot.rows("sms_logs", day, day) as rows:
            return rows.read_all()


def now() -> datetime:
    return datetime.now(UTC)


def follow(primary: DebianPostgres, replica: DebianPostgres) -> None:
    """Wait until the replica has replayed all that the primary has written."""
    written = ask(primary, "SELECT pg_current_wal_lsn()")
    until(lambda: ask(replica, f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn") is True)


def test_a_primary_lacks_nothing(primary: DebianPostgres, programme: SourceProgramme) -> None:
    read(primary, now() + timedelta(days=1))


def test_a_replica_that_has_replayed_the_end_of_the_day_is_read(
    primary: DebianPostgres, replica: DebianPostgres, programme: SourceProgramme
) -> None:
    programme.execute("TRUNCATE {schema}.sms_logs")
    day_ended = now()
    programme.message("M-1", sent_at="2026-11-20 09:00")
    follow(primary, replica)
    assert read(replica, day_ended)["message_id"].to_pylist() == ["M-1"]


def test_a_replica_whose_replay_stands_still_before_the_end_of_the_day_is_refused(
    primary: DebianPostgres,
    replica: DebianPostgres,
    programme: SourceProgramme,
    published_url: str,
    tmp_path: Path,
    engine: Backend,
) -> None:
    programme.execute("TRUNCATE {schema}.sms_logs")
    follow(primary, replica)
    ask(replica, "SELECT pg_wal_replay_pause()")
    day_ended = now()
    programme.message("M-late", sent_at="2026-11-20 09:00")
    with pytest.raises(LaggingSourceError) as refused:
        read(replica, day_ended)
    message = str(refused.value)
    assert "is a replica that has followed its primary up to" in message
    assert "it is still replaying" in message
    assert "IST" in message
    assert "BANDICOOT_MAX_SOURCE_LAG_MINUTES" in message
    assert PASSWORD not in message
    assert isinstance(refused.value, UnreachableError)
    today, lake = day_of(now()), Lake(str(tmp_path))
    with connect(published_url) as connection:
        places = (source(replica), connection, lake, engine)
        with pytest.raises(LaggingSourceError):
            extract_vaccinations(*places, days=[today], settings=Settings(max_source_lag_minutes=0))
        assert lake.partitions("vaccinations") == []
        extract_vaccinations(*places, days=[today], settings=Settings(max_source_lag_minutes=1440))
        assert lake.partitions("vaccinations") == [today.isoformat()]
    # The same run succeeds when the replica has caught up.
    ask(replica, "SELECT pg_wal_replay_resume()")
    follow(primary, replica)
    assert read(replica, day_ended).num_rows == 1


@pytest.mark.parametrize("is_told_all", [False, True])
def test_an_idle_primary_gives_no_false_alarm(
    primary: DebianPostgres, replica: DebianPostgres, is_told_all: bool
) -> None:
    """Nothing is committed after the day's end, and the replica has all there is."""
    follow(primary, replica)
    who = {"user": "postgres", "password": "super secret/@%"} if is_told_all else {}
    day_ended = now() + timedelta(seconds=0.5)
    time.sleep(1.7)  # more than the receiver's timeout, which is deducted
    last = ask(replica, "SELECT pg_last_xact_replay_timestamp()")
    assert last is None or last < day_ended  # type: ignore[operator]
    read(replica, day_ended, **who)


def test_a_replica_that_lost_its_primary_is_refused_though_it_has_replayed_all_it_got(
    primary: DebianPostgres, replica: DebianPostgres
) -> None:
    follow(primary, replica)
    with cut_off(replica), pytest.raises(LaggingSourceError, match="it receives nothing from its primary"):
        read(replica, now())


def test_the_newest_message_speaks_for_a_restarted_replica_without_its_primary(
    primary: DebianPostgres, replica: DebianPostgres, programme: SourceProgramme
) -> None:
    programme.execute("TRUNCATE {schema}.sms_logs")
    programme.message("M-1", sent_at="2026-11-20 09:00", opened_at="2026-11-20 23:30")
    # A message that is to be sent is no proof of anything.
    programme.execute("INSERT INTO {schema}.sms_logs (message_id, sent_at) VALUES ('M-2', now() + interval '1 day')")
    ask(primary, "CHECKPOINT")
    follow(primary, replica)
    ask(replica, "CHECKPOINT")
    with cut_off(replica):
        replica.restart()
        assert ask(replica, "SELECT pg_last_xact_replay_timestamp()") is None
        read(replica, ist("2026-11-20 23:30"))
        with pytest.raises(LaggingSourceError, match=r"up to 2026-11-20 23:30:00 IST"):
            read(replica, end_of_day(date(2026, 11, 20)))


def test_a_read_that_a_replica_gives_up_can_be_run_again(primary: DebianPostgres, programme: SourceProgramme) -> None:
    programme.execute("TRUNCATE {schema}.sms_logs")
    programme.execute(
        "INSERT INTO {schema}.sms_logs (message_id, caregiver_id, sent_at) "
        "SELECT 'M-' || n, 'CG-1', timestamptz '2026-11-20 09:00+05:30' FROM generate_series(1, 2000) AS n"
    )
    day = date(2026, 11, 20)
    with primary.replica(max_standby_streaming_delay="0") as replica:
        until(lambda: receives(replica))
        follow(primary, replica)

        def interrupt() -> None:
            with source(replica).snapshot() as snapshot:
                with snapshot.rows("caregivers", day, day) as rows:
                    rows.read_all()
                programme.execute("DELETE FROM {schema}.sms_logs")
                ask(primary, "VACUUM suvita_production.sms_logs")
                follow(primary, replica)
                with snapshot.rows("sms_logs", day, day) as rows:
                    rows.read_all()

        with pytest.raises(UnreachableError, match="run again"):
            interrupt()
