"""That the servers of the tests are what they say: reachable, killed and restarted at will, leaving nothing behind."""

from pathlib import Path

import psutil
import psycopg
import pytest
from google.cloud.pubsub_v1 import SubscriberClient

from tests.servers.debian_postgres import DebianPostgres, debian_postgres
from tests.servers.pgbouncer import PgBouncer, pgbouncer
from tests.servers.pubsub import SUBSCRIPTION, pubsub_server


def processes_in(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or []):
            found.append(process.pid)
    return found


def test_a_killed_server_keeps_its_commits_and_no_process_outlives_it() -> None:
    with debian_postgres() as server:
        url = server.create_database("kept")
        server.create_role("asha", password="p/@%")
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE t (x int)")
            connection.execute("INSERT INTO t VALUES (1)")
            connection.execute("GRANT SELECT ON t TO asha")
        cut = psycopg.connect(url)
        cut.execute("INSERT INTO t VALUES (2)")
        children = psutil.Process(server.process.pid).children()
        assert children
        server.kill()
        assert not any(child.is_running() for child in children)
        with pytest.raises(psycopg.OperationalError):
            cut.execute("SELECT 1")
        server.start()
        for place in (url, server.socket_url("kept"), server.url("kept", user="asha", password="p/@%")):
            with psycopg.connect(place) as connection:
                assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.url("kept", password="wrong"))
    assert not server.folder.exists()
    assert processes_in(server.folder) == []


def test_a_replica_follows_its_primary_and_may_lag() -> None:
    with debian_postgres() as primary, primary.replica(recovery_min_apply_delay="1h") as late:
        with primary.replica() as replica, psycopg.connect(primary.url(), autocommit=True) as writer:
            writer.execute("CREATE TABLE t (x int)")
            position = writer.execute("SELECT pg_current_wal_lsn()").fetchone()
            with psycopg.connect(replica.url(), autocommit=True) as reader:
                while reader.execute("SELECT pg_last_wal_replay_lsn() < %s", position).fetchone() != (False,):
                    pass
                assert reader.execute("SELECT count(*) FROM t").fetchone() == (0,)
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    reader.execute("INSERT INTO t VALUES (1)")
        with psycopg.connect(late.url()) as reader:
            assert reader.execute("SELECT to_regclass('t')").fetchone() == (None,)


def test_a_tls_server_refuses_plain_connections(tls_server: DebianPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(tls_server.url(sslmode="disable"))
    assert tls_server.certificates is not None
    with psycopg.connect(tls_server.url(sslmode="verify-full", sslrootcert=str(tls_server.certificates.ca))) as found:
        assert found.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (True,)


def test_a_pooler_shares_two_sessions_and_lets_every_role_in(debian_server: DebianPostgres, bouncer: PgBouncer) -> None:
    debian_server.create_role("meena", password="her own")
    clients = [psycopg.connect(bouncer.url(), autocommit=True) for _ in range(5)]
    pids = {client.execute("SELECT pg_backend_pid()").fetchone() for client in clients * 2}
    assert 1 <= len(pids) <= 2
    with psycopg.connect(bouncer.url(debian_server.url(user="meena", password="her own"))) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("meena",)
    for client in clients:
        client.close()


def test_a_killed_pooler_can_be_started_again(debian_server: DebianPostgres) -> None:
    with pgbouncer(debian_server) as bouncer:
        bouncer.kill()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(bouncer.url())
        bouncer.start()
        with psycopg.connect(bouncer.url()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_broker_delivers_at_least_once_in_any_order_and_keeps_what_it_has_while_it_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = [f"{n}".encode() for n in range(200)]
    with pubsub_server(seed=7, repeated_share=0.2, is_shuffled=True) as broker:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", broker.endpoint)
        broker.publish(sent)
        with SubscriberClient() as client:
            lost = client.pull(subscription=SUBSCRIPTION, max_messages=50).received_messages
            assert len(lost) == 50
        broker.stop()
        broker.start()
        assert broker.n_left == 200
        broker.end_leases()
        taken: list[bytes] = []
        with SubscriberClient() as client:
            while broker.n_left:
                received = client.pull(subscription=SUBSCRIPTION, max_messages=50).received_messages
                taken += [each.message.data for each in received]
                client.acknowledge(subscription=SUBSCRIPTION, ack_ids=[each.ack_id for each in received])
        assert set(taken) == set(sent)
        assert len(taken) > len(sent)
        assert taken[:200] != sent
        assert broker.n_acknowledged == 200
