"""Threads for work that waits: what hangs in one lane holds up no other, and a full one sends requests away."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from bandicoot_api.lanes import Lane
from bandicoot_api.problems import Problem
from bandicoot_api.service import within_requests
from bandicoot_core.settings import Settings, load_service_options
from tests.service.conftest import BUDGET, Site
from tests.service.test_guards import locked, n_waiting, problem, until


def test_a_full_lane_sends_away_and_who_leaves_the_queue_makes_room() -> None:
    refused: list[str] = []
    go_on = threading.Event()

    async def run() -> list[str]:
        lane = Lane("test", n_threads=1, n_waiting=1, on_refused=lambda: refused.append("refused"))

        def work() -> str:
            go_on.wait(10)
            return "done"

        begun = asyncio.ensure_future(lane.run(work))
        queued = asyncio.ensure_future(lane.run(work))
        await asyncio.sleep(0.1)
        with pytest.raises(Problem, match="too many requests wait"):
            await lane.run(work)
        queued.cancel()
        await asyncio.sleep(0.1)
        other = asyncio.ensure_future(lane.run(work))
        await asyncio.sleep(0.1)
        begun.cancel()  # its thread is still at it, so its place is not free
        await asyncio.sleep(0.1)
        with pytest.raises(Problem, match="too many requests wait"):
            await lane.run(work)
        go_on.set()
        found = [await other, await lane.run(work)]
        lane.close()
        return found

    assert asyncio.run(run()) == ["done", "done"]
    assert refused == ["refused", "refused"]


def test_what_hangs_in_postgresql_makes_nobody_believe_that_it_is_away(open_site: Callable[..., Site]) -> None:
    site = open_site(pool_size=2)
    client = site.client("read", api_database_seconds=0.5)
    fast = site.client(app=client.app)  # type: ignore[arg-type]
    fast.headers["Authorization"] = f"Bearer {site.key('read', tier='fast')}"
    listed = fast.get("/recommend", params={"budget": BUDGET}).json()
    name = site.listed()[0]
    with ThreadPoolExecutor(40) as pool:
        with locked(site, "caregiver_states"):
            hanging = [pool.submit(client.get, f"/caregivers/{name}") for _ in range(40)]
            until(lambda: n_waiting(site) == 2)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                ready = client.get("/ready").json()
                assert ready["database"] == "ok"
                told = fast.get("/recommend", params={"budget": BUDGET}).json()
                assert told["metadata"]["tier_reason"] == "key"
                assert told["recommendations"] == listed["recommendations"]
        assert {each.result().status_code for each in hanging} == {200}


def test_what_waits_for_postgresql_is_bounded_and_says_when_to_come_again(open_site: Callable[..., Site]) -> None:
    site = open_site(pool_size=1)
    client = site.client("read")
    lane = client.app.state.service.database_lane  # type: ignore[attr-defined]
    lane._n_places = 3
    name = site.listed()[0]
    with ThreadPoolExecutor(8) as pool:
        with locked(site, "caregiver_states"):
            hanging = [pool.submit(client.get, f"/caregivers/{name}") for _ in range(8)]
            until(lambda: sum(each.done() for each in hanging) == 5)
        found = [each.result() for each in hanging]
    refused = [each for each in found if each.status_code == 503]
    assert len(refused) == 5
    problem(refused[0], 503, "overloaded")
    assert refused[0].headers["retry-after"] == "5"
    assert 'bandicoot_api_refused_total{guard="admission"} 5.0' in client.get("/metrics").text


def test_nothing_waits_longer_in_postgresql_than_its_request() -> None:
    patient = Settings(statement_timeout_seconds=600, lock_timeout_seconds=60, writer_wait_seconds=60)
    found = within_requests(patient, load_service_options(api_timeout_seconds=20))
    assert (found.statement_timeout_seconds, found.lock_timeout_seconds, found.writer_wait_seconds) == (20, 10, 10)
    hasty = Settings(statement_timeout_seconds=5, lock_timeout_seconds=2, writer_wait_seconds=1)
    found = within_requests(hasty, load_service_options(api_timeout_seconds=20))
    assert (found.statement_timeout_seconds, found.lock_timeout_seconds, found.writer_wait_seconds) == (5, 2, 1)
