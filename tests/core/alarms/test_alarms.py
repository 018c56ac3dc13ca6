"""An incident begins once and ends once, whatever is found in between."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from bandicoot_core.alarms.conditions import (
    drift,
    late_list,
    late_model,
    rejected_models,
    spending_above,
    unused_budget,
)
from bandicoot_core.alarms.failures import REFUSED_BY_CHECK, RunEnd, standing_failures
from bandicoot_core.alarms.incidents import compare, is_owed
from bandicoot_core.alarms.messages import problem_message, recovery_message
from bandicoot_core.alarms.problems import KINDS, Problem

NOW = datetime(2026, 11, 19, 6, 30, tzinfo=UTC)


@dataclass
class Kept:
    kind: str
    asset: str
    partition: str
    recovered_at: datetime | None = None
    told_channels: Sequence[str] = ()
    recovery_told_channels: Sequence[str] = ()


def problem(kind: str, partition: str = "2026-11-19") -> Problem:
    return Problem(kind, "call_list", partition, "because", "do this", "error")


PROBLEM = st.builds(problem, st.sampled_from(KINDS), st.sampled_from(["2026-11-18", "2026-11-19", "2026-11-20"]))


@given(st.lists(st.lists(PROBLEM, max_size=6), max_size=12))
def test_in_any_sequence_of_problems_each_episode_opens_once_and_closes_once(looks: list[list[Problem]]) -> None:
    is_open: list[Kept] = []
    seen: list[set[tuple[str, str, str]]] = []
    for problems in looks:
        before = seen[-1] if seen else set()
        now = {each.key for each in problems}
        changes = compare(is_open, problems)
        assert sorted(each.key for each in changes.to_open) == sorted(now - before)
        closed = [Problem(e.kind, e.asset, e.partition, "", "", "error").key for e in changes.to_close]
        assert sorted(closed) == sorted(before - now)
        is_open = [each for each in is_open if each not in changes.to_close]
        is_open += [Kept(each.kind, each.asset, each.partition) for each in changes.to_open]
        seen.append(now)


def test_a_late_list_of_the_next_day_is_the_same_incident_and_a_rejected_model_of_the_next_week_another() -> None:
    kept = [Kept(kind, "call_list", "2026-11-19") for kind in ("list_late", "model_rejected")]
    changes = compare(kept, [problem("list_late", "2026-11-20"), problem("model_rejected", "2026-11-20")])
    assert [each.kind for each in changes.to_open] == ["model_rejected"]
    assert [each.kind for each in changes.to_close] == ["model_rejected"]


def ist(text: str) -> datetime:
    return datetime.fromisoformat(f"{text}+05:30")


def test_a_list_is_late_from_two_o_clock_in_india_until_one_of_the_day_is_published() -> None:
    def partitions(newest: str, at: str) -> list[str]:
        return [each.partition for each in late_list(date.fromisoformat(newest), ist(at))]

    assert partitions("2026-11-18", "2026-11-19T01:59:59") == []
    assert partitions("2026-11-18", "2026-11-19T02:00:00") == ["2026-11-19"]
    assert partitions("2026-11-18", "2026-11-20T01:00:00") == ["2026-11-19"]
    assert partitions("2026-11-18", "2026-11-20T02:00:00") == ["2026-11-20"]
    assert partitions("2026-11-20", "2026-11-20T01:30:00") == []
    assert late_list(None, NOW) == []


def test_a_model_is_late_from_six_o_clock_on_the_sunday_after_its_week() -> None:
    def partitions(newest: str, at: str) -> list[str]:
        return [each.partition for each in late_model(date.fromisoformat(newest), ist(at))]

    assert partitions("2026-11-08", "2026-11-22T05:59:59") == []
    assert partitions("2026-11-08", "2026-11-22T06:00:00") == ["2026-11-15"]
    assert partitions("2026-11-15", "2026-11-28T12:00:00") == []
    assert partitions("2026-11-01", "2026-11-22T05:00:00") == ["2026-11-08"]
    assert late_model(None, NOW) == []


def test_rejections_stand_until_a_model_is_promoted() -> None:
    weeks = [date(2026, 11, 1), date(2026, 11, 8), date(2026, 11, 15)]
    refused = "rejected: finite_indices: 3 are not finite"
    found = rejected_models(dict(zip(weeks, ["promoted as the first champion", refused, refused], strict=True)))
    assert [each.partition for each in found] == ["2026-11-08", "2026-11-15"]
    assert "finite_indices: 3 are not finite" in found[0].cause
    assert rejected_models(dict(zip(weeks, [refused, refused, "promoted in place of m-1"], strict=True))) == []


def test_drift_and_an_unused_budget_say_what_was_found() -> None:
    [found] = drift(date(2026, 11, 15), "a loss of 0.7; expected 0.5 to 0.6 by 5 weeks; look at the logs")
    assert (found.cause, found.next_step) == ("a loss of 0.7; expected 0.5 to 0.6 by 5 weeks", "look at the logs")
    assert drift(date(2026, 11, 15), None) == []
    [found] = unused_budget(date(2026, 11, 19), 80, 100)
    assert "80 calls where the budget is 100" in found.cause
    assert unused_budget(date(2026, 11, 19), 100, 100) == unused_budget(None, 0, 0) == []


def end(job: str, first: str, last: str = "", *, error: str = "RuntimeError", is_success: bool = False) -> RunEnd:
    return RunEnd(job, first, last or first, "run-1", is_success, "" if is_success else error, "it broke")


def test_a_failure_stands_until_a_run_of_the_job_covers_its_partition() -> None:
    failed = end("nightly", "2026-11-18")
    for healing, stands in [
        (end("nightly", "2026-11-18", is_success=True), False),
        (end("nightly", "2026-11-10", "2026-11-19", is_success=True), False),
        (end("nightly", "2026-11-19", is_success=True), True),
        (end("registry", "2026-11-18", is_success=True), True),
        (end("nightly", "2026-11-18"), True),
    ]:
        found = standing_failures([], [failed, healing])
        assert [each.partition for each in found] == (["2026-11-18"] if stands else [])
        assert standing_failures(found, [failed, healing]) == found
    assert standing_failures(standing_failures([], [failed]), [end("nightly", "2026-11-18", is_success=True)]) == []


def test_a_list_that_failed_is_moot_when_a_later_one_is_made() -> None:
    assert not standing_failures(
        [], [end("daily_list", "2026-11-18"), end("daily_list", "2026-11-19", is_success=True)]
    )


def test_a_refused_model_is_not_told_as_a_failed_run_too_and_bad_rows_have_their_own_kind() -> None:
    refused = end("weekly_training", "2026-11-15", error=REFUSED_BY_CHECK)
    assert standing_failures([], [replace(refused, step="model_version")]) == []
    [found] = standing_failures([], [replace(refused, step="clusters")])
    assert (found.kind, found.cause) == ("run_failed", "clusters: it broke (run run-1)")
    [found] = standing_failures([], [end("nightly", "2026-11-18", error="TooManyInvalidRowsError")])
    assert (found.kind, found.asset) == ("too_many_set_aside", "nightly")
    [found] = standing_failures([], [end("daily_list", "2026-11-18", error=REFUSED_BY_CHECK)])
    assert found.kind == "run_failed"


def test_a_channel_is_owed_what_it_has_not_told() -> None:
    assert is_owed(Kept("drift", "a", ""), "email", NOW)
    assert not is_owed(Kept("drift", "a", "", None, ["email"]), "email", NOW)
    assert is_owed(Kept("drift", "a", "", None, ["webhook"]), "email", NOW)
    long_ago, lately = NOW - timedelta(days=2), NOW - timedelta(hours=2)
    assert is_owed(Kept("drift", "a", "", long_ago, ["email"]), "email", NOW)
    assert not is_owed(Kept("drift", "a", "", long_ago, ["email"], ["email"]), "email", NOW)
    assert is_owed(Kept("drift", "a", "", lately), "email", NOW)
    assert not is_owed(Kept("drift", "a", "", long_ago), "email", NOW)


def test_messages_say_where_why_since_when_and_what_next() -> None:
    message = problem_message(problem("list_late"), NOW)
    assert message.subject == "Bandicoot error: the call list is late (call_list 2026-11-19)"
    assert message.text.splitlines() == [
        "asset: call_list",
        "partition: 2026-11-19",
        "cause: because",
        "next step: do this",
        "since: 2026-11-19 12:00 Asia/Kolkata",
    ]
    message = recovery_message(problem("list_late"), NOW, NOW + timedelta(hours=26, minutes=5))
    assert message.subject == "Bandicoot recovered: the call list is late (call_list 2026-11-19)"
    assert "lasted: 1 d 2 h 5 min" in message.text


def test_each_level_of_the_monthly_limit_is_told_once_a_month() -> None:
    def kinds(share: float) -> list[tuple[str, str]]:
        return [(e.kind, e.severity) for e in spending_above(date(2026, 11, 20), share, 300, 200)]

    assert kinds(0.499) == []
    assert kinds(0.5) == [("spending_50", "warning")]
    assert kinds(0.8) == [("spending_50", "warning"), ("spending_80", "warning")]
    assert kinds(1.2) == [("spending_50", "warning"), ("spending_80", "warning"), ("spending_100", "error")]
    [later] = spending_above(date(2026, 11, 21), 0.6, 300, 200)
    assert later.key == spending_above(date(2026, 11, 20), 0.5, 300, 200)[0].key
    assert "60% of the month's limit of 200 US dollars" in later.cause


def test_every_kind_has_a_title_of_its_own() -> None:
    titles = {problem_message(problem(kind), NOW).subject for kind in KINDS}

    assert len(titles) == len(KINDS)
