"""The page of the call sheet: what is on it, how small it is, and what it says when something is away."""

import gzip
import re
import time
from datetime import timedelta
from html import unescape

import pytest

from tests.servers.redis import RedisServer
from tests.service.conftest import BUDGET, Site
from tests.service.sheet_hands import (
    PAGE_SIZE,
    form_of,
    mark,
    outcomes,
    sheet,
    shown,
    sign_in,
    visitor,
    worker,
)
from tests.small_programme import CALL_DATE


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
    client = worker(site)
    mark(client, site.listed()[1])
    site.execute("UPDATE bandicoot.call_outcomes SET recorded_by = %s WHERE starts_with(call_id, 'sheet:')", script)
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
    try:
        with cached_site.database_away():
            response = client.get("/")
            cold = visitor(cached_site)
            signing_in = sign_in(cold, "bdc_abcdefghijkl_" + "x" * 43)
    finally:
        redis_server.start()
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


def test_the_page_is_in_the_document_and_asks_for_no_key_in_a_header(site: Site) -> None:
    document = site.client().get("/openapi.json").json()
    assert "security" not in document["paths"]["/"]["get"]
    assert not {"/mark", "/sign-in", "/sign-out"} & set(document["paths"])
