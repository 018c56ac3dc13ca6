"""What happens in the fortnight, night by night, and what came of it. What should come of it belongs to the tests.

Every evening the day is complete in the programme's database, of which the source is a replica; every morning the
health workers call whom the list of the day names and write down what came of it. Beside that:

- a source that is late: the replica stands still when the night begins, and has caught up half an hour later;
- an outage: the daemon is killed in the evening and started in the morning;
- a bad model: most messages of the last days of a week come into the programme's database only on Sunday evening, so
  that the week looks incomplete to the training on Sunday at 02:00;
- a burst: at noon some thousand events come through Pub/Sub within a minute, many of them twice and all in disorder.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

from bandicoot_core.calendar import day_of, days_between, week_of
from tests.fortnight.site import FortnightSite, Published, Told, india

_ONE_DAY = timedelta(days=1)
_HELD = "held_messages"
_BURST_CAREGIVERS, _BURST_MESSAGES = 60, 30
_OUTCOMES = ("reached", "no_answer", "reached", "busy", "reached", "refused")


@dataclass(frozen=True)
class Plan:
    """The days on which something happens; a night is named by the day whose list it makes."""

    first_day: date
    """A Thursday, or a day before the incomplete week ends: at its noon all is well and the list is out."""
    n_nights: int
    late_source: date
    source_returns: str
    """The wall clock in India of that night at which the replica follows again."""
    outage: date
    messages_missing_from: date
    """Messages sent from this day until its week ends come on Sunday evening."""
    burst: date
    """The day at whose noon many events come at once."""

    @property
    def list_days(self) -> list[date]:
        """The days whose lists are made, in order."""
        return days_between(self.first_day + _ONE_DAY, self.first_day + timedelta(days=self.n_nights))

    @property
    def bad_sunday(self) -> date:
        """The Sunday whose candidate has to be refused."""
        return week_of(self.messages_missing_from) + timedelta(days=7)


@dataclass(frozen=True)
class Burst:
    """Who opened messages, all of them Unresponsive before, and what became of their events."""

    caregiver_ids: frozenset[str]
    n_events: int
    n_in_lake: int
    n_responsive: int
    """Of these caregivers, in the published states right after."""


@dataclass
class Day:
    """What happened from the evening before a day to its noon."""

    day: date
    happened: list[str] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    published: Published | None = None
    burst: Burst | None = None


def live_through(site: FortnightSite, plan: Plan) -> Iterator[Day]:
    """Let the nights pass one after the other on a site that has begun; gives each day at its noon."""
    for published in site.lists():
        _call(site, published)
    for day in plan.list_days:
        record = Day(day)
        n_told = len(site.told)
        _evening(site, plan, day, record)
        _night(site, plan, day, record)
        _morning(site, plan, day, record)
        record.told = site.told[n_told:]
        record.published = next((each for each in site.lists() if each.call_date == day), None)
        yield record


def _evening(site: FortnightSite, plan: Plan, day: date, record: Day) -> None:
    yesterday = day - _ONE_DAY
    if yesterday == plan.bad_sunday:
        site.pass_until(india(yesterday, "20:00"))
        n_late = _release(site)
        record.happened.append(f"{n_late:,} messages of the week before came late, on Sunday evening")
    if day == plan.late_source:
        site.clock.set(india(yesterday, "23:30"))
        _follow(site)
        site.sql("SELECT pg_wal_replay_pause()", server=site.replica)
        record.happened.append(f"the replica stood still from 23:30 to {plan.source_returns}")
    site.clock.set(india(yesterday, "23:50"))
    site.close_day_in_source(yesterday)
    if plan.messages_missing_from <= yesterday < plan.bad_sunday:
        n_held = _hold(site, plan)
        record.happened.append(f"{n_held:,} messages did not come")
    if day == plan.outage:
        site.kill_daemon()
        record.happened.append("the daemon was killed at 23:50 and started at 08:00")


def _night(site: FortnightSite, plan: Plan, day: date, record: Day) -> None:
    site.pass_until(india(day, "01:00"))
    if day == plan.late_source:
        returns = india(day, plan.source_returns)
        while site.clock.now() < returns:
            site.pass_until(min(returns, site.clock.now() + timedelta(minutes=3)))
        site.sql("SELECT pg_wal_replay_resume()", server=site.replica)
        while site.clock.now() < india(day, "01:55") and site.lists()[-1].call_date < day:
            site.pass_until(site.clock.now() + timedelta(minutes=3))
    site.pass_until(india(day, "02:00"))
    if day == week_of(day):
        site.pass_until(india(day, "05:00"))
        record.happened.append("training and evaluation of the week before, then housekeeping")
    site.pass_until(india(day, "06:00"))


def _morning(site: FortnightSite, plan: Plan, day: date, record: Day) -> None:
    if day == plan.outage:
        site.clock.set(india(day, "08:00"))
        site.start_daemon()
        site.pass_until(india(day, "08:01"))
    site.clock.set(india(day, "10:30"))
    for published in site.lists():
        if published.call_date == day:
            _call(site, published)
    site.pass_until(india(day, "12:00"))
    if day == plan.burst:
        record.burst = _burst(site, day)
        record.happened.append(f"{record.burst.n_events:,} events came at noon")
    assert day_of(site.clock.now()) == day


def _call(site: FortnightSite, published: Published) -> None:
    """Every caregiver on the list is called, and what came of it is written down."""
    for place, caregiver_id in enumerate(published.caregiver_ids):
        site.sql(
            "INSERT INTO bandicoot.call_outcomes "
            "(call_id, caregiver_id, call_date, attempted_at, outcome, recorded_by) "
            "VALUES (%s, %s, %s, %s, %s, 'centre 7')",
            f"{published.call_date} {place + 1}",
            caregiver_id,
            published.call_date,
            site.clock.now() - timedelta(minutes=60 - place),
            _OUTCOMES[place % len(_OUTCOMES)],
        )


def _burst(site: FortnightSite, day: date) -> Burst:
    """Some caregivers who opened nothing for a week open many messages in the morning, which is told at noon."""
    rows = site.sql(
        "SELECT caregiver_id FROM bandicoot.caregiver_states WHERE state = 'U' ORDER BY md5(caregiver_id) LIMIT %s",
        _BURST_CAREGIVERS,
    )
    caregiver_ids = frozenset(str(caregiver_id) for (caregiver_id,) in rows)
    payloads = [
        _event(day, caregiver_id, number, event_type)
        for caregiver_id in sorted(caregiver_ids)
        for number in range(_BURST_MESSAGES)
        for event_type in ("sms_delivered", "sms_opened")
    ]
    site.broker.publish([*payloads, *payloads[::5]])
    site.pass_until(india(day, "12:03"))
    manifest = site.installation.lake.manifest("received_events", day.isoformat())
    [(n_responsive,)] = site.sql(
        "SELECT count(*) FROM bandicoot.caregiver_states WHERE state = 'R' AND caregiver_id = ANY(%s)",
        sorted(caregiver_ids),
    )
    return Burst(caregiver_ids, len(payloads), manifest.n_rows() if manifest else 0, int(str(n_responsive)))


def _event(day: date, caregiver_id: str, number: int, event_type: str) -> bytes:
    at = india(day, "09:00") + timedelta(minutes=5 * number, seconds=event_type == "sms_opened")
    metadata = {"message_id": f"{caregiver_id} {number}"}
    event = {"event_type": event_type, "caregiver_id": caregiver_id, "timestamp": at.isoformat(), "metadata": metadata}
    return json.dumps(event).encode()


def _hold(site: FortnightSite, plan: Plan) -> int:
    """Take nine in ten of the messages of the missing days out of the programme's database; how many there are."""
    site.sql(f"CREATE TABLE IF NOT EXISTS {_HELD} (LIKE suvita_production.sms_logs INCLUDING INDEXES)")
    # A message comes again when something happens to it: the newest row of it is the one to keep.
    rows = site.sql(
        "WITH missing AS (DELETE FROM suvita_production.sms_logs "
        "WHERE sent_at >= %s AND sent_at < %s AND right(message_id, 1) <> '0' RETURNING *) "
        f"INSERT INTO {_HELD} SELECT * FROM missing ON CONFLICT (message_id) DO UPDATE SET status = EXCLUDED.status, "
        "delivered_at = EXCLUDED.delivered_at, opened_at = EXCLUDED.opened_at, clicked_at = EXCLUDED.clicked_at "
        "RETURNING message_id",
        india(plan.messages_missing_from, "00:00"),
        india(plan.bad_sunday, "00:00"),
    )
    return len(rows)


def _release(site: FortnightSite) -> int:
    """Put the messages that were held back where they belong; how many there were."""
    rows = site.sql(
        f"WITH late AS (DELETE FROM {_HELD} RETURNING *) "
        "INSERT INTO suvita_production.sms_logs SELECT * FROM late RETURNING message_id"
    )
    return len(rows)


def _follow(site: FortnightSite) -> None:
    """Wait until the replica has all that the primary had."""
    [(written,)] = site.sql("SELECT pg_current_wal_lsn()::text")
    query = "SELECT pg_last_wal_replay_lsn() >= %s::text::pg_lsn"
    site.wait("the replica", lambda: site.sql(query, written, server=site.replica) == [(True,)])
