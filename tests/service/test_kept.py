"""What is kept between requests: answers, work done together, and how much memory is left."""

import asyncio
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandicoot_api.answers import Answers, Together
from bandicoot_api.memory import FULL_SHARE, TIGHT_SHARE, Memory, memory_limit, process_memory


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 120), st.booleans()), max_size=60))
def test_answers_are_those_of_a_plain_table_that_lets_the_least_used_go(
    steps: list[tuple[str, int, bool]],
) -> None:
    answers, table = Answers(100, seconds=60), OrderedDict[str, bytes]()
    for key, size, is_kept in steps:
        if is_kept:
            answers.keep(key, b"x" * size)
            table.pop(key, None)
            if size <= 100:
                table[key] = b"x" * size
            while sum(map(len, table.values())) > 100:
                table.popitem(last=False)
        else:
            assert answers.find(key) == table.get(key)
            if key in table:
                table.move_to_end(key)
        assert answers.n_bytes == sum(map(len, table.values()))


def test_an_answer_is_gone_after_its_time() -> None:
    now = 0.0
    answers = Answers(100, seconds=60, monotonic=lambda: now)
    answers.keep("long", b"1")
    answers.keep("short", b"2", seconds=1)
    now = 59.9
    assert (answers.find("long"), answers.find("short")) == (b"1", None)
    now = 60.0
    assert answers.find("long") is None
    assert answers.n_bytes == 0


def test_the_same_work_is_done_once_at_a_time_and_again_later() -> None:
    begun: list[str] = []

    async def run() -> list[str]:
        together: Together[str, str] = Together()

        async def work() -> str:
            begun.append("work")
            await asyncio.sleep(0.05)
            return f"result {len(begun)}"

        first = await asyncio.gather(*(together.make("key", work) for _ in range(5)))
        assert together.n_under_way == 0
        return [*first, await together.make("key", work)]

    assert asyncio.run(run()) == ["result 1"] * 5 + ["result 2"]


def test_who_goes_away_does_not_end_the_work_and_a_failure_is_everybodys() -> None:
    async def run() -> None:
        together: Together[str, str] = Together()
        go_on = asyncio.Event()

        async def work() -> str:
            await go_on.wait()
            raise ValueError("it failed")

        leaving, staying = (asyncio.ensure_future(together.make("key", work)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        assert together.n_under_way == 1
        go_on.set()
        with pytest.raises(ValueError, match="it failed"):
            await staying
        assert together.n_under_way == 0

    asyncio.run(run())


def test_memory_is_tight_before_it_is_full() -> None:
    for share, expected in [(0.5, (False, False)), (TIGHT_SHARE, (True, False)), (FULL_SHARE, (True, True))]:
        memory = Memory(1000, used=lambda share=share: int(share * 1000))  # type: ignore[misc]
        assert (memory.is_tight, memory.is_full) == expected


def test_memory_is_looked_at_ten_times_a_second_at_most() -> None:
    looks, now = [0], [0.0]

    def used() -> int:
        looks[0] += 1
        return 0

    memory = Memory(1000, used=used, monotonic=lambda: now[0])
    for _ in range(100):
        now[0] += 0.01
        assert not memory.is_full
    assert 9 <= looks[0] <= 11


def test_the_limit_is_the_configured_one_or_what_the_machine_has() -> None:
    assert memory_limit(512) == 512 * 1024 * 1024
    assert process_memory() < memory_limit(None)
