"""The call sheet as a health worker's browser gets it: who is let in, what is shown, and what a mark writes."""

import gzip
import logging
import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from html import unescape

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.servers.redis import RedisServer
from tests.service.conftest import BUDGET, Site
from tests.small_programme import CALL_DATE

HOME = "http://testserver"
PAGE_SIZE = 25
SECRET = "a secret of a test, long enough for one"


def visitor(site: Site, **options: object) -> TestClient:
    """A browser that has not signed in, and shows where it is sent instead of going there."""
    client = site.client(**{"api_keys_seconds": 0, **options})
    client.follow_redirects = False
    client.headers["Origin"] = HOME
    return client


def sign_in(client: TestClient, key: str) -> httpx.Response:
    return client.post("/sign-in", data={"key": key})


def worker(site: Site, name: str = "centre-7", **options: object) -> TestClient:
    """A browser in which a health worker has signed in."""
    client = visitor(site, **options)
    assert sign_in(client, site.key("read", "call", name=name)).status_code == 303
    return client


def sheet(client: TestClient, **query: object) -> str:
    response = client.get("/", params=query)
    assert response.status_code == 200, response.text
    return response.text


def shown(html: str) -> list[str]:
    """Caregivers on a page, in its order."""
    return [unescape(found) for found in re.findall(r"<h3[^>]*>.*?</span> (.*?)</h3>", html)]


def form_of(html: str, caregiver_id: str, outcome: str) -> dict[str, str]:
    """What the browser sends when an outcome of a caregiver is pressed."""
    for form in re.findall(r'<form method="post" action="/mark".*?</form>', html, re.DOTALL):
        fields = {
            name: unescape(value)
            for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="(.*?)">', form)
        }
        if fields["caregiver_id"] == caregiver_id:
            assert f'name="outcome" value="{outcome}"' in form
            return {**fields, "outcome": outcome}
    raise AssertionError(f"no form on the page is of {caregiver_id}")


def mark(client: TestClient, caregiver_id: str, outcome: str = "reached", **query: object) -> httpx.Response:
    return client.post("/mark", data=form_of(sheet(client, **query), caregiver_id, outcome))


def outcomes(site: Site) -> list[tuple[object, ...]]:
    return site.execute(
        "SELECT caregiver_id, outcome, recorded_by, call_date, attempted_at FROM bandicoot.call_outcomes "
        "WHERE starts_with(call_id, 'sheet:') ORDER BY attempted_at, call_id"
    )


def is_sign_in_page(response: httpx.Response) -> bool:
    return 'action="/sign-in"' in response.text and "<h3" not in response.text


def test_without_a_session_there_is_a_form_to_sign_in_and_no_caregiver(site: Site) -> None:
    response = visitor(site).get("/")
    assert response.status_code == 200
    assert is_sign_in_page(response)
    assert not any(name in response.text for name in site.listed())


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


def test_districts_are_chosen_with_their_counts(site: Site) -> None:
    client = worker(site)
    site.execute("UPDATE bandicoot.call_list SET district = NULL WHERE rank <= 2")
    everything = sheet(client)
    counts = dict(
        site.execute("SELECT coalesce(district, 'No district'), count(*) FROM bandicoot.current_call_list GROUP BY 1")
    )
    links = re.findall(r'<li><a href="(.*?)".*?>(.*?) <span class="n">(\d+)</span>', everything)
    assert {name: int(n) for _, name, n in links} == {"All districts": BUDGET, **counts}
    for href, name, n in links:
        page = client.get(unescape(href)).text
        assert len(shown(page)) == min(int(n), PAGE_SIZE)
        assert f"0 of {n} called" in page
        assert re.search(rf'aria-current="true">{name} ', page)
    gaya = [row[0] for row in site.execute("SELECT rank FROM bandicoot.current_call_list WHERE district = 'Gaya'")]
    assert re.findall(r'<li id="r(\d+)"', sheet(client, district="Gaya")) == [str(n) for n in sorted(gaya)][:PAGE_SIZE]
    assert "Nobody is on this list." in sheet(client, district="Atlantis")


def test_a_page_beyond_the_last_is_the_last(site: Site) -> None:
    assert "Page 3 of 3" in sheet(worker(site), page=99)


@pytest.mark.parametrize("query", [{"page": 0}, {"page": "x"}, {"show": "x"}, {"district": "x" * 201}])
def test_an_address_out_of_its_bounds_is_refused_in_words(site: Site, query: dict[str, object]) -> None:
    response = worker(site).get("/", params=query)
    assert response.status_code == 422
    assert response.headers["content-type"] == "text/html; charset=utf-8"


def test_a_name_that_no_database_holds_is_nobodys(site: Site) -> None:
    assert "Nobody is on this list." in sheet(worker(site), district="a\0b")


def test_what_others_wrote_is_text_on_the_page_and_never_markup(site: Site) -> None:
    script = '"><script>alert(1)</script>'
    site.execute("UPDATE bandicoot.call_list SET district = %s, reason = %s WHERE rank = 1", script, script)
    client = worker(site, name=f"centre {script}")
    mark(client, site.listed()[1])
    for query in ({}, {"district": script}, {"district": "<script>x"}, {"said": "<script>"}):
        html = sheet(client, **query)
        assert "<script" not in html
    assert mark(client, site.listed()[0], district=script).status_code == 303
    assert {row[0] for row in outcomes(site)} == set(site.listed()[:2])


def test_a_page_loads_one_style_sheet_and_nothing_else(site: Site) -> None:
    client = worker(site)
    for response in (client.get("/"), visitor(site).get("/"), sign_in(visitor(site), "wrong")):
        policy = response.headers["content-security-policy"]
        assert policy == (
            "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        assert response.headers["cache-control"] == "no-store"
        assert not re.search(r"<script|<style|<img|<iframe| style=| on\w+=|https?://", response.text)
        [style] = re.findall(r'<link rel="stylesheet" href="(.*?)">', response.text)
    found = client.get(style)
    assert (found.status_code, found.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in found.headers["cache-control"]
    assert "url(" not in found.text
    assert "@import" not in found.text
    assert client.get(style, headers={"Accept-Encoding": "identity"}).text == found.text


def test_a_page_of_twenty_five_is_small_on_the_line(site: Site) -> None:
    site.execute("UPDATE bandicoot.call_list SET reason = repeat('a reason of some length ', 8) || rank || md5(reason)")
    client = worker(site)
    sizes = {}
    for path in ("/", re.findall(r'href="(/sheet/.*?)"', sheet(client))[0]):
        with client.stream("GET", path) as response:
            raw = b"".join(response.iter_raw())
        assert response.headers["content-encoding"] == "gzip"
        assert gzip.decompress(raw)
        sizes[path[:6]] = len(raw)
    print(f"page and style on the line: {sizes}")
    assert sizes["/"] < 15_000
    assert sizes["/sheet"] < 3_000
    plain = client.get("/", headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in plain.headers
    assert "0 of 60 called" in plain.text


def test_a_list_of_another_day_says_so_and_can_still_be_marked(site: Site) -> None:
    site.now += timedelta(days=1)
    client = worker(site)
    assert "This is the list of Thursday 19 November 2026, not of today, Friday 20 November 2026." in sheet(client)
    mark(client, site.listed()[0])
    assert outcomes(site)[0][3] == CALL_DATE
    site.now -= timedelta(days=1)
    assert "not of today" not in sheet(worker(site))


def test_while_postgresql_is_away_the_list_comes_from_redis_and_nothing_is_marked(cached_site: Site) -> None:
    client = worker(cached_site, api_keys_seconds=3600)
    cached_site.client("read", tier="fast").get("/recommend", params={"budget": 1})  # reads the list into Redis
    form = form_of(sheet(client), cached_site.listed()[0], "reached")
    listed = cached_site.listed()
    with cached_site.database_away():
        html = sheet(client, page=2)
        marked = client.post("/mark", data=form)
    assert shown(html) == listed[PAGE_SIZE : 2 * PAGE_SIZE]
    assert "The database does not answer" in html
    assert 'action="/mark"' not in html
    assert html.count("<fieldset disabled>") == PAGE_SIZE
    assert (marked.status_code, marked.headers["retry-after"]) == (503, "5")
    assert "Nothing was marked" in marked.text
    assert outcomes(cached_site) == []
    deadline = time.monotonic() + 10  # it is asked once a second whether it is there again
    while client.post("/mark", data=form).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [row[0] for row in outcomes(cached_site)] == listed[:1]


def test_without_postgresql_and_redis_there_is_a_page_in_words(cached_site: Site, redis_server: RedisServer) -> None:
    client = worker(cached_site, api_keys_seconds=3600)
    redis_server.kill()
    with cached_site.database_away():
        response = client.get("/")
        cold = visitor(cached_site)
        signing_in = sign_in(cold, "bdc_abcdefghijkl_" + "x" * 43)
    for each in (response, signing_in):
        assert each.status_code == 503
        assert each.headers["content-type"] == "text/html; charset=utf-8"
        assert "The list is not available" in each.text
        assert each.headers["x-request-id"] in each.text


def test_before_the_first_list_the_page_says_so(site: Site) -> None:
    site.execute("DELETE FROM bandicoot.list_publications")
    response = worker(site).get("/")
    assert response.status_code == 503
    assert "There is no list yet" in response.text


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


def test_the_page_is_in_the_document_and_asks_for_no_key_in_a_header(site: Site) -> None:
    document = site.client().get("/openapi.json").json()
    assert "security" not in document["paths"]["/"]["get"]
    assert not {"/mark", "/sign-in", "/sign-out"} & set(document["paths"])
