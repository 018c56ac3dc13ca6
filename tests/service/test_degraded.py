"""What the service still answers without PostgreSQL, without Redis, and without both: never a wrong list."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.servers.redis import RedisServer
from tests.service.conftest import BUDGET, Site
from tests.service.test_guards import locked, n_waiting, problem, until
from tests.service.test_recommend import called, ids
from tests.small_programme import CALL_DATE


def metadata(client: TestClient, **query: Any) -> dict[str, Any]:
    response = client.get("/recommend", params={"budget": BUDGET, **query})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()["metadata"]
    return found


def test_without_redis_everything_is_answered_from_postgresql(cached_site: Site, redis_server: RedisServer) -> None:
    client = cached_site.client("read", "call")
    with_redis = ids(client)
    redis_server.kill()
    try:
        cached_site.execute("UPDATE bandicoot.list_publications SET run_id = 'again'")
        assert ids(client) == with_redis
        assert client.get("/ready").json()["cache"] == "away"
        assert client.get("/ready").status_code == 200
        assert client.post("/call-outcomes", json=called(with_redis[0])).json()["n_recorded"] == 1
        assert ids(client)[0] == with_redis[1]
        assert client.get(f"/caregivers/{with_redis[0]}").json()["eligibility"]["excluded_by"] == ["cool-down"]
    finally:
        redis_server.start()


def test_a_redis_that_hangs_does_not_hold_up_answers(cached_site: Site, redis_server: RedisServer) -> None:
    client = cached_site.client("read")
    expected = ids(client)
    redis_server.pause()
    try:
        cached_site.execute("UPDATE bandicoot.list_publications SET run_id = 'again'")
        started = time.monotonic()
        assert ids(client) == expected
        assert time.monotonic() - started < 3
    finally:
        redis_server.resume()


@pytest.mark.parametrize("tier", ["standard", "fast"])
def test_without_postgresql_the_last_list_comes_from_redis_and_is_called_stale(cached_site: Site, tier: str) -> None:
    client, listed = cached_site.client("read", tier=tier), cached_site.listed()
    assert not metadata(client)["is_stale"]
    cached_site.client("read", tier="fast").get("/recommend")  # the list itself is kept, too
    with cached_site.database_away():
        told = metadata(client)
        assert (told["tier"], told["tier_reason"], told["is_stale"]) == ("fast", "database_away", True)
        assert ids(client) == listed
        assert metadata(client, district="Gaya", budget=3)["returned"] <= 3
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["database"]) == (503, "away")
        assert client.get("/health").status_code == 200
    until(lambda: client.get("/ready").status_code == 200)
    assert not metadata(client)["is_stale"]


def test_a_process_that_only_ranks_keeps_the_list_in_redis_too(cached_site: Site) -> None:
    client, listed = cached_site.client("read"), cached_site.listed()
    assert ids(client) == listed
    cache = cached_site.stores.cache
    assert cache is not None
    until(lambda: bool((cache.read([b"list:current"]) or [None])[0]))
    with cached_site.database_away():
        assert ids(client) == listed


def test_a_process_that_starts_without_postgresql_knows_keys_and_list_from_redis(cached_site: Site) -> None:
    key = cached_site.key("read")
    headers = {"Authorization": f"Bearer {key}"}
    cached_site.client(app=cached_site.app()).get("/recommend", headers=headers)
    cached_site.client("read", tier="fast").get("/recommend")
    cached_site.stores.close()
    with cached_site.database_away():
        cold = cached_site.client(app=cached_site.app())
        response = cold.get("/recommend", params={"budget": BUDGET}, headers=headers)
        assert response.status_code == 200
        assert response.json()["metadata"]["is_stale"]
        wrong = {"Authorization": headers["Authorization"][:-1] + ("A" if key[-1] != "A" else "B")}
        problem(cold.get("/recommend", headers=wrong), 401, "not_authenticated")


def test_the_published_list_of_the_day_is_paged_from_redis_and_others_are_not_there(cached_site: Site) -> None:
    client = cached_site.client("read")
    cached_site.client("read", tier="fast").get("/recommend")
    with cached_site.database_away():
        client.get("/ready")
        page = client.get(f"/call-list/{CALL_DATE}", params={"limit": 10, "after_rank": 5}).json()
        assert page["is_stale"]
        assert [row["rank"] for row in page["rows"]] == list(range(6, 16))
        assert page["next_after_rank"] == 15
        problem(client.get(f"/call-list/{CALL_DATE - timedelta(days=1)}"), 503, "unavailable")


@pytest.mark.parametrize("path", ["/caregivers/CG-1", "/assign_cluster", "/call-outcomes", "/update_state"])
def test_what_only_postgresql_knows_is_refused_at_once_while_it_is_away(cached_site: Site, path: str) -> None:
    client, listed = cached_site.client("read", "call"), cached_site.listed()
    bodies: dict[str, Any] = {
        "/assign_cluster": {"caregivers": [{"enrolled_at": "2026-11-18T10:00:00+05:30"}]},
        "/call-outcomes": called(listed[0]),
        "/update_state": {
            "event_type": "sms_opened",
            "caregiver_id": listed[0],
            "timestamp": "2026-11-19T11:30:00+05:30",
            "metadata": {"message_id": "M-1"},
        },
    }
    client.get("/recommend")
    with cached_site.database_away():
        started = time.monotonic()
        found = client.post(path, json=bodies[path]) if path in bodies else client.get(path)
        assert time.monotonic() - started < 10
        problem(found, 503, "unavailable")
        assert int(found.headers["retry-after"]) >= 1


def test_without_both_there_is_no_list(cached_site: Site, redis_server: RedisServer) -> None:
    client = cached_site.client("read")
    assert ids(client)
    redis_server.kill()
    try:
        with cached_site.database_away():
            found = client.get("/recommend", params={"budget": BUDGET})
            problem(found, 503, "unavailable")
            assert "caregiver_id" not in found.text
            problem(client.get(f"/call-list/{CALL_DATE}"), 503, "unavailable")
            cold = cached_site.client(app=cached_site.app())
            cold.headers["Authorization"] = client.headers["Authorization"]
            problem(cold.get("/recommend"), 503, "unavailable")
    finally:
        redis_server.start()
    until(lambda: client.get("/recommend").status_code == 200)


def test_a_database_that_hangs_is_waited_for_a_moment_and_then_not_by_everybody(cached_site: Site) -> None:
    client = cached_site.client("read", api_database_seconds=0.5)
    cached_site.client("read", tier="fast").get("/recommend")
    ids(client)
    with locked(cached_site, "list_publications"):
        assert metadata(client)["is_stale"]
        started = time.monotonic()
        assert metadata(client)["tier_reason"] == "database_away"
        assert time.monotonic() - started < 0.4
    until(lambda: not metadata(client)["is_stale"])


def test_what_redis_holds_is_not_given_out_when_it_is_no_list(cached_site: Site, redis_server: RedisServer) -> None:
    client = cached_site.client("read", tier="fast")
    client.get("/recommend")
    with redis_server.client() as redis:
        redis.set("list:current", b'{"rows": [{"caregiver_id": "made up"}]}')
    with cached_site.database_away():
        problem(client.get("/recommend"), 503, "unavailable")


def test_before_the_first_list_the_service_says_that_it_is_not_ready(
    open_site: Callable[..., Site], redis_server: RedisServer
) -> None:
    site = open_site(redis_url=redis_server.url, redis_pause_seconds=0)
    site.execute("DELETE FROM bandicoot.call_list")
    site.execute("DELETE FROM bandicoot.list_publications")
    client = site.client("read")
    problem(client.get("/recommend"), 503, "not_ready")
    ready = client.get("/ready")
    assert ready.status_code == 503
    assert ready.json()["list_date"] is None


def test_requests_that_hang_in_postgresql_leave_threads_for_others(cached_site: Site) -> None:
    client = cached_site.client("read", tier="fast", api_database_seconds=0.5, api_timeout_seconds=6)
    listed = cached_site.listed()
    assert ids(client) == listed
    with ThreadPoolExecutor(12) as pool:
        with locked(cached_site, "caregiver_states"):
            hanging = [pool.submit(client.get, f"/caregivers/{caregiver_id}") for caregiver_id in listed[:12]]
            until(lambda: n_waiting(cached_site) >= 3)
            started = time.monotonic()
            assert ids(client, budget=7) == listed[:7]
            assert time.monotonic() - started < 3
        assert {each.result().status_code for each in hanging} <= {200, 503, 504}
    until(lambda: client.get("/ready").status_code == 200)
