"""One look at everything that a person should know: problems are gathered, incidents recorded, and channels told.

An incident is recorded before it is told, and what a channel told is noted after: whatever goes wrong in between, it is
told at the next look, at least once. What is a problem is decided in alarms; how runs ended is known to the caller.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import psycopg

from bandicoot_core.alarms.conditions import (
    dead_letters_above,
    drift,
    late_list,
    late_model,
    rejected_models,
    spending_above,
    unused_budget,
)
from bandicoot_core.alarms.failures import RunEnd, standing_failures
from bandicoot_core.alarms.incidents import compare, is_owed
from bandicoot_core.alarms.messages import incident_line, problem_message, recovery_message
from bandicoot_core.alarms.problems import RUN_KINDS, Problem
from bandicoot_core.calendar import day_of
from bandicoot_core.engagement.event_decoding import UNKNOWN_CAREGIVER
from bandicoot_core.errors import BandicootError, UntoldAlarmError
from bandicoot_core.pipeline.costs import COST_REPORT
from bandicoot_core.pipeline.told_events import RECEIVED
from bandicoot_core.stores.channels import Channel
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.published.call_lists import last_publication
from bandicoot_core.stores.published.dead_letters import count_letters
from bandicoot_core.stores.published.incidents import (
    IncidentRecord,
    note_told,
    open_incidents,
    recent_incidents,
    record_changes,
)

_LAKE_KINDS = frozenset(
    {"model_late", "model_rejected", "drift", "too_many_dead_letters", "spending_50", "spending_80", "spending_100"}
)
"""Kinds whose facts are in the lake."""

_TOLD_FOR = timedelta(days=7)
"""How long the end of an incident is tried on a channel that fails."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Look:
    """What a look found and did: incidents opened and closed, and messages that channels took."""

    n_opened: int
    n_closed: int
    n_told: int


def look_for_alarms(stores: Installation, ends: Iterable[RunEnd], *, now: datetime) -> Look:
    """Gather what stands at an aware moment, record what has changed since the last look, and tell what is owed.

    `ends` are the runs that have ended since the last look, in the order of their ends. Without a channel incidents
    are recorded all the same. A channel that fails, or a lake that cannot be read, does not keep the rest from being
    done; UntoldAlarmError says so at the end, and the next look does what is left.
    """
    failures: list[BandicootError] = []
    with stores.published() as connection:
        known = open_incidents(connection)
        standing = [_problem_of(incident) for incident in known]
        problems = standing_failures([each for each in standing if each.kind in RUN_KINDS], ends)
        newest = last_publication(connection)
        problems += late_list(newest.call_date if newest else None, now)
        if newest is not None:
            problems += unused_budget(newest.call_date, newest.n_rows, newest.budget)
        try:
            problems += _problems_of_events(stores, connection, now)
            problems += _problems_of_lake(stores.lake, now)
        except BandicootError as error:
            # Nothing is known about these: what was open stays so.
            failures.append(error)
            problems = [each for each in problems if each.kind not in _LAKE_KINDS]
            problems += [each for each in standing if each.kind in _LAKE_KINDS]
        changes = compare(known, problems)
        n_opened, n_closed = record_changes(connection, to_open=changes.to_open, to_close=changes.to_close, now=now)
        n_told = _tell_all(stores, connection, now, failures)
    if failures:
        raise UntoldAlarmError(
            "; ".join(map(str, failures)) + " (incidents are recorded; the next look tells what was not told)"
        ) from failures[0]
    return Look(n_opened, n_closed, n_told)


def describe_open_incidents(connection: psycopg.Connection) -> list[str]:
    """A line for each incident that is not over, the oldest first."""
    return [incident_line(_problem_of(each), each.opened_at) for each in open_incidents(connection)]


def _problems_of_events(stores: Installation, connection: psycopg.Connection, now: datetime) -> list[Problem]:
    counts = count_letters(connection, since=now - timedelta(days=1))
    n_dead = sum(n for kind, n in counts.items() if kind != UNKNOWN_CAREGIVER)
    if not n_dead:
        return []
    today = day_of(now)
    days = [(today - timedelta(days=n)).isoformat() for n in (1, 0)]
    n_received = sum(each.n_rows() for each in stores.lake.manifests(RECEIVED, days) if each is not None)
    return dead_letters_above(today, n_dead, n_received, stores.settings.max_invalid_share)


def _problems_of_lake(lake: Lake, now: datetime) -> list[Problem]:
    weeks = sorted(lake.partitions("model_version"), reverse=True)
    problems = late_model(date.fromisoformat(weeks[0]) if weeks else None, now)
    decisions = {}
    for week in weeks:
        decisions[date.fromisoformat(week)] = str(lake.require("model_version", week).facts["decision"])
        if not rejected_models({date.fromisoformat(week): decisions[date.fromisoformat(week)]}):
            break  # older ones are over
    problems += rejected_models(decisions)
    if tested := lake.partitions("model_backtest"):
        facts = lake.require("model_backtest", max(tested)).facts
        problems += drift(date.fromisoformat(max(tested)), str(facts["drift"]) if facts.get("has_drifted") else None)
    if reported := lake.partitions(COST_REPORT):
        facts = lake.require(COST_REPORT, max(reported)).facts
        problems += spending_above(
            date.fromisoformat(max(reported)),
            float(facts["share_of_limit"]),
            float(facts["projected_usd"]),
            float(facts["monthly_limit_usd"]),
        )
    return problems


def _tell_all(
    stores: Installation, connection: psycopg.Connection, now: datetime, failures: list[BandicootError]
) -> int:
    """Tell every channel what it is owed; what fails is added to `failures`, and the other channels are told."""
    try:
        channels = stores.channels()
    except BandicootError as error:
        failures.append(error)
        return 0
    incidents = recent_incidents(connection, since=now - _TOLD_FOR)
    n_told = 0
    for channel in channels:
        for incident in incidents:
            if not is_owed(incident, channel.name, now):
                continue
            try:
                _tell(channel, incident)
            except BandicootError as error:
                _log.error("incident %d was not told by %s: %s", incident.incident_id, channel.name, error)
                failures.append(error)
                break  # a channel that is away would keep the others waiting
            note_told(connection, incident, channel.name, told_at=now)
            n_told += 1
    return n_told


def _tell(channel: Channel, incident: IncidentRecord) -> None:
    problem = _problem_of(incident)
    if incident.recovered_at is None:
        message = problem_message(problem, incident.opened_at)
    else:
        message = recovery_message(problem, incident.opened_at, incident.recovered_at)
    channel.send(message.subject, message.text)


def _problem_of(incident: IncidentRecord) -> Problem:
    return Problem(
        incident.kind,
        incident.asset,
        incident.partition,
        incident.cause,
        incident.next_step,
        "error" if incident.severity == "error" else "warning",
    )
