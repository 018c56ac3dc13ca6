"""What is answered while something changes: a list that comes out under a request, a Redis that has lost everything."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from fastapi.testclient import TestClient

from bandicoot_core.stores.cache.keys import LIST_KEY, LIST_NAME_KEY
from bandicoot_core.stores.cache.list_snapshot import cached_snapshot
from tests.servers.redis import RedisServer
from tests.service.conftest import BUDGET, Site
from tests.small_programme import CALL_DATE

AGE = "bandicoot_api_list_age_seconds "


def answered(client: TestClient, **query: object) -> dict:
    response = client.get("/recommend", params={"budget": BUDGET, **query})
    assert response.status_code == 200, response.text
    return response.json()


def publish_without_first(site: Site) -> None:
    site.execute(
        "WITH gone AS (DELETE FROM bandicoot.call_list WHERE rank = 1) "
        "UPDATE bandicoot.list_publications SET n_rows = n_rows - 1, run_id = 'by hand' WHERE call_date = %s",
        CALL_DATE,
    )


@pytest.mark.parametrize("tier", ["fast", "standard"])
def test_an_answer_names_the_version_its_rows_are_of_though_a_list_came_out_meanwhile(
    cached_site: Site, tier: str
) -> None:
    client = cached_site.client("read", tier=tier, api_check_seconds=60)
    before = answered(client)
    publish_without_first(cached_site)
    assert answered(client)["metadata"]["list_version"] == before["metadata"]["list_version"]  # still believed
    client.app.state.service.newest_list._held = None  # as in a process that has not read the list yet
    made_now = answered(client, budget=BUDGET - 1)
    told_anew = answered(cached_site.client("read", tier=tier), budget=BUDGET - 1)
    assert made_now["metadata"]["list_version"] == told_anew["metadata"]["list_version"]
    assert made_now["recommendations"] == told_anew["recommendations"]


def test_who_asks_after_a_list_came_out_is_not_told_of_the_old_one_by_a_question_asked_before(site: Site) -> None:
    client = site.client("read", tier="fast", api_check_seconds=0.3, api_database_seconds=20)
    listed = [row["caregiver_id"] for row in answered(client)["recommendations"]]
    time.sleep(0.4)
    found: list[str] = []

    def ask() -> None:
        found.append(answered(client)["recommendations"][0]["caregiver_id"])

    with slow_answers(site) as may_end:
        first = threading.Thread(target=ask)
        first.start()
        wait_for_question(site)
        time.sleep(0.5)
        publish_without_first(site)
        second = threading.Thread(target=ask)
        second.start()
        time.sleep(0.1)
        may_end.set()
    first.join()
    second.join()
    assert found[-1] == listed[1]


def test_a_redis_that_has_lost_everything_gets_the_list_again_for_when_postgresql_is_away(
    cached_site: Site, redis_server: RedisServer
) -> None:
    client = cached_site.client("read")
    answered(client)
    redis_server.flush()
    client.app.state.service.newest_list._looked_at = float("-inf")  # as some seconds later
    answered(client)
    deadline = time.monotonic() + 20
    while LIST_KEY not in redis_server.names():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with cached_site.database_away():
        told = answered(client)
    assert (told["metadata"]["tier_reason"], told["metadata"]["is_stale"]) == ("database_away", True)
    assert [row["caregiver_id"] for row in told["recommendations"]] == cached_site.listed()


def test_a_list_that_came_out_while_redis_was_away_is_the_last_one_when_postgresql_is(
    cached_site: Site, redis_server: RedisServer
) -> None:
    client = cached_site.client("read")
    answered(client)
    wait_for_names(redis_server, LIST_NAME_KEY)
    publish_without_first(cached_site)  # and nobody fills Redis
    client.app.state.service.newest_list._looked_at = float("-inf")  # as some seconds later
    told = answered(client)
    end = time.monotonic() + 20
    while (found := cached_snapshot(cached_site.stores.cache)) is None or found.run_id != "by hand":
        assert time.monotonic() < end
        time.sleep(0.05)
    with cached_site.database_away():
        last = answered(client)
    assert last["metadata"]["is_stale"]
    assert [row["caregiver_id"] for row in last["recommendations"]] == cached_site.listed()
    assert told["metadata"]["list_version"] != last["metadata"]["list_version"]  # the one is a ranking's


def test_what_redis_held_for_a_while_is_kept_no_longer_than_its_hour(cached_site: Site) -> None:
    answered(cached_site.client("read"))
    cached_site.now += timedelta(minutes=50)
    later = cached_site.client("read")
    assert answered(later)["metadata"]["cached"]
    [(_, until)] = later.app.state.service.answers._kept.values()
    assert 9 * 60 < until - time.monotonic() <= 10 * 60


def test_a_caregiver_is_told_by_one_model_though_another_came_out_meanwhile(site: Site) -> None:
    client, name = site.client("read", api_check_seconds=60), site.listed()[0]
    before = client.get(f"/caregivers/{name}").json()
    site.execute(
        "INSERT INTO bandicoot.model_versions SELECT (jsonb_populate_record(kept, "
        "jsonb_build_object('model_version', 'next', 'status', 'candidate'))).* "
        "FROM bandicoot.model_versions AS kept WHERE model_version = %s",
        before["model_version"],
    )
    site.execute(
        "INSERT INTO bandicoot.whittle_indices SELECT (jsonb_populate_record(kept, "
        "jsonb_build_object('model_version', 'next', 'whittle_index', kept.whittle_index + 1))).* "
        "FROM bandicoot.whittle_indices AS kept WHERE model_version = %s",
        before["model_version"],
    )
    site.execute("UPDATE bandicoot.list_publications SET model_version = 'next'")
    after = client.get(f"/caregivers/{name}").json()
    assert after["model_version"] == "next"
    assert after["whittle_index"] == pytest.approx(before["whittle_index"] + 1)


def test_the_age_of_the_list_grows_while_postgresql_is_away(site: Site) -> None:
    client = site.client()

    def age() -> float:
        [line] = [each for each in client.get("/metrics").text.splitlines() if each.startswith(AGE)]
        return float(line.split()[1])

    before = age()
    site.now += timedelta(hours=2)
    with site.database_away():
        assert age() == before + 7200


def test_pages_of_two_publications_are_not_put_together(site: Site) -> None:
    client, address = site.client("read"), f"/call-list/{CALL_DATE}"
    first = client.get(address, params={"limit": 10}).json()
    more = {"limit": 10, "after_rank": first["next_after_rank"], "published_at": first["published_at"]}
    assert client.get(address, params=more).status_code == 200
    site.execute("UPDATE bandicoot.list_publications SET published_at = published_at + interval '1 hour'")
    refused = client.get(address, params=more)
    assert (refused.status_code, refused.json()["code"]) == (409, "published_again")


def wait_for_names(redis_server: RedisServer, name: bytes) -> None:
    end = time.monotonic() + 20
    while name not in redis_server.names():
        assert time.monotonic() < end
        time.sleep(0.05)


@contextmanager
def slow_answers(site: Site) -> Iterator[threading.Event]:
    """PostgreSQL tells no version until the event is set; publications are not in its way."""
    may_end = threading.Event()
    with psycopg.connect(site.stores.database_url) as connection:
        connection.execute("LOCK TABLE bandicoot.noted_opens IN ACCESS EXCLUSIVE MODE")
        yield may_end
        may_end.wait(5)
        connection.rollback()


def wait_for_question(site: Site) -> None:
    deadline = time.monotonic() + 10
    while not site.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'bandicoot.noted_opens'::regclass"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
