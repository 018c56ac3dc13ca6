"""What an analyst does in the UI alone: try another list, ask for the reason, compare models, backfill a month; and
what she sees of a list that its checks refuse.

Runs are started by clicking, as she would, and carried out by the daemon.
"""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect

from bandicoot_core.calendar import days_between, parse_day
from tests.e2e.conftest import CALL_DATE, WEEK, DemoHome

pytestmark = pytest.mark.e2e

RUN_MILLISECONDS = 120_000
MONTH = ("2026-10-01", "2026-10-31")
TALL: ViewportSize = {"width": 1400, "height": 1200}
"""So that an answer fits on one picture."""


def open_launchpad(page: Page, job: str, config: str = "", *, partition: str | None = None) -> Locator:
    """The Launchpad of a job with its configuration written and its partition chosen; what is left is to start it."""
    page.goto(f"/locations/bandicoot_dagster.definitions/jobs/{job}")
    materialize = page.get_by_role("button", name="Materialize").first
    expect(materialize).to_be_visible()
    materialize.locator("xpath=following::button[1]").click()
    page.get_by_text("Open launchpad").click()
    launchpad = page.get_by_role("dialog").filter(has_text="Launchpad")
    expect(launchpad.get_by_text("CONFIG ACTIONS")).to_be_visible()
    page.wait_for_timeout(500)  # it writes the defaults into the editor a moment after it has opened
    if config:
        launchpad.locator(".CodeMirror").first.click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(config)
    if partition:
        launchpad.get_by_placeholder("Partition").click()
        launchpad.get_by_placeholder("Partition").fill(partition)
        page.get_by_role("menuitem").filter(has_text=partition).click()
    return launchpad


def launch(page: Page, launchpad: Locator) -> str:
    """Start the run and wait for its end: SUCCESS or FAILURE."""
    launchpad.get_by_role("button", name="Materialize").click()
    expect(page).to_have_title(re.compile(r"\[(SUCCESS|FAILURE|CANCELED)\]"), timeout=RUN_MILLISECONDS)
    found = re.search(r"\[(\w+)\]", page.title())
    assert found is not None
    return found.group(1)


def metadata_row(page: Page, name: str) -> Locator:
    """The row of an asset's page that shows what its newest materialization says under a name."""
    return page.get_by_role("row").filter(has=page.get_by_text(name, exact=True))


def show_picture(page: Page, name: str) -> None:
    """Open a picture of an asset's metadata."""
    metadata_row(page, name).get_by_text("[Show Markdown]").click()
    picture = page.get_by_role("dialog").get_by_role("img").and_(page.locator("img"))
    expect(picture).to_have_attribute("src", re.compile("^data:image/png;base64,"))
    page.wait_for_function("picture => picture.complete && picture.naturalWidth > 0", arg=picture.element_handle())


def lake_files(home: DemoHome) -> dict[str, int]:
    """Every file of the lake with the moment of its last change."""
    lake = home.home / "lake"
    return {str(path.relative_to(lake)): path.stat().st_mtime_ns for path in lake.rglob("*") if path.is_file()}


def published_tables(url: str) -> dict[str, list[tuple[object, ...]]]:
    with psycopg.connect(url) as connection:
        tables = ("call_list", "list_publications", "caregiver_states", "model_versions")
        return {
            name: connection.execute(f"SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM bandicoot.{name} t")
            .fetchall()
            for name in tables
        }  # fmt: skip


def test_another_budget_is_tried_and_nothing_else_changes(
    page: Page, demo_home: DemoHome, published_url: str, take_picture: Callable[[str], None]
) -> None:
    files, tables = lake_files(demo_home), published_tables(published_url)
    launchpad = open_launchpad(
        page, "what_if", "ops:\n  what_if_call_list:\n    config:\n      budget: 7\n", partition=CALL_DATE
    )
    assert launch(page, launchpad) == "SUCCESS"
    page.goto("/assets/what_if_call_list")
    expect(page.get_by_text(f"7 caregivers would be on the list of {CALL_DATE}. ")).to_contain_text(
        "7 would stay and 93"
    )
    page.set_viewport_size(TALL)
    metadata_row(page, "who_would_drop_out").scroll_into_view_if_needed()
    take_picture("what-if")
    assert lake_files(demo_home) == files
    assert published_tables(published_url) == tables


def test_an_option_out_of_its_bounds_is_described_and_refused(page: Page) -> None:
    config = "ops:\n  what_if_call_list:\n    config:\n      budget: -1\n"
    launchpad = open_launchpad(page, "what_if", config, partition=CALL_DATE)
    assert launch(page, launchpad) == "FAILURE"
    expect(page.locator("body")).to_contain_text("budget (found -1): Input should be greater than or equal to 0")


def test_why_a_caregiver_is_or_is_not_listed_is_answered(
    page: Page, published_url: str, take_picture: Callable[[str], None]
) -> None:
    with psycopg.connect(published_url) as connection:
        query = "SELECT caregiver_id FROM bandicoot.call_list WHERE call_date = %s AND rank = 3"
        [(listed,)] = connection.execute(query, (CALL_DATE,)).fetchall()
        query = "SELECT min(caregiver_id) FROM bandicoot.caregiver_states WHERE status <> 'active'"
        [(inactive,)] = connection.execute(query).fetchall()
    for name, answer in (
        (listed, f"She is on the list of {CALL_DATE}, at rank 3"),
        (inactive, f"She is not on the list of {CALL_DATE}"),
    ):
        config = f"ops:\n  why_listed:\n    config:\n      caregiver_id: {name}\n"
        assert launch(page, open_launchpad(page, "explain_listing", config, partition=CALL_DATE)) == "SUCCESS"
        page.goto("/assets/why_listed")
        expect(page.get_by_text(answer)).to_be_visible()
        assert name not in page.locator("body").inner_text()
    expect(metadata_row(page, "rules")).to_contain_text("status is active")
    take_picture("why-not-listed")


def test_two_models_are_compared(page: Page, published_url: str, take_picture: Callable[[str], None]) -> None:
    config = "resources:\n  training:\n    config:\n      n_clusters: 4\n      training_weeks: 10\n      n_draws: 200\n"
    assert launch(page, open_launchpad(page, "weekly_training", config, partition=WEEK)) in ("SUCCESS", "FAILURE")
    with psycopg.connect(published_url) as connection:
        query = "SELECT model_version FROM bandicoot.model_versions ORDER BY created_at"
        versions = [version for (version,) in connection.execute(query)]
    assert len(versions) == 2
    names = dict(zip(("first_version", "second_version"), versions, strict=True))
    config = "ops:\n  model_comparison:\n    config:\n" + "".join(
        f"      {key}: {name}\n" for key, name in names.items()
    )
    assert launch(page, open_launchpad(page, "compare_models", config)) == "SUCCESS"
    page.goto("/assets/model_comparison")
    body = page.locator("body")
    for version in versions:
        expect(body).to_contain_text(version)
    expect(body).to_contain_text("n_clusters")
    show_picture(page, "change_of_index")
    take_picture("model-comparison")
    page.goto("/assets/model_version")
    expect(metadata_row(page, "what_its_checks_found")).to_be_visible()
    show_picture(page, "indices")
    take_picture("model")


def test_a_month_is_backfilled_in_one_run(page: Page, demo_home: DemoHome) -> None:
    lake = demo_home.home / "lake" / "vaccinations"
    days = [day.isoformat() for day in days_between(*map(parse_day, MONTH))]
    before = {day: manifest_moment(lake, day) for day in days}
    page.goto("/locations/bandicoot_dagster.definitions/jobs/source_history")
    page.get_by_role("button", name="Materialize all").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Show all partitions").click()
    choice = dialog.get_by_placeholder("ex: ")
    choice.fill(f"[{MONTH[0]}...{MONTH[1]}]")
    choice.press("Tab")
    expect(dialog).to_contain_text("31 partitions")
    dialog.get_by_role("button", name="Launch backfill").click()
    page.goto("/runs?view=backfills")
    expect(page.get_by_text("31 partitions").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=RUN_MILLISECONDS)
    after = {day: manifest_moment(lake, day) for day in days}
    assert all(before[day] < after[day] for day in days)
    assert max(after.values()) - min(after.values()) < 60e9  # one run, not one for each day


def test_a_list_that_a_check_refuses_is_shown_and_never_published(
    page: Page, published_url: str, take_picture: Callable[[str], None]
) -> None:
    before = published_tables(published_url)["call_list"]
    config = "ops:\n  call_list:\n    config:\n      min_engagement: 0.9\n      max_engagement: 1.0\n"
    assert launch(page, open_launchpad(page, "daily_list", config, partition=CALL_DATE)) == "FAILURE"
    page.goto("/assets/call_list?view=checks&checkDetail=engagement_is_plausible")
    body = page.locator("body")
    for shown in ("blocking", "Failed", "between 90.0% and 100.0% is expected", "engagement_share", "failing_rows"):
        expect(body).to_contain_text(shown)
    take_picture("failed-check")
    assert published_tables(published_url)["call_list"] == before


def manifest_moment(folder: Path, day: str) -> int:
    return (folder / day / "manifest.json").stat().st_mtime_ns
