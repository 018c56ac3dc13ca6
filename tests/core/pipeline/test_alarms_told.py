"""A look at a real published schema, lake, webhook and mail server: told once, and once more when it is over."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiosmtpd.controller import Controller

from bandicoot_core.alarms.failures import RunEnd
from bandicoot_core.errors import UntoldAlarmError
from bandicoot_core.pipeline.alarms import describe_open_incidents, look_for_alarms
from bandicoot_core.settings import Settings
from bandicoot_core.stores.installation import Installation
from tests.servers.alarm_receivers import Hook

NIGHT = datetime(2026, 11, 18, 20, 0, tzinfo=UTC)
"""01:30 in India on Thursday 19 November."""

FAILED = RunEnd("nightly", "2026-11-18", "2026-11-18", "run-1", False, "UnreachableError", "no connection")
MENDED = RunEnd("nightly", "2026-11-18", "2026-11-18", "run-2", True)


class Site:
    """A published schema and a lake with no more in them than alarms look at."""

    def __init__(self, url: str, home: Path, hook: Hook, mail_server: Controller) -> None:
        self.url, self.home, self.hook, self.mails = url, home, hook, mail_server.handler.mails
        self.settings: dict[str, Any] = {
            "alarm_webhook_url": hook.url,
            "alarm_smtp_url": f"smtp://robot:p%40ss@127.0.0.1:{mail_server.port}",
            "alarm_email_from": "bandicoot@example.org",
            "alarm_email_to": ("night@example.org",),
        }

    @property
    def stores(self) -> Installation:
        return Installation(Settings(home=self.home, database_url=self.url, **self.settings))

    def look(self, *ends: RunEnd, now: datetime = NIGHT, is_lake_due: bool = True) -> tuple[int, int, int]:
        stores = self.stores
        try:
            found = look_for_alarms(stores, ends, now=now, is_lake_due=is_lake_due)
        finally:
            stores.close()
        return found.n_opened, found.n_closed, found.n_told

    def publish(self, call_date: str, n_rows: int = 10, budget: int = 10) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(
                "INSERT INTO bandicoot.list_publications VALUES (%s, %s, %s, 'm-1', 'run-1', now(), NULL)",
                (call_date, n_rows, budget),
            )

    def decide(self, week: str, decision: str) -> None:
        self.stores.lake.write("model_version", week, {}, facts={"decision": decision})

    def subjects(self) -> list[str]:
        posted = [each["text"].splitlines()[0].strip("*") for each in self.hook.posted]
        assert sorted(posted) == sorted(str(each["Subject"]) for each in self.mails)
        return posted

    def rows(self, columns: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(f"SELECT {columns} FROM bandicoot.incidents ORDER BY incident_id").fetchall()


@pytest.fixture
def site(published_url: str, tmp_path: Path, hook: Hook, mail_server: Controller) -> Site:
    return Site(published_url, tmp_path, hook, mail_server)


def test_a_failed_run_is_told_once_on_each_channel_and_once_when_it_is_mended(site: Site) -> None:
    assert site.look() == (0, 0, 0)
    assert site.look(FAILED) == (1, 0, 2)
    assert site.look() == site.look(FAILED) == (0, 0, 0)
    later = NIGHT + timedelta(hours=3)
    assert site.look(MENDED, now=later) == (0, 1, 2)
    assert site.look(FAILED, MENDED, now=later) == (0, 0, 0)
    assert site.subjects() == [
        "Bandicoot error: run failed (nightly 2026-11-18)",
        "Bandicoot recovered: run failed (nightly 2026-11-18)",
    ]
    assert "cause: no connection (run run-1)" in site.hook.posted[0]["text"]
    assert "lasted: 3 h" in site.hook.posted[1]["text"]


def test_a_late_list_an_unused_budget_and_rejected_models_come_and_go(site: Site) -> None:
    site.publish("2026-11-18")
    site.decide("2026-11-08", "promoted as the first champion")
    assert site.look() == (0, 0, 0)
    assert site.look(now=NIGHT + timedelta(hours=1)) == (1, 0, 2)
    site.publish("2026-11-19", n_rows=7)
    assert site.look(now=NIGHT + timedelta(hours=2)) == (1, 1, 4)
    site.decide("2026-11-15", "rejected: finite_indices: 3 are not finite")
    site.publish("2026-11-20")
    assert site.look(now=NIGHT + timedelta(hours=24)) == (1, 1, 4)
    site.decide("2026-11-15", "promoted in place of m-1")
    assert site.look(now=NIGHT + timedelta(hours=24)) == (0, 1, 2)
    assert site.rows("kind, partition, recovered_at IS NOT NULL") == [
        ("list_late", "2026-11-19", True),
        ("budget_not_used", "2026-11-19", True),
        ("model_rejected", "2026-11-15", True),
    ]


def test_a_caregiver_who_was_forgotten_has_used_her_place(site: Site) -> None:
    site.stores.lake.write("call_list", "2026-11-19", {}, facts={"n_places": 10, "n_listed": 9})
    site.publish("2026-11-19", n_rows=9)
    assert site.look() == (0, 0, 0)
    site.stores.lake.write("call_list", "2026-11-19", {}, facts={"n_places": 9, "n_listed": 9})
    assert site.look() == (1, 0, 2)


def test_what_the_lake_says_stays_as_it_stands_until_it_is_looked_at_again(site: Site) -> None:
    lake = site.stores.lake
    lake.write("model_backtest", "2026-11-15", {}, facts={"drift": "a loss; look", "has_drifted": True})
    assert site.look() == (1, 0, 2)
    lake.write("model_backtest", "2026-11-15", {}, facts={"drift": ""})
    assert site.look(is_lake_due=False) == (0, 0, 0)
    assert site.look() == (0, 1, 2)


def test_drift_of_the_newest_backtest_is_told(site: Site) -> None:
    lake = site.stores.lake
    lake.write("model_backtest", "2026-11-08", {}, facts={"drift": "a loss of 0.7; look at the logs"})
    assert site.look() == (0, 0, 0)
    facts = {"drift": "a loss of 0.7; look at the logs", "has_drifted": True}
    lake.write("model_backtest", "2026-11-15", {}, facts=facts)
    assert site.look() == (1, 0, 2)
    assert site.rows("kind, cause, next_step, severity") == [("drift", "a loss of 0.7", "look at the logs", "warning")]
    lake.write("model_backtest", "2026-11-22", {}, facts={"drift": "a loss of 0.5", "has_drifted": False})
    assert site.look() == (0, 1, 2)


def test_a_channel_that_fails_does_not_stop_the_other_and_is_tried_again(site: Site) -> None:
    site.hook.status = 500
    with pytest.raises(UntoldAlarmError, match=r"the webhook at 127\.0\.0\.1 answers 500"):
        site.look(FAILED)
    assert len(site.mails) == 1
    assert site.rows("told_channels") == [("email",)]
    site.hook.posted.clear()
    site.hook.status = 200
    assert site.look() == (0, 0, 1)
    assert site.rows("told_channels, recovered_at") == [("email webhook", None)]
    assert site.subjects() == ["Bandicoot error: run failed (nightly 2026-11-18)"]


def test_an_incident_is_committed_before_it_is_told_so_that_a_crash_between_tells_it_again(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bandicoot_core.stores.channels.Webhook.send", die)
        with pytest.raises(KeyboardInterrupt):
            site.look(FAILED)
    assert site.rows("kind, told_at") == [("run_failed", None)]
    assert site.look() == (0, 0, 2)


def test_a_lake_that_cannot_be_read_keeps_its_incidents_open_and_the_rest_is_told(site: Site) -> None:
    site.decide("2026-11-15", "rejected: finite_indices: 3 are not finite")
    assert site.look() == (1, 0, 2)
    [manifest] = (site.home / "lake").glob("**/manifest.json")
    manifest.write_text("{")
    with pytest.raises(UntoldAlarmError, match="model_version"):
        site.look(FAILED)
    assert site.rows("kind, recovered_at") == [("model_rejected", None), ("run_failed", None)]
    assert site.subjects()[-1] == "Bandicoot error: run failed (nightly 2026-11-18)"


def test_without_a_channel_incidents_are_recorded_and_shown(site: Site) -> None:
    site.settings = {}
    assert site.look(FAILED) == (1, 0, 0)
    with psycopg.connect(site.url) as connection:
        assert describe_open_incidents(connection) == [
            "run failed (nightly 2026-11-18) since 2026-11-19 01:30 Asia/Kolkata: no connection (run run-1); see that "
            "the server named answers, then run `nightly` for 2026-11-18 again"
        ]
