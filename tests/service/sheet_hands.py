"""A browser on the call sheet, and the hands of who uses it."""

import re
from html import unescape

import httpx
from fastapi.testclient import TestClient

from tests.service.conftest import Site

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
