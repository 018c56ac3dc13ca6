"""Fifty clients read recommendations while Redis is killed and a new list comes out: each is told the truth.

`make load` does the same with a thousand clients and 200,000 caregivers, and stops PostgreSQL as well.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bandicoot_core.stores.embedded import server as embedded
from benchmarks.load.faults import Fault
from benchmarks.load.installation import Hands, Publication
from benchmarks.load.judging import judge
from benchmarks.load.scenario import Stage, questions_of, read_while_it_breaks
from benchmarks.load.traffic import FAST, STANDARD, Body, Question
from tests.servers.redis import running_redis
from tests.small_programme import small_programme

N_USERS, SECONDS = 50, 10.0
BUDGET = 60


@pytest.fixture
def stage(server: embedded.EmbeddedServer, tmp_path: Path) -> Iterator[Stage]:
    """A small programme with a list, a Redis, and keys of both tiers."""
    with small_programme(server, tmp_path, budget=BUDGET) as programme, running_redis() as redis:
        stores = programme.installation
        hands = Hands(stores)
        yield Stage(
            hands=hands,
            redis=redis,
            folder=tmp_path,
            settings={"database_url": stores.database_url, "home": str(tmp_path), "lookback_days": "42"},
            keys={STANDARD: hands.keys(STANDARD, 2, "read"), FAST: hands.keys(FAST, 2, "read")},
            questions=questions_of(hands.districts()),
            n_users=N_USERS,
            pause_seconds=(0.1, 0.3),
        )


def test_whatever_breaks_while_many_read_nobody_is_told_anything_wrong(stage: Stage) -> None:
    killed = Fault("Redis killed", 2.0, 1.5, stage.redis.kill, stage.redis.start)
    measured, suffered = read_while_it_breaks(stage, SECONDS, list_at=6.0, n_fewer=3, others=[killed])
    print(measured, *suffered, sep="\n")
    assert measured.verdict.n_wrong == 0, measured.verdict.wrong
    assert not measured.broken
    assert measured.verdict.n_answers > 100
    assert [fault.name for fault in suffered] == ["Redis killed", "a new list"]
    assert len(measured.verdict.lists_seen) == 2, measured.verdict


ASKED = [Question(FAST, 2), Question(STANDARD, 2)]
ROWS = [(1, "A", "Gaya", "U", 0, 0.3, 0.2, "treatment"), (2, "B", "Gaya", "U", 0, 0.2, 0.2, "treatment")]
BEFORE = Publication("old", float("-inf"), ROWS, {ASKED[1]: ROWS})
AFTER = Publication("new", 100.0, [(1, *ROWS[1][1:])], {ASKED[1]: ROWS})


def told(question: int = 0, rows: list[tuple[object, ...]] = ROWS, asked_at: float = 99.0, **metadata: object) -> Body:
    usual = {
        "list_version": "old-0-0-0",
        "tier": (FAST, STANDARD)[question],
        "tier_reason": "key",
        "returned": len(rows),
        "filters": {"budget": 2, "district": None, "exclude_control": True, "model_version": None},
        "is_stale": False,
        "list_date": "2026-11-19",
        "call_date": "2026-11-19",
    }
    return Body(question, 3, asked_at, {**usual, **metadata}, rows)


def test_a_right_answer_is_judged_right() -> None:
    stale = {"tier_reason": "database_away", "is_stale": True, "list_version": "old"}
    right = [
        told(),
        told(question=1),
        told(rows=AFTER.rows, asked_at=101.5, list_version="new-0-0-0"),
        told(asked_at=101.5, **stale),
    ]
    verdict = judge(right, ASKED, [BEFORE, AFTER])
    assert (verdict.n_answers, verdict.n_wrong, verdict.wrong) == (12, 0, [])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (told(list_version="other-0-0-0"), "never was"),
        (told(rows=AFTER.rows), "is not the list"),
        (told(rows=ROWS[:1]), "is not the list"),
        (told(returned=1), "1 said"),
        (told(is_stale=True), "is_stale"),
        (told(tier_reason="database_away"), "is_stale"),
        (told(asked_at=102.0), "and not marked"),
        (told(filters={"budget": 9, "district": None, "exclude_control": True}), "another question"),
        (told(tier=STANDARD), "for a key of tier fast"),
        (told(question=1, rows=[ROWS[1], ROWS[0]]), "gaps"),
        (told(question=1, rows=[(1, *ROWS[1][1:]), (2, *ROWS[0][1:])]), "order of the index"),
        (told(question=1, rows=ROWS[:1]), "ranking as of then"),
        (told(question=1, rows=[(1, "C", "Gaya", "U", 0, 0.1, 0.2, "control")]), "control arm"),
    ],
)
def test_a_wrong_answer_is_judged_wrong_as_often_as_it_came(wrong: Body, words: str) -> None:
    verdict = judge([wrong], ASKED, [BEFORE, AFTER])
    assert verdict.n_wrong == 3
    assert words in " ".join(verdict.wrong)


def test_who_was_called_may_not_be_named_a_second_later() -> None:
    answers = [told(question=1, asked_at=moment) for moment in (50.5, 52.0)]
    verdict = judge(answers, ASKED, [BEFORE], called_at={"A": 50.0})
    assert verdict.n_wrong == 3
