"""Whom the service recommends: the list that the night would make, as of now."""

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from bandicoot_api.routes import recommend
from tests.service.conftest import BUDGET, Site
from tests.small_programme import CALL_DATE


def ids(client: TestClient, **query: object) -> list[str]:
    return [row["caregiver_id"] for row in answered(client, **query)["recommendations"]]


def answered(client: TestClient, **query: object) -> dict:
    response = client.get("/recommend", params={"budget": BUDGET, **query})
    assert response.status_code == 200, response.text
    return response.json()


def called(caregiver_id: str, call_id: str = "c-1", outcome: str = "no_answer") -> dict[str, str]:
    return {
        "call_id": call_id,
        "caregiver_id": caregiver_id,
        "call_date": CALL_DATE.isoformat(),
        "attempted_at": "2026-11-19T11:00:00+05:30",
        "outcome": outcome,
    }


def test_as_of_the_morning_everybody_ranked_now_is_the_published_list(site: Site) -> None:
    found = answered(site.client("read"))
    assert found["metadata"]["tier"] == "standard"
    rows = site.execute(
        "SELECT rank, caregiver_id, district, state, cluster_id, own_index, whittle_index, index_low, index_high, "
        "reason, days_since_last_open, %s - last_call_date, ab_arm FROM bandicoot.current_call_list ORDER BY rank",
        CALL_DATE,
    )
    assert [tuple(row.values()) for row in found["recommendations"]] == rows
    assert len(rows) == BUDGET


def test_the_fast_tier_is_the_published_list_word_for_word(site: Site) -> None:
    standard, fast = answered(site.client("read")), answered(site.client("read", tier="fast"))
    assert fast["metadata"]["tier"] == "fast"
    assert fast["recommendations"] == standard["recommendations"]


def test_an_answer_says_what_it_was_made_from(site: Site) -> None:
    told = answered(site.client("read"), budget=5, district="Gaya")["metadata"]
    everybody = site.execute("SELECT count(*) FROM bandicoot.caregiver_states WHERE district = 'Gaya'")[0][0]
    model = site.execute("SELECT model_version FROM bandicoot.model_versions WHERE status = 'champion'")[0][0]
    assert told["evaluated"] == everybody
    assert 5 == told["returned"] <= told["eligible"] < told["evaluated"]
    assert told["filters"] == {"budget": 5, "district": "Gaya", "exclude_control": True, "model_version": None}
    assert told["generated_at"] == "2026-11-19T06:30:00+00:00"
    assert (told["call_date"], told["list_date"], told["states_as_of_date"]) == (
        "2026-11-19",
        "2026-11-19",
        "2026-11-18",
    )
    assert told["model_version"] == model
    assert not told["is_stale"]


def test_who_was_called_a_moment_ago_is_recommended_no_more(site: Site) -> None:
    client = site.client("read", "call")
    first = ids(client)
    assert client.post("/call-outcomes", json=called(first[0])).status_code == 200
    assert ids(client)[: BUDGET - 1] == first[1:]


def test_an_open_of_this_noon_changes_her_place(site: Site) -> None:
    client = site.client("read", "call")
    first = ids(client)[0]
    event = {
        "event_type": "sms_opened",
        "caregiver_id": first,
        "timestamp": "2026-11-19T11:30:00+05:30",
        "metadata": {"message_id": "M-noon"},
    }
    assert client.post("/update_state", json=event).json()["n_states_changed"] == 1
    assert client.get(f"/caregivers/{first}").json()["state"] == "R"
    assert ids(client)[0] != first


def test_the_control_arm_is_recommended_only_to_who_asks_for_it(site: Site) -> None:
    client = site.client("read")
    without = answered(client, budget=1000)["recommendations"]
    with_control = answered(client, budget=1000, exclude_control=False)["recommendations"]
    assert {row["ab_arm"] for row in without} == {"treatment"}
    assert {row["ab_arm"] for row in with_control} == {"treatment", "control"}


def test_a_new_list_shows_at_once_and_an_old_answer_never_again(cached_site: Site) -> None:
    client = cached_site.client("read", tier="fast")
    before = answered(client)
    assert answered(client)["metadata"]["cached"]
    cached_site.execute(
        "WITH gone AS (DELETE FROM bandicoot.call_list WHERE rank = 1) "
        "UPDATE bandicoot.list_publications SET n_rows = n_rows - 1, run_id = 'by hand' WHERE call_date = %s",
        CALL_DATE,
    )
    after = answered(client)
    assert not after["metadata"]["cached"]
    assert after["recommendations"] == before["recommendations"][1:]


def test_an_answer_is_made_once_and_then_comes_from_memory_and_for_other_processes_from_redis(
    cached_site: Site,
) -> None:
    client = cached_site.client("read")
    made = answered(client)
    kept = answered(client)
    other = cached_site.client("read")
    shared = answered(other)
    assert [found["metadata"]["cached"] for found in (made, kept, shared)] == [False, True, True]
    assert made["recommendations"] == kept["recommendations"] == shared["recommendations"]
    assert 'bandicoot_api_answers_total{source="memory"} 1.0' in client.get("/metrics").text
    assert 'bandicoot_api_answers_total{source="redis"} 1.0' in other.get("/metrics").text


def test_what_somebody_else_wrote_into_redis_is_not_given_out(cached_site: Site, redis_server: object) -> None:
    answered(cached_site.client("read"))
    cache = cached_site.stores.cache
    assert cache is not None
    for key in cache.ask(lambda client: list(client.scan_iter(match=b"recommend:*"))) or []:
        cache.keep(key, json.dumps({"metadata": {"list_version": "another"}}).encode(), seconds=60)
    assert not answered(cached_site.client("read"))["metadata"]["cached"]


def test_an_answer_is_kept_no_longer_than_configured(open_site: Callable[..., Site]) -> None:
    client = open_site(redis_recommendation_hours=0.01).client("read")
    answered(client)
    answers = client.app.state.service.answers
    assert answered(client)["metadata"]["cached"]
    beyond = answers._monotonic() + 36
    answers._monotonic = lambda: beyond
    assert not answered(client)["metadata"]["cached"]


def test_a_list_of_yesterday_is_called_stale(site: Site) -> None:
    site.now += timedelta(days=1)
    told = answered(site.client("read", tier="fast"))["metadata"]
    assert told["is_stale"]
    assert (told["call_date"], told["list_date"]) == ("2026-11-20", "2026-11-19")


def test_before_indices_of_their_own_are_published_the_list_answers_for_the_ranking(site: Site) -> None:
    site.execute("UPDATE bandicoot.caregiver_states SET own_index_u = NULL, own_index_r = NULL")
    told = answered(site.client("read"))["metadata"]
    assert (told["tier"], told["tier_reason"]) == ("fast", "indices_not_published")


@pytest.mark.parametrize("budget", [0, 1001, "many", -1])
def test_a_budget_out_of_bounds_is_refused_with_its_place(site: Site, budget: object) -> None:
    response = site.client("read").get("/recommend", params={"budget": budget})
    assert response.status_code == 422
    assert response.json()["code"] == "invalid_input"
    assert response.json()["details"]["problems"][0]["where"] == "query.budget"


def test_a_district_where_nobody_lives_is_refused_with_those_there_are(site: Site) -> None:
    response = site.client("read").get("/recommend", params={"district": "Atlantis"})
    assert response.status_code == 404
    assert "Gaya" in response.json()["message"]
    assert "Gaya" in response.json()["details"]["districts"]


def test_an_answer_of_another_model_is_refused(site: Site) -> None:
    client = site.client("read")
    model = answered(client)["metadata"]["model_version"]
    assert client.get("/recommend", params={"model_version": model}).status_code == 200
    assert client.get("/recommend", params={"model_version": "m-0"}).status_code == 404


def test_a_question_that_was_asked_before_is_answered_alike_and_a_wrong_one_stays_wrong(site: Site) -> None:
    client, other = site.client("read"), site.client("call")
    for query in ("budget=5", "budget=5&district=Gaya", "budget=9&budget=5", "budget=5&exclude_control=false"):
        first, again = (client.get(f"/recommend?{query}") for _ in range(2))
        assert first.status_code == again.status_code == 200
        assert first.json()["recommendations"] == again.json()["recommendations"]
        assert first.json()["metadata"]["filters"] == again.json()["metadata"]["filters"]
        assert first.headers["content-type"] == again.headers["content-type"]
        assert other.get(f"/recommend?{query}").status_code == 403
        assert client.get(f"/recommend/export?{query}").headers["content-type"].startswith("text/csv")
    assert client.get("/recommend?budget=9&budget=5").json()["metadata"]["filters"]["budget"] == 5
    for query in ("budget=0", "budget=1001", "budget=x", "exclude_control=perhaps"):
        assert [client.get(f"/recommend?{query}").status_code for _ in range(2)] == [422, 422]


def test_what_is_remembered_of_questions_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    client = site.client("read")
    monkeypatch.setattr(recommend, "_MOST_KNOWN", 3)
    recommend._KNOWN.clear()
    for budget in range(1, 7):
        assert client.get("/recommend", params={"budget": budget}).status_code == 200
    assert client.get("/recommend", params={"budget": 7, "more": "x" * 300}).status_code == 200
    assert [*recommend._KNOWN] == [b"budget=4", b"budget=5", b"budget=6"]


def test_the_export_has_the_rows_of_the_answer_as_csv(site: Site) -> None:
    client = site.client("read")
    rows = answered(client, budget=1000)["recommendations"]
    response = client.get("/recommend/export", params={"budget": 1000})
    lines = response.text.splitlines()
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert lines[0].split(",")[:3] == ["rank", "caregiver_id", "district"]
    assert [line.split(",")[1] for line in lines[1:]] == [row["caregiver_id"] for row in rows]
    told = answered(client, budget=1000)["metadata"]
    names = {"list_version", "model_version", "generated_at", "evaluated", "tier", "tier_reason"}
    assert {name: response.headers[f"x-{name.replace('_', '-')}"] for name in names} == {
        name: str(told[name]) for name in names
    }
    assert (response.headers["x-stale"], response.headers["x-cached"]) == ("false", "true")


def test_a_field_that_a_spreadsheet_would_compute_is_defused_in_the_export(site: Site) -> None:
    first = site.listed()[0]
    site.execute("UPDATE bandicoot.caregiver_states SET district = '=1+1' WHERE caregiver_id = %s", first)
    response = site.client("read").get("/recommend/export", params={"budget": 1})
    assert ",'=1+1," in response.text
