"""Whose key opens what, until when, and where keys are known from while PostgreSQL is away."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from bandicoot_api.app import create_app
from bandicoot_core.settings import load_service_options
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.published.api_keys import parse_key, revoke_key, rotate_key
from bandicoot_core.stores.published.roles import apply_roles
from tests.servers.redis import RedisServer
from tests.service.conftest import BUDGET, Site
from tests.service.test_guards import locked, n_waiting, until
from tests.small_programme import CALL_DATE


def parts(key: str) -> tuple[str, str]:
    parsed = parse_key(key)
    assert parsed is not None
    return parsed


def asked(client: TestClient, key: str | None = None, path: str = "/recommend") -> httpx.Response:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return client.get(path, headers=headers)


def revoked(site: Site, key: str) -> None:
    with site.stores.published() as connection:
        revoke_key(connection, parts(key)[0], now=site.now)


def rotated(site: Site, key: str, **more: timedelta) -> str:
    with site.stores.published() as connection:
        return rotate_key(connection, parts(key)[0], now=site.now, **more)[0]


def pass_time(client: TestClient, seconds: float) -> None:
    """What the process knows of keys is as old as if so much time had passed."""
    clients = client.app.state.service.clients  # type: ignore[attr-defined]
    later = clients._monotonic() + seconds
    clients._monotonic = lambda: later


def test_a_revoked_key_is_refused_within_the_configured_seconds_by_every_process(site: Site) -> None:
    key = site.key("read")
    processes = [site.client(api_keys_seconds=0.5) for _ in range(2)]
    assert [asked(client, key).status_code for client in processes] == [200, 200]
    revoked(site, key)
    since = time.monotonic()
    while any(asked(client, key).status_code == 200 for client in processes):
        assert time.monotonic() - since < 0.5 + 1  # and what the last request may take
    assert [asked(client, key).json()["code"] for client in processes] == ["not_authenticated"] * 2


def test_keys_are_read_again_when_their_time_is_over_and_not_before(site: Site) -> None:
    key, client = site.key("read"), site.client(api_keys_seconds=10)
    assert asked(client, key).status_code == 200
    revoked(site, key)
    pass_time(client, 9)
    assert asked(client, key).status_code == 200
    pass_time(client, 2)
    assert asked(client, key).status_code == 401


def test_keys_are_as_old_as_the_question_and_not_as_its_answer(site: Site) -> None:
    key, client = site.key("read"), site.client(api_keys_seconds=10)
    with ThreadPoolExecutor() as pool:
        with locked(site, "api_keys"):
            answer = pool.submit(asked, client, key)
            until(lambda: n_waiting(site) == 1)
            pass_time(client, 8)
        assert answer.result().status_code == 200
    revoked(site, key)
    pass_time(client, 3)
    assert asked(client, key).status_code == 401


def test_keys_that_come_too_late_for_who_asked_are_there_for_the_next(site: Site) -> None:
    key, client = site.key("read"), site.client(api_database_seconds=0.3)
    clients = client.app.state.service.clients  # type: ignore[attr-defined]
    with locked(site, "api_keys"):
        assert asked(client, key).status_code == 503
        assert clients._keys is None
    until(lambda: clients._keys is not None)


def test_a_new_key_is_known_within_a_second(site: Site) -> None:
    client = site.client(api_keys_seconds=3600)
    assert asked(client, site.key("read")).status_code == 200
    key = site.key("read")
    pass_time(client, 1)
    assert asked(client, key).status_code == 200


def test_a_key_expires_in_its_moment_whatever_was_read_when(site: Site) -> None:
    key = site.key("read", expires_at=site.now + timedelta(hours=1))
    client = site.client(api_keys_seconds=3600)
    site.now += timedelta(hours=1) - timedelta(microseconds=1)
    assert asked(client, key).status_code == 200
    site.now += timedelta(microseconds=1)
    assert asked(client, key).status_code == 401


def test_old_and_new_key_both_open_while_one_replaces_the_other(site: Site) -> None:
    old = site.key("read", tier="fast")
    new = rotated(site, old, overlap=timedelta(days=1))
    client = site.client()
    answers = [asked(client, key) for key in (old, new)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.json()["metadata"]["tier"] for answer in answers] == ["fast", "fast"]
    site.now += timedelta(days=1)
    assert [asked(client, key).status_code for key in (old, new)] == [401, 200]


def test_a_key_replaced_without_overlap_opens_no_more(site: Site) -> None:
    old = site.key("read")
    new = rotated(site, old, overlap=timedelta(0))
    client = site.client()
    assert [asked(client, key).status_code for key in (old, new)] == [401, 200]


def test_only_the_whole_key_opens(site: Site) -> None:
    key, client = site.key("read"), site.client()
    (key_id, secret), (other_id, other_secret) = parts(key), parts(site.key("read"))
    assert asked(client, key).status_code == 200
    wrong = [
        f"bdc_{key_id}_{other_secret}",
        f"bdc_{other_id}_{secret}",
        f"bdc_{'a' * 12}_{secret}",
        f"bdc_{key_id}_{secret[:-1]}",
        f"bdc_{key_id}_{secret}x",
        f"bdc_{key_id}_{site.execute('SELECT secret_hash FROM bandicoot.api_keys')[0][0]}",
        key.upper(),
        key_id,
        secret,
        "",
    ]
    refused = [asked(client, text) for text in wrong] + [asked(client)]
    headers = [f"Basic {key}", key, f"Bearer{key}", f"Bearer {key} {key}", f"Bearer {key},{key}"]
    refused += [client.get("/recommend", headers={"Authorization": header}) for header in headers]
    refused.append(client.get("/recommend", params={"key": key, "access_token": key}))
    assert [answer.status_code for answer in refused] == [401] * len(refused)
    # Nobody learns which part was wrong.
    assert len({answer.json()["message"] for answer in refused}) == 1
    assert {answer.headers["www-authenticate"] for answer in refused} == {"Bearer"}
    assert f'bandicoot_api_refused_total{{guard="key"}} {len(refused)}.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("scopes", "allowed"),
    [(["read"], {"read"}), (["call"], {"call"}), (["read", "call"], {"read", "call"}), (["admin"], set())],
)
def test_a_key_opens_only_what_its_scopes_name(site: Site, scopes: list[str], allowed: set[str]) -> None:
    client = site.client(*scopes)
    found = {
        "read": [
            client.get("/recommend"),
            client.get("/recommend/export"),
            client.get(f"/call-list/{CALL_DATE}"),
            client.get(f"/caregivers/{site.listed()[0]}"),
            client.post("/assign_cluster", json={"caregivers": []}),
        ],
        "call": [client.post("/call-outcomes", json=[]), client.post("/update_state", json=[])],
    }
    for scope, answers in found.items():
        for answer in answers:
            assert (answer.status_code != 403) == (scope in allowed), answer.url
            if scope not in allowed:
                assert (answer.json()["code"], answer.json()["details"]) == ("not_allowed", {"scope": scope})


def test_no_answer_and_no_log_shows_a_secret(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    key = site.key("read")
    key_id, secret = parts(key)
    client = site.client()
    answers = [asked(client, key), asked(client, f"bdc_{'a' * 12}_{secret}"), asked(client, key, "/caregivers/nobody")]
    answers += [client.post("/call-outcomes", json=[], headers={"Authorization": f"Bearer {key}"})]
    assert [answer.status_code for answer in answers] == [200, 401, 404, 403]
    stored = site.execute("SELECT salt, secret_hash FROM bandicoot.api_keys")[0]
    said = caplog.text + "".join(f"{answer.headers} {answer.text}" for answer in answers) + client.get("/metrics").text
    assert key_id in caplog.text  # the audit names the key
    for hidden in (secret, *stored):
        assert str(hidden) not in said


def test_keys_are_known_from_redis_to_a_process_that_starts_while_postgresql_is_away(cached_site: Site) -> None:
    key, gone = cached_site.key("read", tier="fast"), cached_site.key("read")
    to_expire = cached_site.key("read", expires_at=cached_site.now + timedelta(hours=1))
    revoked(cached_site, gone)
    assert asked(cached_site.client(), key).status_code == 200
    wrong = f"bdc_{parts(key)[0]}_{parts(gone)[1]}"
    with cached_site.database_away():
        started = cached_site.client()
        answer = asked(started, key)
        assert (answer.status_code, answer.json()["metadata"]["is_stale"]) == (200, True)
        assert len(answer.json()["recommendations"]) == BUDGET
        assert [asked(started, text).status_code for text in (gone, wrong)] == [401, 401]
        assert asked(started, to_expire).status_code == 200
        cached_site.now += timedelta(hours=1)
        assert asked(started, to_expire).status_code == 401


def test_a_key_revoked_as_an_outage_ends_is_refused_by_a_process_that_started_in_it(cached_site: Site) -> None:
    key = cached_site.key("read", tier="fast")
    assert asked(cached_site.client(), key).status_code == 200
    with cached_site.database_away():
        started = cached_site.client(api_keys_seconds=0)
        assert asked(started, key).status_code == 200
    revoked(cached_site, key)
    pass_time(started, 1)
    assert asked(started, key).status_code == 401


def test_a_process_that_knows_no_keys_says_so_and_refuses_nobody_as_wrong(site: Site) -> None:
    key = site.key("read")
    with site.database_away():
        started = site.client()
        answer = asked(started, key)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert "Retry-After" in answer.headers
    pass_time(started, 10)
    time.sleep(1.1)  # PostgreSQL is asked again a second after it did not answer
    assert asked(started, key).status_code == 200


def test_redis_holds_hashes_and_no_secret(cached_site: Site) -> None:
    keys = [cached_site.key("read") for _ in range(3)]
    client = cached_site.client()
    assert [asked(client, key).status_code for key in keys] == [200] * 3
    cache = cached_site.stores.cache
    assert cache is not None
    names = cache.ask(lambda redis: list(redis.scan_iter())) or []
    held = cache.ask(lambda redis: [redis.dump(name) for name in names]) or []
    everything = b"".join(names) + b"".join(held)
    (kept,) = cache.read([b"api:keys"]) or [None]
    assert kept is not None
    assert {row["key_id"] for row in json.loads(kept)} == {parts(key)[0] for key in keys}
    assert b"secret_hash" in kept
    for key in keys:
        assert parts(key)[1].encode() not in everything + kept


@pytest.mark.parametrize(
    "text", [b"", b"no JSON", b"{}", b"[1]", b'[{"key_id": "x"}]', b'[{"key_id": null, "salt": "zz"}]', b"\xff"]
)
def test_what_is_no_list_of_keys_in_redis_opens_to_nobody(cached_site: Site, text: bytes) -> None:
    key = cached_site.key("read")
    cache = cached_site.stores.cache
    assert cache is not None
    cache.keep(b"api:keys", text, seconds=60)
    with cached_site.database_away():
        answer = asked(cached_site.client(), key)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_what_somebody_wrote_into_redis_counts_for_nothing_while_postgresql_answers(cached_site: Site) -> None:
    key = cached_site.key("read")
    cache = cached_site.stores.cache
    assert cache is not None
    assert asked(cached_site.client(), key).status_code == 200
    kept = (cache.read([b"api:keys"]) or [None])[0]
    assert kept is not None
    with_admin = [row | {"scopes": ["admin", "call", "read"]} for row in json.loads(kept)]
    cache.keep(b"api:keys", json.dumps(with_admin).encode(), seconds=60)
    answer = cached_site.client().post("/call-outcomes", json=[], headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 403


def in_its_role(site: Site) -> Installation:
    """The site's installation as the user of the service opens it."""
    with site.stores.published() as connection:
        apply_roles(connection)
    url = SecretStr(f"{site.stores.database_url}&options=-c%20role%3Dbandicoot_service")
    return Installation(site.stores.settings.model_copy(update={"database_url": url}))


def app_over(stores: Installation, site: Site) -> FastAPI:
    return create_app(stores, load_service_options(api_check_seconds=0), site.list_options, clock=lambda: site.now)


def test_a_right_that_the_service_lacks_is_its_own_fault_and_named_in_its_log_alone(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    stores = in_its_role(site)
    try:
        client = site.client("read", app=app_over(stores, site))
        site.execute("REVOKE SELECT ON bandicoot.call_list FROM bandicoot_service, bandicoot_reader")
        found = client.get(f"/call-list/{CALL_DATE}")
    finally:
        stores.close()
    assert (found.status_code, found.json()["code"]) == (500, "internal_error")
    assert "call_list" not in found.text
    assert "permission denied" in caplog.text
    assert found.headers["x-request-id"] in caplog.text


def test_the_service_needs_no_more_than_its_role(open_site: Callable[..., Site], redis_server: RedisServer) -> None:
    site = open_site(redis_url=redis_server.url, redis_pause_seconds=0)
    stores = in_its_role(site)
    client = site.client("read", "call", app=app_over(stores, site))
    try:
        with stores.published() as connection:
            assert connection.execute("SELECT current_user").fetchone() == ("bandicoot_service",)
        first, second = site.listed()[:2]
        outcome = {
            "call_id": "c-1",
            "caregiver_id": first,
            "call_date": CALL_DATE.isoformat(),
            "attempted_at": "2026-11-19T11:00:00+05:30",
            "outcome": "reached",
        }
        event = {
            "event_type": "sms_opened",
            "caregiver_id": second,
            "timestamp": "2026-11-19T11:30:00+05:30",
            "metadata": {"message_id": "M-noon"},
        }
        stranger = event | {"caregiver_id": "CG-unknown"}
        mother = {"enrolled_at": "2026-11-18T11:30:00+05:30", "district": "Gaya"}
        answers = [
            client.get("/recommend"),
            client.get("/recommend/export"),
            client.get(f"/call-list/{CALL_DATE}"),
            client.get(f"/caregivers/{first}"),
            client.post("/call-outcomes", json=outcome),
            client.post("/update_state", json=[event, stranger, {"event_type": "nothing"}]),
            client.post("/assign_cluster", json={"caregivers": [mother]}),
            client.get("/ready"),
            client.get("/metrics"),
        ]
        assert [answer.status_code for answer in answers] == [200] * 9, [answer.text[:300] for answer in answers]
        assert answers[4].json()["n_recorded"] == 1
        taken_in = answers[5].json()
        assert [taken_in[name] for name in ("n_new", "n_waiting", "n_dead", "n_states_changed")] == [1, 1, 1, 1]
        assert first not in [row["caregiver_id"] for row in client.get("/recommend").json()["recommendations"]]
    finally:
        stores.close()
