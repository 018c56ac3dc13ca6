"""Fifty clients read recommendations while Redis is killed and a new list comes out: each is told the truth.

`make load` does the same with a thousand clients and 200,000 caregivers, and restarts PostgreSQL as well.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bandicoot_core.stores.embedded import server as embedded
from benchmarks.load.faults import Fault
from benchmarks.load.installation import Hands
from benchmarks.load.scenario import Stage, questions_of, read_while_it_breaks
from benchmarks.load.traffic import FAST, STANDARD
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
    assert {fault.n_answers > 0 for fault in suffered} == {True}
    assert len(measured.verdict.lists_seen) == 2, measured.verdict
