"""Each guard, and the request that trips it."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from bandicoot_api.memory import Memory
from tests.servers.redis import RedisServer
from tests.service.conftest import BUDGET, Site
from tests.small_programme import CALL_DATE

OUTCOMES, EVENTS = "/call-outcomes", "/update_state"
GUARDED = [
    ("GET", "/recommend", "read"),
    ("GET", "/recommend/export", "read"),
    ("GET", "/call-list/2026-11-19", "read"),
    ("GET", "/caregivers/CG-1", "read"),
    ("POST", OUTCOMES, "call"),
    ("POST", EVENTS, "call"),
    ("POST", "/assign_cluster", "read"),
]


def problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """The error of a response, which has the documented shape."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"code", "message", "details", "request_id"}
    assert body["code"] == code
    assert body["request_id"] == response.headers["x-request-id"]
    return body


async def ask(app: FastAPI, method: str, path: str, headers: dict[str, str], receive: Callable[[], Any]) -> int:
    """The status of a request whose body is what `receive` gives, as a server hands it over."""
    statuses: list[int] = []

    async def received() -> Any:
        return receive()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, received, send)
    return statuses[0]


@contextmanager
def locked(site: Site, table: str) -> Iterator[None]:
    """A table that nobody can read for a while."""
    with psycopg.connect(site.stores.database_url) as connection:
        connection.execute(f"LOCK TABLE bandicoot.{table} IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


def n_waiting(site: Site) -> int:
    """How many connections wait for a lock."""
    return int(
        site.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )[0][0]  # type: ignore[call-overload]
    )


def until(is_so: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that is about to happen."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize(("method", "path", "scope"), GUARDED)
def test_nobody_is_let_in_without_a_key_that_may_do_it(site: Site, method: str, path: str, scope: str) -> None:
    other = site.key(*{"read", "call", "admin"} - {scope})
    client = site.client()
    found = client.request(method, path)
    problem(found, 401, "not_authenticated")
    assert found.headers["www-authenticate"] == "Bearer"
    for wrong in ("Bearer bdc_x", "Basic YTpi", "Bearer", f"Bearer bdc_{'a' * 12}_{'b' * 43}"):
        problem(client.request(method, path, headers={"Authorization": wrong}), 401, "not_authenticated")
    found = client.request(method, path, headers={"Authorization": f"Bearer {other}"})
    body = problem(found, 403, "not_allowed")
    assert body["details"] == {"scope": scope}


@pytest.mark.parametrize("path", [OUTCOMES, EVENTS, "/assign_cluster"])
def test_a_body_that_announces_too_much_is_refused_before_it_is_read(site: Site, path: str) -> None:
    def never() -> Any:
        raise AssertionError("the body was read")

    headers = {"Content-Length": str(1024 * 1024 + 1), "Content-Type": "application/json"}
    assert asyncio.run(ask(site.app(api_max_bulk_mb=1), "POST", path, headers, never)) == 413


@pytest.mark.parametrize("path", [OUTCOMES, EVENTS, "/assign_cluster", "/train_clusters"])
def test_a_body_that_does_not_say_its_size_is_read_no_further_than_the_limit(site: Site, path: str) -> None:
    chunks: list[int] = []

    def next_chunk() -> dict[str, Any]:
        chunks.append(65_536)
        return {"type": "http.request", "body": b" " * 65_536, "more_body": True}

    key = site.key("read", "call", "admin")
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    app = site.app(api_max_bulk_mb=1, api_max_body_kb=1024)
    assert asyncio.run(ask(app, "POST", path, headers, next_chunk)) == 413
    assert sum(chunks) == 1024 * 1024 + 65_536


def test_the_refusal_of_a_large_body_names_the_limit(site: Site) -> None:
    found = site.client("call", api_max_bulk_mb=1).post(OUTCOMES, content=b" " * (1024 * 1024 + 1))
    body = problem(found, 413, "too_large")
    assert body["details"] == {"max_bytes": 1024 * 1024}
    assert "1,048,576" in body["message"]


def test_a_key_reads_so_often_in_a_minute_and_no_more(site: Site) -> None:
    app = site.app(api_reads_per_minute=5)
    one, other = site.client("read", app=app), site.client("read", app=app)
    assert [one.get("/recommend", params={"budget": 1}).status_code for _ in range(6)] == [200] * 5 + [429]
    found = one.get("/recommend/export")
    body = problem(found, 429, "too_many_requests")
    assert body["details"] == {"limit": 5, "seconds": 60}
    assert 1 <= int(found.headers["retry-after"]) <= 120
    assert other.get("/recommend", params={"budget": 1}).status_code == 200
    assert 'bandicoot_api_refused_total{guard="rate"} 2.0' in one.get("/metrics").text


def test_many_rows_have_a_limit_of_their_own(site: Site) -> None:
    client = site.client("read", "call", api_reads_per_minute=1, api_bulk_per_minute=3)
    assert client.get("/recommend", params={"budget": 1}).status_code == 200
    assert [client.post(OUTCOMES, json=[]).status_code for _ in range(4)] == [422, 422, 422, 429]


def test_processes_count_together_through_redis(cached_site: Site) -> None:
    key = cached_site.key("read")
    headers = {"Authorization": f"Bearer {key}"}
    clients = [cached_site.client(app=cached_site.app(api_reads_per_minute=20)) for _ in range(2)]
    statuses: list[int] = []
    for number in range(60):
        statuses.append(clients[number % 2].get("/recommend", params={"budget": 1}, headers=headers).status_code)
        time.sleep(0.02)
    # Within the quarter of a second between exchanges each process may let through what the other has not told yet.
    assert 20 <= statuses.count(200) <= 40
    assert statuses[-5:] == [429] * 5


def test_what_takes_too_long_is_ended_and_says_so(site: Site) -> None:
    client = site.client("read", api_timeout_seconds=0.5)
    with locked(site, "call_list"):
        started = time.monotonic()
        found = client.get("/call-list/2026-11-19")
        assert time.monotonic() - started < 5
    problem(found, 504, "timeout")
    assert client.get("/call-list/2026-11-19").status_code == 200


def test_with_little_memory_left_requests_are_sent_away_but_not_what_asks_how_it_is(site: Site) -> None:
    client = site.client("read", api_memory_mb=64)
    found = client.get("/recommend")
    problem(found, 503, "overloaded")
    assert found.headers["retry-after"] == "5"
    assert [client.get(path).status_code for path in ("/health", "/ready", "/metrics")] == [200] * 3
    assert 'bandicoot_api_refused_total{guard="admission"} 1.0' in client.get("/metrics").text


def test_before_anybody_is_sent_away_what_can_be_made_again_is_let_go(site: Site) -> None:
    client = site.client("read")
    assert client.get("/recommend").status_code == 200
    service = client.app.state.service  # type: ignore[attr-defined]
    assert service.answers.n_bytes > 0
    service.memory._used = lambda: service.memory.limit if service.answers.n_bytes else 0
    service.memory.look_again()
    assert client.get("/recommend").status_code == 200
    assert service.answers.n_bytes > 0


def test_room_is_made_once_a_second_however_many_ask(site: Site) -> None:
    client = site.client("read")
    service = client.app.state.service  # type: ignore[attr-defined]
    service.memory._used = lambda: service.memory.limit
    service.memory.look_again()
    made: list[float] = []
    service.answers.clear = lambda: made.append(time.monotonic())
    started = time.monotonic()
    assert {client.get("/recommend").status_code for _ in range(20)} == {503}
    assert 1 <= len(made) <= 1 + (time.monotonic() - started)


def test_a_body_that_could_take_more_memory_than_is_left_is_not_read(site: Site) -> None:
    client = site.client("call")
    service = client.app.state.service  # type: ignore[attr-defined]
    service.memory = Memory(100 * 1024 * 1024, used=lambda: 60 * 1024 * 1024)
    rows = [{"call_id": "x" * 1024}] * 2000
    found = client.post(OUTCOMES, json=rows)
    problem(found, 503, "overloaded")
    assert found.headers["retry-after"] == "5"
    assert client.post(OUTCOMES, json=rows[:100]).status_code == 422
    with service.memory.reserved(31 * 1024 * 1024):
        problem(client.post(OUTCOMES, json=rows[:100]), 503, "overloaded")


def test_when_memory_is_tight_the_published_list_answers_for_the_ranking(site: Site) -> None:
    client = site.client("read")
    client.app.state.service.memory = Memory(100, used=lambda: 85)  # type: ignore[attr-defined]
    told = client.get("/recommend").json()["metadata"]
    assert (told["tier"], told["tier_reason"]) == ("fast", "load")


def test_under_load_the_published_list_answers_for_the_ranking(site: Site) -> None:
    client = site.client("read", api_live_queries=1)
    with ThreadPoolExecutor() as pool:
        with locked(site, "caregiver_states"):
            ranked = pool.submit(client.get, "/recommend", params={"budget": 5})
            until(lambda: n_waiting(site) == 1)
            listed = client.get("/recommend", params={"budget": 6}).json()
        assert (listed["metadata"]["tier"], listed["metadata"]["tier_reason"]) == ("fast", "load")
        assert len(listed["recommendations"]) == 6
        assert ranked.result().json()["metadata"]["tier"] == "standard"


def test_under_load_what_is_there_or_under_way_is_still_given(site: Site) -> None:
    client = site.client("read", api_live_queries=1)
    assert client.get("/recommend", params={"budget": 4}).json()["metadata"]["tier"] == "standard"
    with ThreadPoolExecutor() as pool:
        with locked(site, "caregiver_states"):
            ranked = pool.submit(client.get, "/recommend", params={"budget": 5})
            until(lambda: n_waiting(site) == 1)
            kept = client.get("/recommend", params={"budget": 4}).json()["metadata"]
            assert (kept["tier"], kept["tier_reason"], kept["cached"]) == ("standard", "key", True)
            joined = pool.submit(client.get, "/recommend", params={"budget": 5})
            time.sleep(0.3)
            assert n_waiting(site) == 1
        assert joined.result().json()["metadata"]["tier"] == "standard"
        assert ranked.result().json() == joined.result().json()


def test_a_ranking_that_has_to_wait_too_long_becomes_the_list_and_postgresql_is_not_away(
    open_site: Callable[..., Site],
) -> None:
    client = (site := open_site(lock_timeout_seconds=1)).client("read")
    with locked(site, "caregiver_states"):
        told = client.get("/recommend", params={"budget": 4}).json()["metadata"]
        assert client.get("/ready").json()["database"] == "ok"
    assert (told["tier"], told["tier_reason"], told["is_stale"]) == ("fast", "load", False)


def test_who_asks_the_same_at_the_same_time_is_answered_by_one_query(site: Site) -> None:
    client = site.client("read", api_live_queries=8)
    asked = threading.Barrier(8)

    def read() -> Any:
        asked.wait()
        return client.get("/recommend", params={"budget": 7}).json()

    with ThreadPoolExecutor(8) as pool:
        with locked(site, "caregiver_states"):
            answers = [pool.submit(read) for _ in range(8)]
            until(lambda: n_waiting(site) == 1)
            time.sleep(0.5)
            assert n_waiting(site) == 1
        found = [answer.result() for answer in answers]
    assert all(each == found[0] for each in found)
    assert len(found[0]["recommendations"]) == 7


def test_a_fault_of_the_service_tells_nothing_of_its_inside(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    client = site.client("read")
    client.app.state.service.newest_list = None  # type: ignore[attr-defined]
    client.app.state.service.memory = Memory(100, used=lambda: 85)  # type: ignore[attr-defined]
    found = client.get("/recommend")
    body = problem(found, 500, "internal_error")
    assert "NoneType" not in found.text
    assert body["request_id"] in caplog.text
    assert "AttributeError" in caplog.text


def test_every_answer_has_the_headers_that_keep_it_where_it_belongs(site: Site) -> None:
    client = site.client("read")
    for response in (client.get("/recommend"), client.get("/health"), client.get("/nowhere"), client.post("/health")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert response.headers["strict-transport-security"].startswith("max-age=")
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "server" not in response.headers
    problem(client.get("/nowhere"), 404, "not_found")
    problem(client.post("/health"), 405, "method_not_allowed")


def test_a_request_keeps_the_id_it_came_with_if_that_is_one(site: Site) -> None:
    client = site.client()
    given = {"X-Request-Id": "centre-7.0001"}
    assert client.get("/nowhere", headers=given).json()["request_id"] == "centre-7.0001"
    for wrong in ("short", "a b c d e f g h", "x" * 65, 'quote"injected'):
        assert client.get("/nowhere", headers={"X-Request-Id": wrong}).json()["request_id"] != wrong


def test_only_pages_of_listed_origins_may_read_answers(site: Site) -> None:
    client = site.client("read", api_origins=["https://centre.example"])
    asked = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "Authorization"}
    allowed = client.options("/recommend", headers={"Origin": "https://centre.example", **asked})
    assert allowed.headers["access-control-allow-origin"] == "https://centre.example"
    assert "access-control-allow-credentials" not in allowed.headers
    refused = client.options("/recommend", headers={"Origin": "https://other.example", **asked})
    assert "access-control-allow-origin" not in refused.headers
    read = client.get("/recommend", headers={"Origin": "https://other.example"})
    assert "access-control-allow-origin" not in read.headers
    service = client.app.state.service  # type: ignore[attr-defined]
    service.memory._used = lambda: service.memory.limit
    service.memory.look_again()
    busy = client.get("/recommend", headers={"Origin": "https://centre.example"})
    problem(busy, 503, "overloaded")
    assert busy.headers["access-control-allow-origin"] == "https://centre.example"
    assert busy.headers["x-content-type-options"] == "nosniff"
    without = site.client("read").get("/recommend", headers={"Origin": "https://centre.example"})
    assert "access-control-allow-origin" not in without.headers


def test_the_audit_names_who_was_told_which_list_and_no_caregiver(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    client = site.client("read")
    with caplog.at_level(logging.INFO, "bandicoot_api.audit"):
        answer = client.get("/recommend", params={"budget": BUDGET})
        client.post(OUTCOMES, json=[])
        client.get(f"/call-list/{CALL_DATE}", params={"limit": 7})
    lines = [json.loads(record.message) for record in caplog.records if record.name == "bandicoot_api.audit"]
    assert [line["audit"] for line in lines] == ["recommended", "refused", "recommended"]
    assert (lines[0]["returned"], lines[0]["tier"]) == (BUDGET, "standard")
    assert lines[0]["model_version"] == answer.json()["metadata"]["model_version"]
    assert (lines[2]["route"], lines[2]["list_date"], lines[2]["returned"]) == (
        "/call-list/{call_date}",
        CALL_DATE.isoformat(),
        7,
    )
    assert lines[0]["list_version"] == answer.json()["metadata"]["list_version"]
    assert lines[0]["request_id"] == answer.headers["x-request-id"]
    key = client.headers["Authorization"].removeprefix("Bearer ")
    assert lines[0]["key_id"] == key[4:16]
    everything = caplog.text
    assert key[17:] not in everything
    assert not any(caregiver in everything for caregiver in site.listed())


def test_without_redis_limits_are_counted_in_the_process_alone(cached_site: Site, redis_server: RedisServer) -> None:
    client = cached_site.client("read", api_reads_per_minute=3)
    redis_server.kill()
    try:
        statuses = [client.get("/recommend", params={"budget": 1}).status_code for _ in range(4)]
    finally:
        redis_server.start()
    assert statuses == [200, 200, 200, 429]


def test_a_client_that_goes_away_does_not_end_the_work_of_others(site: Site) -> None:
    client: TestClient = site.client("read", api_timeout_seconds=1)
    with ThreadPoolExecutor() as pool:
        with locked(site, "caregiver_states"):
            gone = pool.submit(client.get, "/recommend", params={"budget": 9})
            assert gone.result().status_code == 504
            waits = pool.submit(client.get, "/recommend", params={"budget": 9})
            time.sleep(0.2)
            assert n_waiting(site) == 1
        assert waits.result().status_code == 200
