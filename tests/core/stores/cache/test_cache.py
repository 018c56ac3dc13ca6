"""The connection to a real Redis: what a reader waits for, what it leaves alone, and how a caregiver is forgotten."""

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from published_rows import AWKWARD_IDS, DAY

from bandicoot_core.errors import InvalidSettingError, RefusedWriteError, UnreachableError
from bandicoot_core.settings import Settings
from bandicoot_core.stores.cache.cache import Cache, forget, open_cache
from bandicoot_core.stores.cache.keys import index_key, recommendation_key, state_key
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.processes import free_port, private_folder
from tests.servers.redis import RedisServer, running_redis

TIMEOUT_SECONDS = 0.25


@pytest.fixture
def certificates() -> Iterator[Certificates]:
    with private_folder("tls") as folder:
        yield make_certificates(folder)


def opened(url: str, **settings: object) -> Cache:
    cache = open_cache(Settings(redis_url=url, **settings))
    assert cache is not None
    return cache


def test_the_keys_are_those_that_consumers_are_told() -> None:
    assert index_key("2026-11-15-1a2b3c4d", 3, "U") == b"whittle:2026-11-15-1a2b3c4d:3:U"
    assert state_key("CG-12345") == b"state:CG-12345"
    key = recommendation_key(DAY, {"district": "Gaya", "budget": 5})
    assert key.startswith(b"recommend:2026-11-20:")
    assert key == recommendation_key(DAY, {"budget": 5, "district": "Gaya"})
    assert key != recommendation_key(DAY, {"budget": 6, "district": "Gaya"})
    assert key != recommendation_key(DAY + timedelta(days=1), {"district": "Gaya", "budget": 5})


def test_without_a_url_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_cache(Settings()) is None
    monkeypatch.setenv("BANDICOOT_REDIS_URL", "")
    assert open_cache(Settings()) is None


def test_a_url_that_cannot_be_read_is_refused_without_showing_its_password() -> None:
    for url in ("http://user:hunter2@cache", "redis://user:hunter2@cache:many/0"):
        with pytest.raises(InvalidSettingError, match="BANDICOOT_REDIS_URL") as refused:
            opened(url)
        assert "hunter2" not in str(refused.value)


def test_values_come_back_from_both_kinds_of_addresses(redis_server: RedisServer) -> None:
    keys = [state_key(caregiver_id) for caregiver_id in AWKWARD_IDS]
    writer, reader = opened(redis_server.url), opened(redis_server.socket_url)
    for number, key in enumerate(keys):
        assert writer.keep(key, str(number).encode(), seconds=60)
    assert redis_server.names() == set(keys)
    assert reader.read([*keys, b"state:nobody"]) == [*(str(n).encode() for n in range(len(keys))), None]
    with redis_server.client() as client:
        assert {0 < client.ttl(key) <= 60 for key in keys} == {True}


def test_a_server_that_refuses_connections_costs_a_reader_nothing_more_for_a_while(redis_server: RedisServer) -> None:
    moment = [0.0]
    settings = open_cache(Settings(redis_url=redis_server.url, redis_pause_seconds=30))
    assert settings is not None
    cache = Cache(redis_server.url, settings.options, monotonic=lambda: moment[0])
    redis_server.kill()
    try:
        for _ in range(1000):
            assert cache.read([b"state:A"]) is None
        assert cache.tallies == {"failed": 1, "skipped": 999}
        moment[0] = 30.5
        assert cache.read([b"state:A"]) is None
        assert cache.tallies["failed"] == 2
    finally:
        redis_server.start()
    moment[0] = 61.5
    assert cache.read([b"state:A"]) == [None]


def test_a_server_that_hangs_is_waited_for_once_and_no_longer_than_configured(redis_server: RedisServer) -> None:
    warm, cold = opened(redis_server.url), opened(redis_server.url)
    assert warm.read([b"state:A"]) == [None]
    redis_server.pause()
    try:
        for cache in (warm, cold):
            started = time.monotonic()
            assert cache.read([b"state:A"]) is None
            took = time.monotonic() - started
            assert 0.8 * TIMEOUT_SECONDS < took < 2 * TIMEOUT_SECONDS + 0.3
            started = time.monotonic()
            assert not any(cache.keep(b"state:A", b"1", seconds=1) for _ in range(100))
            assert time.monotonic() - started < 0.1
    finally:
        redis_server.resume()


def test_answers_that_come_too_slowly_one_after_the_other_are_not_waited_for(redis_server: RedisServer) -> None:
    options = opened(redis_server.url).options
    moment = [0.0]

    def later() -> float:
        moment[0] += seconds_each
        return moment[0]

    cache = Cache(redis_server.url, options, monotonic=later)
    seconds_each = 0.2
    assert cache.read([b"state:A"] * 5000) == [None] * 5000
    seconds_each = 0.3
    assert cache.read([b"state:A"] * 5000) is None
    assert cache.is_paused


def test_a_server_that_was_restarted_is_used_again_at_once(redis_server: RedisServer) -> None:
    cache = opened(redis_server.url)
    assert cache.keep(b"state:A", b"1", seconds=60)
    redis_server.restart()
    assert cache.read([b"state:A"]) == [None]
    assert not cache.is_paused


def test_a_full_server_keeps_nothing_and_is_still_read(redis_server: RedisServer) -> None:
    cache = opened(redis_server.url)
    assert cache.keep(b"state:A", b"1", seconds=60)
    redis_server.configure(maxmemory="1", maxmemory_policy="noeviction")
    try:
        assert not cache.keep(b"state:B", b"1", seconds=60)
        assert cache.read([b"state:A", b"state:B"]) == [b"1", None]
        assert cache.tallies == {"answered": 2, "refused": 1}
    finally:
        redis_server.restart()


def test_a_password_that_is_wrong_is_told_without_it(redis_server: RedisServer) -> None:
    redis_server.configure(requirepass="open-sesame")
    try:
        cache = opened(redis_server.url.replace("redis://", "redis://:hunter2@"))
        assert cache.read([b"state:A"]) is None
        with pytest.raises(UnreachableError, match=rf"127\.0\.0\.1:{redis_server.port}") as refused:
            forget(cache, "A")
        assert "hunter2" not in str(refused.value)
        right = opened(redis_server.url.replace("redis://", "redis://:open-sesame@"))
        assert right.read([b"state:A"]) == [None]
    finally:
        redis_server.restart()


def test_a_server_with_tls_is_trusted_by_its_authority_and_no_other(certificates: Certificates) -> None:
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file", str(certificates.ca)]
    options += ["--tls-cert-file", str(certificates.certificate), "--tls-key-file", str(certificates.key)]
    with running_redis(*options):
        trusting = opened(f"rediss://localhost:{port}/0?ssl_ca_certs={certificates.ca}", redis_timeout_seconds=5)
        assert trusting.keep(b"state:A", b"1", seconds=60)
        assert trusting.read([b"state:A"]) == [b"1"]
        assert forget(trusting, "A") == 1
        strange = opened(f"rediss://localhost:{port}/0", redis_timeout_seconds=5)
        assert strange.read([b"state:A"]) is None
        with pytest.raises(UnreachableError, match="certificate"):
            forget(strange, "A")


def test_forgetting_removes_her_state_and_every_recommendation_and_nothing_else(redis_server: RedisServer) -> None:
    cache = opened(redis_server.url)
    for caregiver_id in AWKWARD_IDS:
        others = {state_key(other) for other in AWKWARD_IDS if other != caregiver_id} | {b"whittle:m-1:0:U"}
        for key in (*others, state_key(caregiver_id)):
            assert cache.keep(key, b"{}", seconds=60)
        for number in range(3):
            assert cache.keep(recommendation_key(DAY, {"district": number}), b"{}", seconds=60)
        assert forget(cache, caregiver_id) == 4
        assert redis_server.names() == others
        assert forget(cache, caregiver_id) == 0


def test_many_recommendations_are_removed_among_many_states(redis_server: RedisServer) -> None:
    with redis_server.client() as client, client.pipeline(transaction=False) as pipeline:
        for number in range(2500):
            pipeline.set(recommendation_key(DAY, {"n": number}), b"{}", ex=60)
            pipeline.set(state_key(f"CG-{number}"), b"{}", ex=60)
        pipeline.execute()
    assert forget(opened(redis_server.url), "CG-7") == 2501
    assert len(redis_server.names()) == 2499


def test_forgetting_is_not_done_quietly_when_redis_is_away_or_forbids_it(redis_server: RedisServer) -> None:
    cache = opened(redis_server.url)
    redis_server.kill()
    try:
        with pytest.raises(UnreachableError, match=r"forgetting a caregiver .*start Redis") as refused:
            forget(cache, "CG-secret")
        assert "CG-secret" not in str(refused.value)
    finally:
        redis_server.start()
    with redis_server.client() as client:
        client.acl_setuser("looker", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-unlink"])
    looker = opened(redis_server.url.replace("redis://", "redis://looker:pw@"))
    with pytest.raises(RefusedWriteError, match="unlink"):
        forget(looker, "CG-secret")
    redis_server.restart()
