"""What the service tells of lists, caregivers, clusters and itself."""

from datetime import date, timedelta
from typing import Any

import pytest

from tests.service.conftest import BUDGET, Site
from tests.service.test_guards import problem
from tests.service.test_recommend import called
from tests.small_programme import CALL_DATE


def test_a_published_list_is_read_page_by_page(site: Site) -> None:
    client = site.client("read")
    rows: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = client.get(f"/call-list/{CALL_DATE}", params={"after_rank": after, "limit": 25}).json()
        rows += page["rows"]
        after = page["next_after_rank"]
    assert [row["caregiver_id"] for row in rows] == site.listed()
    assert [row["rank"] for row in rows] == list(range(1, BUDGET + 1))
    assert (page["call_date"], page["n_rows"], page["is_stale"]) == (str(CALL_DATE), BUDGET, False)


def test_the_page_of_a_district_has_only_its_rows_with_their_ranks(site: Site) -> None:
    client = site.client("read")
    page = client.get(f"/call-list/{CALL_DATE}", params={"district": "Gaya", "limit": 1000}).json()
    expected = site.execute(
        "SELECT rank, caregiver_id FROM bandicoot.call_list WHERE district = 'Gaya' AND call_date = %s ORDER BY rank",
        CALL_DATE,
    )
    assert [(row["rank"], row["caregiver_id"]) for row in page["rows"]] == expected
    assert page["next_after_rank"] is None


@pytest.mark.parametrize(
    ("address", "status"),
    [
        (f"/call-list/{CALL_DATE + timedelta(days=1)}", 404),
        ("/call-list/yesterday", 422),
        ("/call-list/2026-11-31", 422),
        (f"/call-list/{CALL_DATE}?limit=0", 422),
        (f"/call-list/{CALL_DATE}?limit=1001", 422),
        (f"/call-list/{CALL_DATE}?after_rank=-1", 422),
        ("/caregivers/nobody", 404),
        ("/caregivers/a%00b", 404),
        (f"/caregivers/{'x' * 501}", 422),
    ],
)
def test_what_is_not_there_is_said_so(site: Site, address: str, status: int) -> None:
    problem(site.client("read").get(address), status, {404: "not_found", 422: "invalid_input"}[status])


def test_a_caregiver_is_told_with_every_criterion_that_keeps_her_from_being_called(site: Site) -> None:
    client = site.client("read", "call")
    listed = site.listed()[0]
    before = client.get(f"/caregivers/{listed}").json()
    row = site.execute(
        "SELECT state, cluster_id, whittle_index, own_index FROM bandicoot.call_list WHERE caregiver_id = %s", listed
    )[0]
    assert (before["state"], before["cluster_id"], before["whittle_index"], before["priority_score"]) == row
    assert before["eligibility"] == {"is_eligible": True, "excluded_by": [], "why": "she may be called"}
    client.post("/call-outcomes", json=called(listed)).raise_for_status()
    after = client.get(f"/caregivers/{listed}").json()
    assert after["eligibility"]["excluded_by"] == ["cool-down"]
    assert after["last_contact_date"] == str(CALL_DATE)


@pytest.mark.parametrize(
    ("which", "criterion"),
    [
        ("ab_arm = 'control' AND status = 'active' AND cluster_id IS NOT NULL", "control arm"),
        ("status <> 'active'", "not active"),
        ("warm_up_end_date > DATE '2026-11-19'", "warm-up"),
    ],
)
def test_who_may_not_be_called_is_told_why(site: Site, which: str, criterion: str) -> None:
    found = site.execute(
        f"SELECT caregiver_id FROM bandicoot.caregiver_states WHERE {which} ORDER BY caregiver_id LIMIT 1"
    )
    told = site.client("read").get(f"/caregivers/{found[0][0]}").json()["eligibility"]
    assert not told["is_eligible"]
    assert criterion in told["excluded_by"]
    assert criterion in told["why"]


def test_new_caregivers_get_the_clusters_that_the_registry_would_give_them(site: Site) -> None:
    client = site.client("read")
    features = {"age": 24, "district": "Gaya", "parity": 1, "phone_reliable": True, "enrollment_source": "hospital"}
    body = {
        "caregivers": [{"enrolled_at": "2026-11-18T23:30:00Z", **features}, {"enrolled_at": "2026-11-01T00:00:00Z"}]
    }
    found = client.post("/assign_cluster", json=body).json()
    model = site.execute("SELECT model_version FROM bandicoot.model_versions WHERE status = 'champion'")[0][0]
    assert found["model_version"] == model
    for each in found["assignments"]:
        assert 0 <= each["cluster_id"] < 6
        assert 1 / 6 <= each["confidence"] <= 1
    weeks = site.stores.settings.warm_up_weeks
    # Enrolled at 05:00 of 19 November in India.
    assert found["assignments"][0]["warm_up_end_date"] == str(date(2026, 11, 19) + timedelta(weeks=weeks))
    assert client.post("/assign_cluster", json=body).json() == found


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"age": 9}, "age"),
        ({"age": "24"}, "age"),
        ({"enrolled_at": "2026-11-18T10:00:00"}, "enrolled_at"),
        ({"phone_number": "0612345678"}, "phone_number"),
    ],
)
def test_features_that_the_registry_would_refuse_are_refused(site: Site, change: dict[str, Any], where: str) -> None:
    row = {"enrolled_at": "2026-11-18T10:00:00+05:30", **change}
    found = site.client("read").post("/assign_cluster", json={"caregivers": [row]})
    body = problem(found, 422, "invalid_input")
    assert body["details"]["problems"][0]["where"] == f"body.caregivers.0.{where}"
    assert "0612345678" not in found.text


def test_readiness_tells_what_the_service_stands_on(cached_site: Site) -> None:
    found = cached_site.client().get("/ready")
    model = cached_site.execute("SELECT model_version FROM bandicoot.model_versions WHERE status = 'champion'")[0][0]
    assert found.status_code == 200
    assert found.json() == {
        "is_ready": True,
        "database": "ok",
        "cache": "ok",
        "model_version": model,
        "list_date": str(CALL_DATE),
        "list_age_hours": 12.0,
        "is_list_fresh": True,
        "is_memory_tight": False,
    }


def test_a_list_that_is_too_old_makes_the_service_unready(site: Site) -> None:
    client = site.client(api_max_list_age_hours=26)
    site.now += timedelta(hours=13, minutes=59)
    assert client.get("/ready").status_code == 200
    site.now += timedelta(minutes=2)
    found = client.get("/ready")
    assert (found.status_code, found.json()["is_list_fresh"]) == (503, False)


def test_metrics_count_what_was_asked_and_answered(site: Site) -> None:
    client = site.client("read", "call")
    client.get("/recommend", params={"budget": 7})
    client.get("/caregivers/nobody")
    client.post("/call-outcomes", json=called(site.listed()[0]))
    text = client.get("/metrics").text
    for line in (
        'bandicoot_api_request_seconds_count{method="GET",route="/recommend",status="2xx"} 1.0',
        'bandicoot_api_request_seconds_count{method="GET",route="/caregivers/{caregiver_id:path}",status="4xx"} 1.0',
        'bandicoot_api_recommendations_total{tier="standard",tier_reason="key"} 7.0',
        'bandicoot_api_answers_total{source="computed"} 1.0',
        'bandicoot_api_outcomes_total{result="recorded"} 1.0',
        "bandicoot_api_cold_starts_total 1.0",
        "bandicoot_api_list_age_seconds 43200.0",
        "bandicoot_api_database_away 0.0",
    ):
        assert line in text, line
    assert 'bandicoot_api_request_bytes_count{route="/call-outcomes"} 1.0' in text
    assert "nobody" not in text
