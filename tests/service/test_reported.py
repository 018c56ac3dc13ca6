"""Outcomes of calls and caregiver events told to the service: each row judged by itself, each counted once."""

from typing import Any

import pytest

from tests.service.conftest import Site
from tests.service.test_guards import problem
from tests.service.test_recommend import called
from tests.small_programme import CALL_DATE


def opened(caregiver_id: str, message_id: str = "M-1", event_type: str = "sms_opened") -> dict[str, Any]:
    return {
        "event_type": event_type,
        "caregiver_id": caregiver_id,
        "timestamp": "2026-11-19T11:30:00+05:30",
        "metadata": {"message_id": message_id},
    }


def recorded(site: Site) -> list[tuple[object, ...]]:
    return site.execute(
        "SELECT call_id, caregiver_id, call_date::text, outcome, recorded_by FROM bandicoot.call_outcomes "
        "WHERE recorded_by = 'centre 7' ORDER BY call_id"
    )


def test_an_outcome_is_recorded_once_however_often_it_is_told(site: Site) -> None:
    client = site.client("call")
    row = called(site.listed()[0], "c-1", "reached")
    first, again = client.post("/call-outcomes", json=row), client.post("/call-outcomes", json=[row, row])
    assert (first.status_code, again.status_code) == (200, 200)
    assert [first.json()[name] for name in ("n_recorded", "n_known", "n_refused")] == [1, 0, 0]
    assert [again.json()[name] for name in ("n_recorded", "n_known", "n_refused")] == [0, 2, 0]
    assert site.execute("SELECT count(*) FROM bandicoot.call_outcomes WHERE call_id = 'c-1'") == [(1,)]


def test_an_outcome_is_recorded_as_told_by_the_client_of_the_key(site: Site) -> None:
    key = site.key("call", name="centre 7")
    client = site.client()
    listed = site.listed()[0]
    client.post(
        "/call-outcomes", json=called(listed, "c-2", "busy"), headers={"Authorization": f"Bearer {key}"}
    ).raise_for_status()
    assert recorded(site) == [("c-2", listed, str(CALL_DATE), "busy", "centre 7")]


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"outcome": "maybe"}, "outcome"),
        ({"call_id": ""}, "call_id"),
        ({"call_id": None}, "call_id"),
        ({"call_id": "a\0b"}, "call_id"),
        ({"caregiver_id": "nobody"}, "caregiver_id"),
        ({"attempted_at": "2026-11-19T11:00:00"}, "attempted_at"),
        ({"attempted_at": "2026-11-20T11:00:00+05:30"}, "attempted_at"),
        ({"attempted_at": 1_700_000_000}, "attempted_at"),
        ({"call_date": "19.11.2026"}, "call_date"),
        ({"phone": "0612345678"}, "phone"),
    ],
)
def test_a_wrong_row_is_named_and_keeps_back_no_other(site: Site, change: dict[str, Any], column: str) -> None:
    client, listed = site.client("call"), site.listed()
    rows = [called(listed[0], "c-1"), {**called(listed[1], "c-2"), **change}, called(listed[2], "c-3")]
    found = client.post("/call-outcomes", json=rows)
    assert found.status_code == 207
    results = found.json()["results"]
    assert [result["result"] for result in results] == ["recorded", "refused", "recorded"]
    assert (results[1]["row"], results[1]["column"]) == (1, column)
    assert results[1]["problem"]
    assert "0612345678" not in found.text
    alone = problem(client.post("/call-outcomes", json=rows[1]), 422, "invalid_input")
    assert column in alone["message"]


def test_another_outcome_under_a_known_call_id_is_refused_and_changes_nothing(site: Site) -> None:
    client, listed = site.client("call"), site.listed()
    client.post("/call-outcomes", json=called(listed[0], "c-1", "reached")).raise_for_status()
    body = problem(client.post("/call-outcomes", json=called(listed[0], "c-1", "busy")), 422, "invalid_input")
    assert body["details"]["results"][0]["column"] == "call_id"
    assert site.execute("SELECT outcome FROM bandicoot.call_outcomes WHERE call_id = 'c-1'") == [("reached",)]


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b"[1]", "application/json", 422),
        (b"null", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"[" + b",".join([b"{}"] * 10_001) + b"]", "application/json", 422),
    ],
)
@pytest.mark.parametrize("path", ["/call-outcomes", "/update_state"])
def test_a_body_that_holds_no_rows_is_refused(site: Site, path: str, content: bytes, kind: str, status: int) -> None:
    found = site.client("call").post(path, content=content, headers={"Content-Type": kind})
    assert found.status_code == status
    assert found.json()["message"]


def test_ten_thousand_outcomes_are_recorded_at_once(site: Site) -> None:
    listed = site.listed()
    rows = [called(listed[number % len(listed)], f"c-{number}") for number in range(10_000)]
    found = site.client("call").post("/call-outcomes", json=rows)
    assert found.json()["n_recorded"] == 10_000


def test_an_event_is_kept_once_and_makes_her_responsive_at_once(site: Site) -> None:
    client = site.client("read", "call")
    who = site.execute("SELECT caregiver_id FROM bandicoot.caregiver_states WHERE state = 'U' ORDER BY 1 LIMIT 1")[0][0]
    first = client.post("/update_state", json=opened(str(who))).json()
    again = client.post("/update_state", json=[opened(str(who))] * 2).json()
    assert (first["n_new"], first["n_states_changed"]) == (1, 1)
    assert (again["n_new"], again["n_repeated"], again["n_states_changed"]) == (0, 2, 0)
    told = client.get(f"/caregivers/{who}").json()
    assert (told["state"], told["last_open_date"]) == ("R", str(CALL_DATE))


def test_what_is_no_event_is_told_row_by_row_and_kept_as_a_letter(site: Site) -> None:
    client, listed = site.client("call"), site.listed()
    rows = [opened(listed[0]), {**opened(listed[1]), "event_type": "sms_eaten"}, opened("somebody new", "M-3")]
    found = client.post("/update_state", json=rows)
    assert found.status_code == 200
    body = found.json()
    assert (body["n_new"], body["n_dead"], body["n_waiting"]) == (1, 1, 1)
    assert [(each["row"], each["kind"]) for each in body["problems"]] == [(1, "refused"), (2, "unknown_caregiver")]
    assert site.execute("SELECT count(*) FROM bandicoot.dead_letters") == [(2,)]
