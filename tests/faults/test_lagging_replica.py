"""The source is a streaming replica that lags: the day is not closed, and is when the replica has caught up."""

import time
from datetime import UTC, date, datetime

import psycopg
import pytest

from bandicoot_core.errors import LaggingSourceError
from bandicoot_core.stores.source.source import Source
from tests.faults.conftest import N_TRIES
from tests.faults.record import RUN_AGAIN, note
from tests.faults.site_under_fault import Site
from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.source_programme import SCHEMA, SourceProgramme

DAY = date(2026, 11, 20)
DATABASE = "programme"


def ask(server: DebianPostgres, query: str) -> object:
    with psycopg.connect(server.url(DATABASE), autocommit=True) as connection:
        cursor = connection.execute(query)  # type: ignore[call-overload]
        return cursor.fetchone()[0]


def follow(primary: DebianPostgres, replica: DebianPostgres) -> None:
    """Wait until the replica has replayed all that the primary has written."""
    written = ask(primary, "SELECT pg_current_wal_lsn()")
    deadline = time.monotonic() + 30
    while ask(replica, f"SELECT pg_last_wal_replay_lsn() >= '{written}'::pg_lsn") is not True:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def messages(server: DebianPostgres, day_ended: datetime) -> set[str]:
    """Ids of the day's messages, which must have been there by its end."""
    source = Source(server.url(DATABASE), SCHEMA)
    with source.snapshot(complete_until=day_ended) as snapshot, snapshot.rows("sms_logs", DAY, DAY) as rows:
        return set(rows.read_all()["message_id"].to_pylist())


def test_a_day_is_not_closed_from_a_replica_that_lacks_its_end(site: Site) -> None:
    fault = "source replica lagging"
    with debian_postgres(wal_keep_size="64MB") as primary:
        primary.create_database(DATABASE)
        programme = SourceProgramme(primary.url(DATABASE))
        with primary.replica() as replica:
            sent: set[str] = set()
            for attempt in range(N_TRIES):
                follow(primary, replica)
                with psycopg.connect(replica.url(DATABASE), autocommit=True) as connection:
                    connection.execute("SELECT pg_wal_replay_pause()")
                    day_ended = datetime.now(UTC)
                    for number in range(int(site.generator(fault).integers(1, 20))):
                        programme.message(f"M-{attempt}-{number}", sent_at="2026-11-20 09:00")
                        sent.add(f"M-{attempt}-{number}")
                    with pytest.raises(LaggingSourceError, match="is a replica that has followed its primary up to"):
                        messages(replica, day_ended)
                    connection.execute("SELECT pg_wal_replay_resume()")
                follow(primary, replica)
                is_repeated = messages(replica, day_ended) == messages(primary, day_ended) == sent
                note(site.records, fault, is_repeated=is_repeated, is_new=False, way=RUN_AGAIN)
                assert is_repeated
