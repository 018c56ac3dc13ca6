"""What docs/security.md walks through and no other test covers; most is made from the application's own routes."""

import ast
import json
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from bandicoot_api.guarded_route import Guard
from bandicoot_api.wire import MAX_HEAD_BYTES, BoundedHead
from tests.servers.redis import RedisServer
from tests.service.conftest import Site
from tests.service.serving import served
from tests.small_programme import CALL_DATE

ROOT = Path(__file__).parents[2]
SCOPES = ("read", "call", "admin")

OPEN = {"/openapi.json", "/health", "/ready", "/metrics"}
"""What asks for no key: what runs the service asks these, and they show no caregiver."""

OWN_SESSION = "call sheet"
"""Tag of the pages for people, who sign in; test_sheet_sessions tests that."""

SCOPE_OF = {
    "GET /recommend": "read",
    "GET /recommend/export": "read",
    "GET /call-list/{call_date}": "read",
    "GET /caregivers/{caregiver_id}": "read",
    "POST /assign_cluster": "read",
    "GET /jobs/{run_id}": "read",
    "POST /call-outcomes": "call",
    "POST /update_state": "call",
    "POST /train_clusters": "admin",
    "POST /precompute_indices": "admin",
}
"""Who may do what, once more and by hand: a new address is let in here by somebody who has thought about it."""


@dataclass(frozen=True)
class Address:
    """A method and a path of the application."""

    method: str
    path: str
    guard: Guard | None
    tags: tuple[str, ...]
    is_documented: bool

    @property
    def name(self) -> str:
        return f"{self.method} {re.sub(r':path}', '}', self.path)}"

    @property
    def asked(self) -> str:
        """The path with something in its places."""
        return (
            self.path.replace("{call_date}", CALL_DATE.isoformat())
            .replace("{caregiver_id:path}", "CG-1")
            .replace("{run_id}", str(uuid.uuid4()))
        )


def addresses(app: FastAPI) -> Iterator[Address]:
    for found in iter_route_contexts(app.routes):
        route = found.original_route
        for method in sorted(route.methods - {"HEAD"}):
            tags = tuple(getattr(route, "tags", ()))
            yield Address(method, found.path, getattr(route, "guard", None), tags, route.include_in_schema)


def guarded(app: FastAPI) -> list[Address]:
    found = [each for each in addresses(app) if each.guard is not None]
    assert len(found) >= 7
    return found


@contextmanager
def _connection(address: str) -> Iterator[socket.socket]:
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


def _taken(connection: socket.socket, piece: bytes, *, at_most: int) -> int:
    """Bytes that a server takes of a piece sent again and again before it ends the connection."""
    for n_sent in range(0, at_most, len(piece)):
        try:
            connection.sendall(piece)
        except ConnectionError:
            return n_sent
        time.sleep(0.001)
    return at_most


def asked_as(client: TestClient, address: Address, key: str | None, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return client.request(address.method, address.asked, headers={**headers, **more.pop("headers", {})}, **more)


def test_every_address_is_behind_a_guard_or_is_known_to_be_open(site: Site) -> None:
    for each in addresses(site.app()):
        if each.guard is None:
            assert each.path in OPEN or OWN_SESSION in each.tags, f"{each.name} asks for no key"
        else:
            assert SCOPE_OF[each.name] == each.guard.scope, f"{each.name} asks for another scope"


def test_of_every_set_of_scopes_those_that_have_an_addresss_scope_are_let_in_and_no_others(site: Site) -> None:
    app = site.app(api_trainings_per_hour=1000)
    client = site.client(app=app)
    keys = {scopes: site.key(*scopes) for n in (1, 2, 3) for scopes in combinations(SCOPES, n)}
    for each in guarded(app):
        assert each.guard is not None
        assert asked_as(client, each, None).status_code == 401, each.name
        for scopes, key in keys.items():
            status = asked_as(client, each, key).status_code
            if each.guard.scope in scopes:
                assert status not in (401, 403), f"{each.name} does not let in {scopes}"
            else:
                assert status == 403, f"{each.name} lets in {scopes}"


def test_the_document_says_which_scope_each_address_asks(site: Site) -> None:
    app = site.app()
    document = app.openapi()
    for each in guarded(app):
        method, _, path = each.name.partition(" ")
        assert each.guard is not None
        assert document["paths"][path][method.lower()]["security"] == [{"key": [each.guard.scope]}]


def test_every_address_is_in_the_document_and_no_other_page_is_served(site: Site) -> None:
    app = site.app()
    documented = {f"{method.upper()} {path}" for path, found in app.openapi()["paths"].items() for method in found}
    for each in addresses(app):
        assert each.name in documented or each.path == "/openapi.json" or OWN_SESSION in each.tags, each.name
    client = site.client("read", "call", "admin", app=app)
    for path in ("/docs", "/redoc", "/docs/oauth2-redirect", "/admin", "/debug", "/.env", "/static/", "/recommend/"):
        assert client.get(path).status_code == 404, path


def test_what_is_wrong_with_a_key_is_not_told(site: Site) -> None:
    good = site.key("read")
    expired = site.key("read", expires_at=site.now - timedelta(minutes=1))
    revoked = site.key("read")
    site.execute("UPDATE bandicoot.api_keys SET revoked_at = %s WHERE key_id = %s", site.now, revoked[4:16])
    client = site.client()
    wrong = [f"{good[:-1]}{'A' if good[-1] != 'A' else 'E'}", f"bdc_{'a' * 12}_{good[17:]}", expired, revoked, "x", ""]
    answers = [client.get("/recommend", headers={"Authorization": f"Bearer {text}"}) for text in wrong]
    assert {answer.status_code for answer in answers} == {401}
    assert len({(answer.json()["code"], answer.json()["message"]) for answer in answers}) == 1
    assert client.get("/recommend", headers={"Authorization": f"Bearer {good}"}).status_code == 200


def test_a_key_is_taken_from_nowhere_but_its_header(site: Site) -> None:
    key, client = site.key("read"), site.client()
    elsewhere: list[dict[str, Any]] = [
        {"params": {"key": key, "api_key": key, "access_token": key}},
        {"headers": {"X-Api-Key": key}},
        {"headers": {"Cookie": f"key={key}; session={key}; Authorization=Bearer {key}"}},
        {"headers": {"Authorization": key}},
        {"headers": {"Authorization": f"Basic {key}"}},
    ]
    for where in elsewhere:
        assert client.get("/recommend", **where).status_code == 401, where


def test_every_address_counts_its_requests(site: Site) -> None:
    options = {"api_reads_per_minute": 1, "api_bulk_per_minute": 1, "api_trainings_per_hour": 1}
    for each in guarded(site.app()):
        if each.guard is not None and each.guard.scope == "admin":
            continue  # a start that is refused does not count; test_runs tests that
        client, key = site.client(**options), site.key(*SCOPES)
        first, second = asked_as(client, each, key), asked_as(client, each, key)
        assert (first.status_code == 429, second.status_code) == (False, 429), each.name
        assert int(second.headers["retry-after"]) >= 1


def test_every_address_bounds_its_body_before_it_knows_the_key(site: Site) -> None:
    app = site.app(api_max_body_kb=1, api_max_bulk_mb=1)
    client = site.client(app=app)
    for each in guarded(app):
        response = asked_as(client, each, None, content=b"x" * (1024 * 1024 + 1))
        assert response.status_code == 413, each.name
        assert response.json()["details"]["max_bytes"] in (1024, 1024 * 1024)


def test_no_answer_has_more_rows_than_a_thousand(site: Site) -> None:
    client = site.client("read")
    for path, query in (
        ("/recommend", {"budget": 1001}),
        ("/recommend/export", {"budget": 1001}),
        (f"/call-list/{CALL_DATE}", {"limit": 1001}),
        (f"/call-list/{CALL_DATE}", {"after_rank": 2**31}),
    ):
        assert client.get(path, params=query).status_code == 422, (path, query)


def test_no_body_has_more_rows_than_ten_thousand(site: Site) -> None:
    client = site.client("call")
    for path in ("/call-outcomes", "/update_state"):
        response = client.post(path, json=[{}] * 10_001)
        assert response.status_code == 422
        assert response.json()["details"] == {"max_rows": 10_000}


NOT_STORABLE: list[tuple[str, Any]] = [
    ("/recommend?district=%00", None),
    ("/recommend/export?district=%00", None),
    (f"/call-list/{CALL_DATE}?district=%00", None),
    ("/recommend?model_version=%00", None),
    ("/assign_cluster", {"caregivers": [{"enrolled_at": "9999-12-31T00:00:00Z"}]}),
    ("/assign_cluster", {"caregivers": [{"enrolled_at": "0001-01-01T00:00:00+14:00"}]}),
    ("/assign_cluster", {"caregivers": [{"enrolled_at": "1700000000"}]}),
    ("/assign_cluster", {"caregivers": [{"enrolled_at": 1700000000}]}),
    ("/assign_cluster", {"caregivers": [{"\ud800": 1}]}),
    ("/call-outcomes", {"call_id": "\ud800"}),
    ("/call-outcomes", {"call_id": "c-1", "\ud800": 1}),
    ("/call-outcomes", {"call_id": "c-1", "attempted_at": "1763500000", "call_date": "2026-11-19"}),
]


def test_what_no_store_can_hold_is_refused_and_breaks_nothing(site: Site) -> None:
    client = site.client(*SCOPES)
    for path, body in NOT_STORABLE:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        response = client.request("POST" if content else "GET", path, content=content, headers=headers)
        assert response.status_code == 422, (path, body, response.text)


def test_a_field_that_is_not_asked_for_is_refused(site: Site) -> None:
    client = site.client("read", "call")
    outcome = {
        "call_id": "c-1",
        "caregiver_id": site.listed()[0],
        "call_date": CALL_DATE.isoformat(),
        "attempted_at": "2026-11-19T11:00:00+05:30",
        "outcome": "reached",
    }
    refused = client.post("/call-outcomes", json={**outcome, "recorded_by": "somebody else"})
    assert refused.status_code == 422
    assert refused.json()["details"]["results"][0]["column"] == "recorded_by"
    caregiver = {"enrolled_at": "2026-11-18T10:00:00Z", "cluster_id": 3}
    assert client.post("/assign_cluster", json={"caregivers": [caregiver]}).status_code == 422
    assert client.post("/assign_cluster", json={"caregivers": [], "model_version": "m"}).status_code == 422
    assert site.execute("SELECT count(*) FROM bandicoot.call_outcomes WHERE call_id = 'c-1'") == [(0,)]


def test_no_answer_has_a_field_for_what_nobody_should_see(site: Site) -> None:
    schemas = site.app().openapi()["components"]["schemas"]
    fields = {field for schema in schemas.values() for field in schema.get("properties", {})}
    hidden = re.compile(r"phone|name$|address|hash|salt|secret|password|caregiver_key|suppression", re.IGNORECASE)
    assert {"caregiver_id", "reason"} <= fields
    found = {field for field in fields if hidden.search(field)}
    assert found <= {"phone_reliable"}  # whether a phone was reliable, which the registry says of a new caregiver


def test_no_page_without_a_key_names_a_caregiver_or_a_client(site: Site) -> None:
    client = site.client("read")
    client.get("/recommend")
    clients = [str(row[0]) for row in site.execute("SELECT client FROM bandicoot.api_keys")]
    for path in OPEN:
        text = site.client(app=client.app).get(path).text  # type: ignore[arg-type]
        assert not [each for each in (*site.listed(), *clients) if each in text], path


def test_only_the_client_of_dagster_asks_other_servers_over_http() -> None:
    clients = {"httpx", "requests", "urllib", "urllib3", "aiohttp", "http", "socket"}
    asking = set()
    for module in sorted((ROOT / "bandicoot_api").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if {name.partition(".")[0] for name in names} & clients and names != ["urllib.parse"]:
                asking.add(module.name)
    assert asking <= {"dagster_runs.py"}


def test_no_request_can_name_an_address_for_the_service_to_ask(site: Site) -> None:
    document = json.dumps(site.app().openapi())
    assert '"uri"' not in document
    assert not re.search(r'"(\w+_)?(url|uri|callback|webhook|host)"', document)


def test_the_address_of_dagster_is_a_setting_and_must_be_one(site: Site) -> None:
    for wrong in ("file:///etc/passwd", "gopher://here", "//here"):
        with pytest.raises(Exception, match="api_dagster_url"):
            site.app(api_dagster_url=wrong)


def test_a_store_that_is_broken_is_not_described_to_who_asks(site: Site) -> None:
    client = site.client(*SCOPES)
    site.execute("ALTER TABLE bandicoot.caregiver_states RENAME TO hidden_states")
    site.execute("ALTER TABLE bandicoot.call_list RENAME TO hidden_list")
    (site.stores.settings.home / "lake").rename(site.stores.settings.home / "elsewhere")
    body = {"caregivers": [{"enrolled_at": "2026-11-18T10:00:00Z"}]}
    found = [
        client.get("/recommend"),
        client.get("/caregivers/CG-000001"),
        client.get(f"/call-list/{CALL_DATE}"),
        client.post("/assign_cluster", json=body),
    ]
    inside = re.compile(r"traceback|psycopg|SELECT|relation|caregiver_states|hidden|\.py|/tmp|/lake|host|user=", re.I)
    for response in found:
        assert response.status_code >= 500, response.text
        assert not inside.search(response.text), response.text


def test_the_server_does_not_say_what_it_is_and_refuses_what_is_no_http(site: Site) -> None:
    with served(site.app()) as address, httpx.Client(base_url=address) as client:
        for path in ("/health", "/nowhere"):
            found = client.get(path)
            assert "server" not in found.headers
            assert "x-powered-by" not in found.headers
        for method in ("TRACE", "CONNECT", "PUT", "DELETE"):
            assert client.request(method, "/recommend").status_code == 405, method
        assert client.request("BREW", "/recommend").status_code == 400


def test_a_head_without_end_is_read_no_further_than_its_limit(site: Site) -> None:
    with served(site.app()) as address, _connection(address) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert _taken(connection, b"X-Long: " + b"x" * 8192 + b"\r\n", at_most=16 * 1024 * 1024) < 8 * MAX_HEAD_BYTES


@pytest.mark.parametrize("begun", [b"", b"GET /health HTTP/1.1\r\nX-Slow: "])
def test_a_head_that_does_not_come_in_time_ends_the_connection(
    site: Site, begun: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedHead, "head_seconds", 0.5)
    with served(site.app()) as address:
        with _connection(address) as connection:
            connection.sendall(begun)
            started = time.monotonic()
            assert connection.recv(1024) == b""
            assert time.monotonic() - started < 5
        with httpx.Client(base_url=address) as client:
            for _ in range(3):
                assert client.get("/health").status_code == 200
                time.sleep(0.3)  # longer, together, than a head may take


def _forgeries(right: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Answers of the right version that are not what was asked, or not whole."""

    def changed(metadata: dict[str, Any], rows: Any) -> dict[str, Any]:
        return {"metadata": {**right["metadata"], "cached": True, **metadata}, "recommendations": rows}

    rows, filters = right["recommendations"], right["metadata"]["filters"]
    yield "another question", changed({"filters": {**filters, "budget": 6}}, rows)
    yield "fewer rows", changed({}, rows[:-1])
    yield "more rows", changed({"returned": 6}, [*rows, {**rows[-1], "rank": 6}])
    yield "other fields", changed({}, [{**row, "phone": "0"} for row in rows])
    yield "another order", changed({}, rows[::-1])
    yield "no rows", changed({}, "none")


def test_an_answer_in_redis_that_is_not_whole_is_made_again(cached_site: Site) -> None:
    right = cached_site.client("read").get("/recommend", params={"budget": 5}).json()
    cache = cached_site.stores.cache
    assert cache is not None
    found = cache.ask(lambda client: list(client.scan_iter(match=b"recommend:*"))) or []
    assert len(found) == 1
    for what, forged in _forgeries(right):
        cache.keep(found[0], json.dumps(forged).encode(), seconds=60)
        again = cached_site.client("read").get("/recommend", params={"budget": 5}).json()
        assert not again["metadata"]["cached"], what
        assert again["recommendations"] == right["recommendations"], what
    assert cached_site.client("read").get("/recommend", params={"budget": 5}).json()["metadata"]["cached"]


def test_counts_in_redis_that_are_no_numbers_stop_nobody_and_let_nobody_through(
    cached_site: Site, redis_server: RedisServer
) -> None:
    client = cached_site.client("read", api_reads_per_minute=3)
    assert client.get("/recommend").status_code == 200
    cache = cached_site.stores.cache
    assert cache is not None
    for key in cache.ask(lambda redis: list(redis.scan_iter(match=b"limit:*"))) or []:
        cache.keep(key, b"many", seconds=60)
    assert [client.get("/recommend").status_code for _ in range(4)][:2] == [200, 200]
    assert client.get("/recommend").status_code == 429


def test_every_test_that_the_security_document_names_is_there() -> None:
    text = (ROOT / "docs" / "security.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) >= 25
    for number in range(1, 11):
        section = re.search(rf"^## API{number}:.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
        assert section is not None, f"API{number} is not walked through"
        assert re.search(r"`tests/[\w/]+\.py::\w+`", section[0]), f"API{number} names no test"
    for file, name in named:
        module = ast.parse((ROOT / file).read_text())
        assert name in {node.name for node in module.body if isinstance(node, ast.FunctionDef)}, f"{file}::{name}"
