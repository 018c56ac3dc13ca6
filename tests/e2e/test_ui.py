"""An analyst's morning in Dagster's UI: the asset graph, a list made from the page, and the charts of its assets."""

import json
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Locator, Page, expect
from psycopg.rows import TupleRow

from bandicoot_core.calendar import day_of
from tests.e2e.conftest import CALL_DATE, SMALL_SIMULATION, WEEK, DemoHome
from tests.servers.pubsub import PubSubServer

pytestmark = pytest.mark.e2e

GROUPS = {"programme", "source", "engagement", "model", "call_list", "evaluation", "operation", "analysis"}
ASSETS = {
    "caregiver_states",
    "clusters",
    "whittle_indices",
    "call_list",
    "published_call_list",
    "index_cache",
    "policy_simulation",
    "model_backtest",
}
RUN_SECONDS = 120


def texts(nodes: Locator) -> set[str]:
    return {text for text in nodes.all_text_contents() if text}


def is_short_for(shown: str, name: str) -> bool:
    """The graph cuts long names in the middle: `published_ca…_list`."""
    head, _, tail = shown.partition("…")
    return shown == name or ("…" in shown and name.startswith(head) and name.endswith(tail))


def published(url: str) -> tuple[list[TupleRow], list[TupleRow]]:
    """The published rows of the day by rank without their stamps, and the distinct stamps (run_id, published_at)."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT rank, caregiver_id, district, state, whittle_index, reason, model_version "
            "FROM bandicoot.call_list WHERE call_date = %s ORDER BY rank",
            (CALL_DATE,),
        ).fetchall()
        stamps = connection.execute(
            "SELECT DISTINCT run_id, published_at FROM bandicoot.call_list WHERE call_date = %s", (CALL_DATE,)
        ).fetchall()
    return rows, stamps


def test_the_asset_graph_shows_the_groups_and_their_assets(page: Page, take_picture: Callable[[str], None]) -> None:
    page.goto("/asset-groups")
    nodes = page.locator("foreignObject")
    for group in GROUPS:
        shown_group = page.locator("foreignObject.group").filter(has_text=re.compile(f"^{group}$"))
        expect(shown_group).to_be_visible(timeout=30_000)
    expect(page.get_by_text("fetching statuses")).to_have_count(0, timeout=30_000)
    take_picture("asset-graph")
    page.set_viewport_size({"width": 2000, "height": 1300})
    page.get_by_role("button", name="Hide navigation").click()
    page.get_by_role("button").filter(has=page.get_by_label("panel_show_right")).click()  # hide the tree of groups
    page.keyboard.press("Alt+e")  # expand all groups
    is_open = "n => document.querySelectorAll('foreignObject').length > n"
    page.wait_for_function(is_open, arg=len(GROUPS), timeout=30_000)
    page.set_viewport_size({"width": 4000, "height": 3200})  # room for all assets: the graph draws what lies in view
    seen: set[str] = set()
    for _ in range(5):
        page.wait_for_timeout(1000)
        seen |= texts(nodes)
        missing = [name for name in ASSETS if not any(is_short_for(text, name) for text in seen)]
        if not missing:
            break
        page.get_by_role("button").filter(has=page.get_by_label("zoom_out")).click()
    assert missing == [], f"the graph shows {sorted(seen)}"


def test_a_list_made_from_the_page_is_published_under_its_run(page: Page, published_url: str) -> None:
    rows_before, [(run_before, published_before)] = published(published_url)

    page.goto("/jobs")
    page.get_by_text("daily_list", exact=True).click()
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Launch runs to materialize 3 assets")
    dialog.get_by_role("button", name="Show all partitions").click()  # otherwise only those of the last 90 days
    choice = dialog.get_by_placeholder("ex: ")
    choice.fill(CALL_DATE)
    choice.press("Tab")
    dialog.get_by_role("button", name="Launch 1 run").click()
    page.get_by_role("link", name="View", exact=True).click()
    expect(page).to_have_url(re.compile(r"/runs/[0-9a-f-]{36}"))
    run_id = page.url.partition("/runs/")[2][:36]
    expect(page).to_have_title(re.compile(r"\[(SUCCESS|FAILURE|CANCELED)\]"), timeout=RUN_SECONDS * 1000)
    assert "[SUCCESS]" in page.title(), page.locator("body").inner_text()

    rows, [(run, published_at)] = published(published_url)
    assert run == run_id != run_before
    assert published_at > published_before
    assert rows == rows_before  # the same day, model and options make the same list
    assert len(rows) == 100


@pytest.mark.parametrize(
    ("asset", "chart"),
    [
        ("call_list", "list_by_district"),
        ("call_list", "eligibility"),
        ("clusters", "clusters_plane"),
        ("whittle_indices", "indices"),
        ("engagement_history", "states_over_time"),
        ("policy_simulation", "share_of_gain_public"),
    ],
)
def test_a_chart_of_an_asset_opens_on_its_page(
    page: Page, demo_home: DemoHome, take_picture: Callable[[str], None], asset: str, chart: str
) -> None:
    if asset == "policy_simulation":
        done = demo_home.bandicoot("evaluate", "simulation", "--week", WEEK, **SMALL_SIMULATION)
        assert done.returncode == 0, done.stderr
    page.goto(f"/assets/{asset}")
    row = page.get_by_role("row").filter(has=page.get_by_text(chart, exact=True))
    expect(row).to_be_visible()
    if chart == "list_by_district":
        take_picture("call-list-asset")
    row.get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").get_by_role("img").and_(page.locator("img"))
    expect(picture).to_be_visible()
    expect(picture).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    page.wait_for_function("picture => picture.complete && picture.naturalWidth > 0", arg=picture.element_handle())
    assert picture.get_attribute("alt")
    if chart == "list_by_district":
        take_picture("call-list-chart")


def test_an_assets_page_says_what_it_is_who_owns_it_and_where_its_code_is(page: Page) -> None:
    page.goto("/assets/call_list")
    body = page.locator("body")

    for shown in (
        "Whom to call on a day, in order",  # description
        "What a call is worth to her cluster in her state [responsive weeks].",  # columns with units
        "non-nullable",
        "Row count",
        "Latest check results",
        "programme-analytics",  # owner
        "DuckDB",  # kinds
        "daily_list",  # job
        "Freshness policy",
        "Deadline: At 02:00 AM GMT+5:30",
    ):
        expect(body).to_contain_text(shown, timeout=30_000)
    code = page.locator("a[href*='call_list.py']")
    expect(code).to_contain_text("call_list")


def test_who_opens_a_message_is_responsive_within_two_minutes_whoever_tells_it(
    page: Page, demo_home: DemoHome, broker: PubSubServer, published_url: str
) -> None:
    now = datetime.now(UTC)
    with psycopg.connect(published_url) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT caregiver_id FROM bandicoot.caregiver_states WHERE state = 'U' ORDER BY 1 LIMIT 2"
            )
        ]
    by_broker, by_file = (
        json.dumps(
            {
                "event_type": "sms_opened",
                "caregiver_id": name,
                "timestamp": now.isoformat(),
                "metadata": {"message_id": f"live-{name}"},
            }
        )
        for name in names
    )
    folder = demo_home.home / "events"
    folder.mkdir()
    (folder / "told.jsonl.part").write_text(by_file + "\n")
    (folder / "told.jsonl.part").rename(folder / "told.jsonl")
    broker.publish([by_broker.encode()] * 2)

    deadline = time.monotonic() + 120
    query = "SELECT state, last_open_date FROM bandicoot.caregiver_states WHERE caregiver_id = ANY (%s)"
    expected = [("R", day_of(now))] * 2
    while True:
        with psycopg.connect(published_url) as connection:
            states = connection.execute(query, (names,)).fetchall()
        if states == expected or time.monotonic() > deadline:
            break
        time.sleep(1)
    assert states == expected
    assert broker.n_left == 0

    page.goto("/assets/received_events")
    body = page.locator("body")
    for shown in ("What happened to messages, and doses given, as it is told", "Row count", "occurred_at"):
        expect(body).to_contain_text(shown, timeout=30_000)


def test_schedules_are_shown_in_the_time_of_india(page: Page) -> None:
    page.goto("/automation")
    body = page.locator("body")

    for schedule in ("At 01:00 AM GMT+5:30", "At 02:00 AM GMT+5:30, only on Sunday", "At 06:00 AM GMT+5:30"):
        expect(body).to_contain_text(schedule, timeout=30_000)


def test_webserver_daemon_and_runs_log_nothing_but_json(page: Page, ui_log: Path) -> None:
    lines = [json.loads(line) for line in ui_log.read_text().splitlines()]
    assert {"dagster.daemon", "dagster-webserver"} <= {line["logger"] for line in lines}
    made = [line["asset"] for line in lines if line.get("event") == "ASSET_MATERIALIZATION" and line["run_id"]]
    assert "published_call_list" in made
