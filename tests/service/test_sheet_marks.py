"""What a mark on the call sheet writes: one outcome, however often its form arrives."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from tests.service.conftest import BUDGET, Site
from tests.service.sheet_hands import form_of, mark, outcomes, sheet, shown, worker
from tests.small_programme import CALL_DATE


def test_a_mark_is_an_outcome_of_the_keys_client_and_shows_at_once(site: Site) -> None:
    client, second = worker(site), site.listed()[1]
    response = mark(client, second, "no_answer")
    assert (response.status_code, response.headers["location"]) == (303, "/?said=2#r2")
    assert outcomes(site) == [(second, "no_answer", "centre-7", CALL_DATE, site.now)]
    html = sheet(client, said=2)
    assert "No answer · 12:00 · centre-7" in html
    assert f"1 of {BUDGET} called" in html
    assert "Number 2 is marked." in html
    recommended = site.client("read").get("/recommend", params={"budget": BUDGET}).json()["recommendations"]
    assert second not in [row["caregiver_id"] for row in recommended]


def test_a_call_id_says_nothing_about_the_caregiver(site: Site) -> None:
    client, first = worker(site), site.listed()[0]
    mark(client, first)
    [(call_id,)] = site.execute("SELECT call_id FROM bandicoot.call_outcomes WHERE starts_with(call_id, 'sheet:')")
    assert first not in str(call_id)
    assert re.fullmatch(r"sheet:2026-11-19:\d{8}T\d{12}:1:1", str(call_id))


def test_the_same_form_sent_again_and_at_the_same_time_marks_one_call(site: Site) -> None:
    client, first = worker(site), site.listed()[0]
    form = form_of(sheet(client), first, "reached")
    with ThreadPoolExecutor(4) as pool:
        responses = list(pool.map(lambda _: client.post("/mark", data=form), range(4)))
    site.now += timedelta(minutes=1)
    responses.append(client.post("/mark", data={**form, "outcome": "busy"}))
    assert {response.status_code for response in responses} == {303}
    assert [row[:2] for row in outcomes(site)] == [(first, "reached")]
    assert responses[-1].headers["location"] == "/?said=known"
    assert "Nothing was added" in sheet(client, said="known")


def test_who_did_not_answer_may_be_called_again_and_the_last_mark_counts(site: Site) -> None:
    client, first = worker(site), site.listed()[0]
    mark(client, first, "no_answer")
    assert shown(sheet(client, show="again")) == [first]
    site.now += timedelta(hours=3)
    response = mark(client, first, "reached", show="again")
    assert response.headers["location"] == "/?show=again&said=1"
    assert [row[1] for row in outcomes(site)] == ["no_answer", "reached"]
    assert "Reached · 15:00 · centre-7 · call 2" in sheet(client)
    assert shown(sheet(client, show="again")) == []
    assert first not in shown(sheet(client, show="open"))


def test_what_another_system_reported_is_marked_too(site: Site) -> None:
    first = site.listed()[0]
    reported = {
        "call_id": "another-1",
        "caregiver_id": first,
        "call_date": CALL_DATE.isoformat(),
        "attempted_at": "2026-11-19T09:05:00+05:30",
        "outcome": "wrong_number",
    }
    api = site.client("call")
    assert api.post("/call-outcomes", json=reported).status_code == 200
    assert "Wrong number · 09:05 · client" in sheet(worker(site))


def test_a_list_that_was_published_again_keeps_marks_with_their_caregivers(site: Site) -> None:
    client = worker(site)
    first, second = site.listed()[:2]
    mark(client, first)
    site.execute("UPDATE bandicoot.call_list SET rank = 1000 WHERE rank = 1")
    site.execute("UPDATE bandicoot.call_list SET rank = 1 WHERE rank = 2")
    site.execute("UPDATE bandicoot.list_publications SET published_at = published_at + interval '1 hour'")
    assert mark(client, second, "busy").headers["location"] == "/?said=1#r1"
    assert [row[:2] for row in outcomes(site)] == [(first, "reached"), (second, "busy")]


def test_who_is_not_on_the_list_cannot_be_marked(site: Site) -> None:
    client, first = worker(site), site.listed()[0]
    form = form_of(sheet(client), first, "reached")
    [(unlisted,)] = site.execute(
        "SELECT caregiver_id FROM bandicoot.caregiver_states WHERE caregiver_id NOT IN "
        "(SELECT caregiver_id FROM bandicoot.current_call_list) LIMIT 1"
    )
    response = client.post("/mark", data={**form, "caregiver_id": unlisted})
    assert response.headers["location"] == "/?said=unlisted"
    assert outcomes(site) == []


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "lovely"},
        {"attempt": "0"},
        {"attempt": "x"},
        {"call_date": "2026-13-40"},
        {"call_date": "today"},
        {"caregiver_id": ""},
        {"caregiver_id": "a\0b"},
    ],
)
def test_a_form_with_a_value_out_of_its_bounds_marks_nothing(site: Site, change: dict[str, str]) -> None:
    client = worker(site)
    form = form_of(sheet(client), site.listed()[0], "reached")
    response = client.post("/mark", data={**form, **change})
    assert response.status_code == 422
    assert "Nothing was marked" in response.text
    assert outcomes(site) == []


def test_a_form_is_small_and_of_its_kind(site: Site) -> None:
    client = worker(site)
    form = form_of(sheet(client), site.listed()[0], "reached")
    assert client.post("/mark", data={**form, "more": "x" * 9000}).status_code == 413
    chunks = (b"x" * 1000 for _ in range(10))
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/mark", content=chunks, headers=kind).status_code == 413
    assert client.post("/mark", json=form).status_code == 415
    assert client.post("/mark", data={str(n): "x" for n in range(30)}).status_code == 400
    assert outcomes(site) == []
