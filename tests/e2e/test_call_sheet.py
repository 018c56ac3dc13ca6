"""A health worker's morning on a phone: signing in, the list of a district, and what came of a call.

The page is served by a process of its own, in headless Chromium on the screens of phones, with and without scripts.
Most tests stand at noon of the list's day; the command itself, which goes by the real clock, has a test too.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from bandicoot_core.stores.published.api_keys import create_key
from tests.e2e.conftest import CALL_DATE, PICTURES_VARIABLE, DemoHome, Faults, closed_port

pytestmark = pytest.mark.e2e

NOON = f"{CALL_DATE}T12:00:00+05:30"
PHONE, SMALL_PHONE = (390, 844), (320, 568)
SCREENS = [PHONE, SMALL_PHONE]
DOCUMENTED = {"call_sheet-list", "call_sheet-districts", "call_sheet-marked"}
"""Pictures that docs/call_sheet.md shows."""

_PROJECT = Path(__file__).parents[2]
_SERVE_AT_NOON = (
    "import sys; from datetime import datetime; from bandicoot_api.serve import serve; "
    "moment = datetime.fromisoformat(sys.argv[2]); "
    "serve(host='127.0.0.1', port=int(sys.argv[1]), clock=lambda: moment)"
)
_SERVING_SECONDS = 60

# The script runs in the browser. A text's background is that of its nearest ancestor that has one.
_FAINT_TEXTS = """() => {
    const channels = color => color.match(/[\\d.]+/g).map(Number);
    const light = color => channels(color).slice(0, 3).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const color = getComputedStyle(element).backgroundColor, alpha = channels(color)[3];
            if (alpha === undefined) return color;
            if (alpha !== 0) throw new Error('a background lets another one through: ' + color);
        }
        return 'rgb(255, 255, 255)';
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), faint = [];
    let n = 0;
    for (let text; (text = texts.nextNode());) {
        const element = text.parentElement;
        if (!text.data.trim() || !element.checkVisibility()) continue;
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
        n += 1;
        if ((a + 0.05) / (b + 0.05) < 4.5) faint.push(text.data.trim());
    }
    return [n, faint];
}"""

_SMALL_TARGETS = """() => [...document.querySelectorAll('a, button, summary, input:not([type=hidden])')]
    .filter(each => each.checkVisibility() && !each.classList.contains('skip'))
    .map(each => [each.textContent.trim() || each.id, each.getBoundingClientRect()])
    .filter(([, box]) => box.width < 44 || box.height < 44)
    .map(([words, box]) => `${words}: ${box.width} x ${box.height}`)"""

_OVERFLOW = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def key(demo_home: DemoHome, published_url: str) -> Iterator[str]:
    """A health worker's key; with the module, it and all that was marked by it are gone."""
    with psycopg.connect(published_url, autocommit=True) as connection:
        made = datetime.fromisoformat(NOON).astimezone(UTC) - timedelta(days=1)
        text, kept = create_key(connection, "centre-7", scopes=("read", "call"), tier="fast", created_at=made)
        yield text
        connection.execute("DELETE FROM bandicoot.call_outcomes WHERE recorded_by = 'centre-7'")
        connection.execute("DELETE FROM bandicoot.api_keys WHERE key_id = %s", (kept.key_id,))


@pytest.fixture(scope="module")
def sheet_url(demo_home: DemoHome, key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The service at noon of the list's day."""
    port = closed_port()
    command = [sys.executable, "-c", _SERVE_AT_NOON, str(port), NOON]
    with served(command, port, demo_home, tmp_path_factory.mktemp("sheet") / "api.log") as url:
        yield url


@pytest.fixture
def open_phone(browser: Browser, sheet_url: str, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """A function that opens a page on a phone's screen; errors of the page fail the test, refused styles too."""
    contexts: list[BrowserContext] = []
    faults = Faults()

    def open_one(
        screen: tuple[int, int] = PHONE, *, has_scripts: bool = True, url: str = sheet_url, is_clean: bool = True
    ) -> Page:
        context = browser.new_context(
            base_url=url,
            viewport={"width": screen[0], "height": screen[1]},
            device_scale_factor=2,
            is_mobile=True,
            has_touch=True,
            java_script_enabled=has_scripts,
        )
        contexts.append(context)
        page = context.new_page()
        if is_clean:
            faults.watch(page, url)
        return page

    yield open_one
    for number, context in enumerate(contexts):
        context.pages[0].screenshot(path=tmp_path / f"last-{number}.png")
        context.close()
    assert faults.found == []


@pytest.fixture
def take_phone_picture(tmp_path: Path) -> Callable[..., None]:
    """Saves what a page shows under a name, for the documentation too when a folder for it is named."""

    def take(page: Page, name: str) -> None:
        picture = tmp_path / f"{name}.png"
        page.screenshot(path=picture, animations="disabled")
        folder = os.environ.get(PICTURES_VARIABLE)
        if folder and name in DOCUMENTED:
            Path(folder).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, Path(folder) / picture.name)

    return take


@contextmanager
def served(command: list[str], port: int, demo_home: DemoHome, log_path: Path) -> Iterator[str]:
    """A process that serves, until the block ends."""
    url = f"http://127.0.0.1:{port}"
    with log_path.open("w") as log:
        process = subprocess.Popen(
            command, env=demo_home.environment, cwd=_PROJECT, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + _SERVING_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310 - an http URL of our own
                    break
            except (urllib.error.URLError, ConnectionError) as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"nothing serves on {url} ({error}):\n{log_path.read_text()[-4000:]}")
            time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def sign_in(page: Page, key: str) -> None:
    page.goto("/")
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Sign in").tap()
    expect(page.get_by_role("list").last).to_be_visible()


def outcomes(url: str, caregiver_id: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT outcome, recorded_by FROM bandicoot.call_outcomes WHERE caregiver_id = %s AND call_date = %s "
            "ORDER BY attempted_at, call_id",
            (caregiver_id, CALL_DATE),
        ).fetchall()


def choose_largest_district(page: Page, url: str) -> tuple[str, list[str]]:
    """Choose the district with most rows, and return it and its caregivers in calling order."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT district, array_agg(caregiver_id ORDER BY rank) FROM bandicoot.call_list WHERE call_date = %s "
            "GROUP BY district ORDER BY count(*) DESC, district LIMIT 1",
            (CALL_DATE,),
        ).fetchall()
    [(district, caregivers)] = rows
    chooser = page.get_by_role("navigation", name="District")
    chooser.locator("summary").tap()
    chooser.get_by_role("link", name=f"{district} {len(caregivers)}").tap()
    expect(chooser.locator("summary")).to_contain_text(district)
    return district, caregivers


@pytest.mark.parametrize("has_scripts", [True, False])
@pytest.mark.parametrize("screen", SCREENS)
def test_a_worker_signs_in_chooses_a_district_and_marks_a_call(
    open_phone: Callable[..., Page],
    sheet_url: str,
    key: str,
    published_url: str,
    screen: tuple[int, int],
    has_scripts: bool,
) -> None:
    page = open_phone(screen, has_scripts=has_scripts)
    sign_in(page, key)
    assert key not in page.url
    _, caregivers = choose_largest_district(page, published_url)
    page.get_by_role("navigation", name="Which calls").get_by_role("link", name=re.compile("^To call")).tap()
    row = page.locator("main li").first
    caregiver_id = row.get_by_role("heading").inner_text().split()[-1]
    rank = row.get_by_role("heading").inner_text().split()[0]
    assert caregiver_id in caregivers
    expect(row.locator("details")).to_have_attribute("open", "")  # who is next needs no tap to open
    before = outcomes(published_url, caregiver_id)

    with page.expect_request("**/mark") as sent:
        row.get_by_role("button", name="No answer").tap()
    assert sent.value.all_headers()["origin"] == sheet_url  # over plain http it is all there is to check

    expect(page.get_by_text(f"Number {rank} is marked.")).to_be_visible()
    expect(page.locator(f"#r{rank}")).to_have_count(0)
    assert outcomes(published_url, caregiver_id) == [*before, ("no_answer", "centre-7")]
    page.get_by_role("navigation", name="Which calls").get_by_role("link", name=re.compile("^All")).tap()
    marked = page.locator(f"#r{rank}")
    expect(marked).to_contain_text("No answer · 12:00 · centre-7")

    marked.locator("summary").tap()
    marked.get_by_role("button", name="Reached").tap()
    expect(page.locator(f"#r{rank}")).to_contain_text("Reached · 12:00 · centre-7 · call 2")
    expect(page.locator(f"#r{rank}")).to_be_in_viewport()
    assert ("reached", "centre-7") in outcomes(published_url, caregiver_id)

    page.get_by_role("button", name="Sign out").tap()
    expect(page.get_by_label("Your key")).to_be_visible()
    page.goto("/")
    expect(page.get_by_role("heading", name=caregiver_id)).to_have_count(0)


@pytest.mark.parametrize("screen", SCREENS)
def test_every_page_fits_a_phone_and_can_be_read_and_hit(
    open_phone: Callable[..., Page],
    key: str,
    published_url: str,
    take_phone_picture: Callable[..., None],
    screen: tuple[int, int],
) -> None:
    page = open_phone(screen, is_clean=False)  # one of the pages is a refusal
    size = "" if screen == PHONE else "-small"

    def check(name: str) -> None:
        take_phone_picture(page, f"call_sheet-{name}{size}")
        assert page.evaluate(_OVERFLOW) == 0, name
        assert page.evaluate(_SMALL_TARGETS) == [], name
        n_texts, faint = page.evaluate(_FAINT_TEXTS)
        assert n_texts > 3
        assert faint == [], name

    page.goto("/")
    check("sign-in")
    page.get_by_label("Your key").fill("not a key")
    page.get_by_role("button", name="Sign in").tap()
    expect(page.get_by_role("alert")).to_be_visible()
    check("wrong-key")
    sign_in(page, key)
    check("list")
    page.get_by_role("navigation", name="District").locator("summary").tap()
    check("districts")
    page.get_by_role("navigation", name="District").locator("summary").tap()
    choose_largest_district(page, published_url)
    for outcome in ("Wrong number", "Busy"):
        page.locator("main li:not(.done)").first.get_by_role("button", name=outcome).tap()
        expect(page.locator("li:target .marked")).to_contain_text(outcome)
    check("marked")
    page.goto("/?page=4")
    page.locator("footer").scroll_into_view_if_needed()
    check("end")
    page.goto("/?page=x")
    expect(page.get_by_role("link", name="Back to the list")).to_be_visible()
    check("refusal")


def test_all_of_it_is_reached_by_keyboard_and_focus_is_seen(open_phone: Callable[..., Page], key: str) -> None:
    page = open_phone()
    sign_in(page, key)
    for role in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(role)).to_have_count(1)
    assert page.locator("html").get_attribute("lang") == "en"
    focused = "() => [document.activeElement.textContent.trim(), getComputedStyle(document.activeElement).outlineWidth]"
    seen = []
    for _ in range(9):
        page.keyboard.press("Tab")
        words, outline = page.evaluate(focused)
        seen.append(words)
        assert outline == "3px", words
    assert seen[0] == "Skip to the list"
    assert any(words.startswith("District:") for words in seen)
    assert "Reached" in seen or "Mark the call" in seen


def test_on_a_slow_line_the_list_is_there_within_three_seconds(open_phone: Callable[..., Page], key: str) -> None:
    page = open_phone()
    sign_in(page, key)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.clearBrowserCache")
    line = {"offline": False, "latency": 400, "downloadThroughput": 50_000, "uploadThroughput": 20_000}
    session.send("Network.emulateNetworkConditions", line)
    received: list[float] = []
    session.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))

    started = time.perf_counter()
    page.goto("/", wait_until="commit")
    expect(page.locator("main li").first.get_by_role("button", name="Reached")).to_be_enabled()
    page.wait_for_function("() => document.styleSheets.length === 1")
    cold = time.perf_counter() - started
    started = time.perf_counter()
    page.locator("main li:not(.done)").first.get_by_role("button", name="Busy").tap()
    expect(page.locator("li:target .marked")).to_contain_text("Busy")
    marked = time.perf_counter() - started
    print(f"slow line: list {cold:.2f} s, mark {marked:.2f} s, {[round(n) for n in received]} bytes")
    assert sum(received[:2]) < 15_000
    assert cold < 3
    assert marked < 3


def test_the_command_serves_the_sheet_and_says_when_the_list_is_not_of_today(
    open_phone: Callable[..., Page], demo_home: DemoHome, key: str, tmp_path: Path
) -> None:
    port = closed_port()
    command = [sys.executable, "-m", "bandicoot_dagster.cli", "api", "--port", str(port)]
    with served(command, port, demo_home, tmp_path / "api.log") as url:
        page = open_phone(url=url)
        sign_in(page, key)
        expect(page.get_by_text("This is the list of Thursday 19 November 2026, not of today")).to_be_visible()
        expect(page.locator("main li")).to_have_count(25)
        page.goto("about:blank")  # so that no connection holds the process back
    log = (tmp_path / "api.log").read_text()
    assert "signed_in" in log
    assert key.rpartition("_")[2][:20] not in log
