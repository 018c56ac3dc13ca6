"""Incidents in PostgreSQL: open once, closed once, and told per channel."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psycopg

from bandicoot_core.stores.postgres.connections import connect
from bandicoot_core.stores.published.incidents import note_told, open_incidents, recent_incidents, record_changes
from bandicoot_core.stores.published.migrations.upgrade import downgrade, upgrade

NOW = datetime(2026, 11, 19, 6, 30, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def begun(kind: str = "list_late", partition: str = "2026-11-19") -> SimpleNamespace:
    return SimpleNamespace(
        kind=kind, asset="call_list", partition=partition, cause="because", next_step="do this", severity="error"
    )


def test_an_incident_is_open_once_and_closed_once(published: psycopg.Connection) -> None:
    assert record_changes(published, to_open=[begun()], to_close=[], now=NOW) == (1, 0)
    assert record_changes(published, to_open=[begun()], to_close=[], now=LATER) == (0, 0)
    [found] = open_incidents(published)
    assert (found.kind, found.opened_at, found.recovered_at) == ("list_late", NOW, None)
    assert record_changes(published, to_open=[], to_close=[found], now=LATER) == (0, 1)
    assert record_changes(published, to_open=[], to_close=[found], now=LATER + timedelta(hours=1)) == (0, 0)
    assert open_incidents(published) == []
    [over] = recent_incidents(published, since=NOW)
    assert over.recovered_at == LATER
    assert recent_incidents(published, since=LATER + timedelta(seconds=1)) == []
    assert record_changes(published, to_open=[begun()], to_close=[], now=LATER) == (1, 0)


def test_what_a_channel_told_is_noted_for_the_beginning_and_the_end(published: psycopg.Connection) -> None:
    record_changes(published, to_open=[begun()], to_close=[], now=NOW)
    for channel in ("webhook", "email", "webhook"):
        [found] = open_incidents(published)
        note_told(published, found, channel, told_at=LATER)
    [found] = open_incidents(published)
    assert (found.told_channels, found.told_at, found.recovery_told_at) == (("webhook", "email"), LATER, None)
    record_changes(published, to_open=[], to_close=[found], now=LATER)
    [over] = recent_incidents(published, since=NOW)
    note_told(published, over, "email", told_at=LATER)
    [over] = recent_incidents(published, since=NOW)
    assert (over.recovery_told_channels, over.recovery_told_at) == (("email",), LATER)


def test_incidents_outlive_an_older_release(embedded_url: str) -> None:
    with connect(embedded_url) as connection:
        record_changes(connection, to_open=[begun()], to_close=[], now=NOW)
        before = open_incidents(connection)
        downgrade(embedded_url, "0004")
        upgrade(embedded_url)
        assert open_incidents(connection) == before
        assert record_changes(connection, to_open=[begun()], to_close=[], now=LATER) == (0, 0)
        connection.execute("DELETE FROM bandicoot.incidents")
        downgrade(embedded_url, "0004")
        assert connection.execute("SELECT to_regclass('bandicoot.incidents')").fetchone() == (None,)
