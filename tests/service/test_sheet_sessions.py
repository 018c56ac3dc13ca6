"""Who is let in to the call sheet, for how long, and which forms are of its own pages."""

import logging
from datetime import timedelta
from html import unescape

import pytest

from tests.service.conftest import BUDGET, Site
from tests.service.sheet_hands import (
    HOME,
    PAGE_SIZE,
    SECRET,
    form_of,
    is_sign_in_page,
    mark,
    outcomes,
    sheet,
    shown,
    sign_in,
    visitor,
    worker,
)


def test_without_a_session_there_is_a_form_to_sign_in_and_no_caregiver(site: Site) -> None:
    response = visitor(site).get("/")
    assert response.status_code == 200
    assert is_sign_in_page(response)
    assert not any(name in response.text for name in site.listed())


@pytest.mark.parametrize("address", ["/sign-in", "/sign-out", "/mark"])
def test_who_loads_the_address_of_a_form_again_gets_the_sheet(site: Site, address: str) -> None:
    response = visitor(site).get(address)
    assert (response.status_code, response.headers["location"]) == (303, "/")


def test_with_a_key_one_signs_in_and_sees_the_list_in_calling_order(site: Site) -> None:
    client = visitor(site)
    response = sign_in(client, f"  {site.key('read', 'call')}\n")
    assert (response.status_code, response.headers["location"]) == (303, "/")
    first, last = sheet(client), sheet(client, page=3)
    assert shown(first) == site.listed()[:PAGE_SIZE]
    assert shown(last) == site.listed()[2 * PAGE_SIZE :]
    assert "Thursday 19 November 2026" in first
    assert f"0 of {BUDGET} called" in first
    assert "Page 1 of 3" in first
    reason = site.execute("SELECT reason FROM bandicoot.current_call_list WHERE rank = 1")[0][0]
    assert str(reason) in unescape(first)


def test_a_session_is_a_cookie_that_no_script_reads_and_no_other_site_sends(site: Site) -> None:
    key = site.key("read", "call")
    plain = sign_in(visitor(site), key).headers["set-cookie"]
    client = visitor(site)
    tls = client.post("/sign-in", data={"key": key}, headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"]
    for cookie in (plain, tls):
        assert {"HttpOnly", "Path=/", "SameSite=strict", "Max-Age=43200"} <= set(cookie.split("; "))
        assert key.rpartition("_")[2] not in cookie
        assert "domain" not in cookie.lower()
    assert plain.startswith("bandicoot=")
    assert "Secure" not in plain
    assert tls.startswith("__Host-bandicoot=")
    assert "Secure" in tls.split("; ")


@pytest.mark.parametrize("key", ["", "bdc_", "bdc_abcdefghijkl_" + "x" * 43, "<script>alert(1)</script>"])
def test_a_wrong_key_is_refused_in_words_without_being_repeated(site: Site, key: str) -> None:
    response = sign_in(visitor(site), key)
    assert response.status_code == 401
    assert is_sign_in_page(response)
    assert "This key is not valid" in response.text
    assert "set-cookie" not in response.headers
    assert len(key) < 10 or key not in response.text


@pytest.mark.parametrize("scopes", [("read",), ("call",), ("admin",)])
def test_a_key_that_may_not_both_read_and_call_does_not_sign_in(site: Site, scopes: tuple[str, ...]) -> None:
    response = sign_in(visitor(site), site.key(*scopes))
    assert response.status_code == 403
    assert "set-cookie" not in response.headers


def test_a_session_ends_with_its_key(site: Site) -> None:
    client = worker(site)
    form = form_of(sheet(client), site.listed()[0], "reached")
    site.execute("UPDATE bandicoot.api_keys SET revoked_at = %s", site.now)
    assert is_sign_in_page(client.get("/"))
    response = client.post("/mark", data=form)
    assert response.status_code == 401
    assert "Nothing was marked" in response.text
    assert outcomes(site) == []


def test_a_session_lasts_twelve_hours(site: Site) -> None:
    client = worker(site)
    site.now += timedelta(hours=11, minutes=59)
    assert not is_sign_in_page(client.get("/"))
    site.now += timedelta(minutes=1)
    assert is_sign_in_page(client.get("/"))


def test_a_cookie_that_was_changed_or_made_elsewhere_is_none(site: Site) -> None:
    client = worker(site)
    cookie = client.cookies["bandicoot"]
    key_id, issued, expires, once, signature = cookie.split(".")
    other_key = site.key("read", "call").split("_")[1]
    other_letter = "A" if signature[0] != "A" else "B"
    forged = [
        f"{other_key}.{issued}.{expires}.{once}.{signature}",
        f"{key_id}.{issued}.{int(expires) + 1}.{once}.{signature}",
        f"{key_id}.{issued}.{expires}.{once}.{other_letter}{signature[1:]}",
        f"{key_id}.{issued}.{expires}.{once}",
        "",
        "." * 60,
        "é" * 20,
        worker(site).cookies["bandicoot"],  # of a process with another secret
    ]
    for each in forged:
        response = client.get("/", headers={"Cookie": f"bandicoot={each}".encode()})
        assert is_sign_in_page(response), each
    assert not is_sign_in_page(client.get("/"))


def test_processes_with_the_same_secret_share_their_sessions(site: Site) -> None:
    one = worker(site, api_session_secret=SECRET)
    other = visitor(site, api_session_secret=SECRET)
    other.cookies["bandicoot"] = one.cookies["bandicoot"]
    first = site.listed()[0]
    assert other.post("/mark", data=form_of(sheet(one), first, "reached")).status_code == 303
    assert [row[0] for row in outcomes(site)] == [first]


def test_who_signs_out_sees_the_list_no_more(site: Site) -> None:
    client = worker(site)
    token = form_of(sheet(client), site.listed()[0], "reached")["token"]
    assert client.post("/sign-out", data={"token": "wrong"}).status_code == 403
    client.cookies.clear()  # as a browser keeps it from a form of another site
    elsewhere = client.post("/sign-out", data={"token": token}, headers={"Origin": "https://evil.example"})
    assert (elsewhere.status_code, "set-cookie" in elsewhere.headers) == (403, False)
    sign_in(client, site.key("read", "call"))
    token = form_of(sheet(client), site.listed()[0], "reached")["token"]
    assert not is_sign_in_page(client.get("/"))
    assert client.post("/sign-out", data={"token": token}).status_code == 303
    assert is_sign_in_page(client.get("/"))


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        (None, {}),
        ("", {}),
        ("A" * 86, {}),
        ("é", {}),
        ("of another session", {}),
        ("its own", {"Origin": "https://evil.example"}),
        ("its own", {"Origin": "null"}),
        ("its own", {"Origin": ""}),
        ("its own", {"Sec-Fetch-Site": "cross-site"}),
        ("its own", {"Sec-Fetch-Site": "same-site"}),
        ("its own", {"Origin": "", "Referer": "https://evil.example/testserver"}),
    ],
)
def test_a_form_that_is_not_of_a_page_of_this_session_marks_nothing(
    site: Site, token: str | None, headers: dict[str, str]
) -> None:
    client = worker(site)
    form = form_of(sheet(client), site.listed()[0], "reached")
    if token is None:
        del form["token"]
    elif token == "of another session":
        other = client.cookies["bandicoot"]
        sign_in(client, site.key("read", "call"))
        assert client.cookies["bandicoot"] != other
    elif token != "its own":
        form["token"] = token
    response = client.post("/mark", data=form, headers=headers)
    assert response.status_code == 403
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert outcomes(site) == []
    assert 'bandicoot_api_refused_total{guard="form"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "https://elsewhere", "Sec-Fetch-Site": "same-origin"}, {"Origin": "", "Referer": f"{HOME}/?page=1"}],
)
def test_browsers_new_and_old_mark_from_the_page(site: Site, headers: dict[str, str]) -> None:
    client = worker(site)
    form = form_of(sheet(client), site.listed()[0], "reached")
    assert client.post("/mark", data=form, headers=headers).status_code == 303
    assert len(outcomes(site)) == 1


def test_another_site_cannot_sign_somebody_in(site: Site) -> None:
    client = visitor(site)
    response = client.post(
        "/sign-in", data={"key": site.key("read", "call")}, headers={"Origin": "https://evil.example"}
    )
    assert response.status_code == 403
    assert "set-cookie" not in response.headers


def test_a_token_looks_different_on_each_page(site: Site) -> None:
    client, first = worker(site), site.listed()[0]
    tokens = {form_of(sheet(client), first, "reached")["token"] for _ in range(3)}
    assert len(tokens) == 3


def test_many_wrong_keys_from_an_address_are_refused_but_a_right_one_is_let_in(site: Site) -> None:
    client = visitor(site, api_sign_ins_per_minute=3)
    wrong = "bdc_abcdefghijkl_" + "x" * 43
    assert [sign_in(client, wrong).status_code for _ in range(4)] == [401, 401, 401, 429]
    # A header that anybody may write makes no other address.
    response = client.post("/sign-in", data={"key": wrong}, headers={"X-Forwarded-For": "198.51.100.7"})
    assert response.status_code == 429
    assert int(response.headers["retry-after"]) >= 1
    assert "Wait a minute" in response.text
    assert sign_in(client, site.key("read", "call")).status_code == 303


def test_a_key_sees_so_many_pages_a_minute(site: Site) -> None:
    client = worker(site, api_bulk_per_minute=2)
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]


def test_who_signed_in_and_saw_the_list_is_in_the_log_and_no_key_and_no_caregiver(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    client, key = visitor(site), site.key("read", "call", name="centre-7")
    with caplog.at_level(logging.INFO):
        sign_in(client, key)
        sign_in(client, key[:-1] + "!")
        mark(client, site.listed()[0])
    text = caplog.text
    assert '"audit":"signed_in"' in text
    assert '"audit":"recommended"' in text
    assert key.rpartition("_")[2][:20] not in text
    assert site.listed()[0] not in text
