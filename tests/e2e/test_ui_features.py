"""What an asset shows about itself, seen on pages of the UI; that every asset has it, test_asset_features holds."""

import re
from collections.abc import Callable

import psycopg
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import CALL_DATE

pytestmark = pytest.mark.e2e


def expect_texts(page: Page, *texts: str) -> None:
    for text in texts:
        expect(page.locator("body")).to_contain_text(text, timeout=30_000)


def test_the_page_of_a_list_says_how_it_is_made_kept_and_checked(
    page: Page, take_picture: Callable[[str], None]
) -> None:
    page.set_viewport_size({"width": 1400, "height": 1300})
    page.goto("/assets/call_list")
    page.get_by_text("Compute details").click()
    expect_texts(
        page,
        "Whom to call on a day, in order",  # description
        "What a call is worth to her cluster in her state [responsive weeks].",  # columns with units
        "programme-analytics",  # owner
        "DuckDB",  # kind
        "in editor",  # code reference
        "Code version",
        "Pool",  # concurrency
        "Latest check results",
        "Deadline: At 02:00 AM GMT+5:30",  # freshness in local time
        "first_rows",  # preview
        "list_by_district",  # chart
        "View config details",
    )
    page.get_by_role("row").filter(has_text="first_rows").get_by_text("[Show Markdown]").click()
    preview = page.get_by_role("dialog")
    expect(preview).to_contain_text("caregiver_key")
    expect(preview.get_by_role("row")).to_have_count(11)
    take_picture("list")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Plots").click()
    expect_texts(page, "n_eligible", "n_listed")  # domain metrics over time
    expect(page.locator("canvas").first).to_be_visible()


def test_columns_are_traced_to_those_they_come_from(page: Page, published_url: str) -> None:
    with psycopg.connect(published_url) as connection:
        (run_id,) = connection.execute(
            "SELECT run_id FROM bandicoot.list_publications WHERE call_date = %s", (CALL_DATE,)
        ).fetchone() or (None,)
    page.goto(f"/runs/{run_id}")  # the log of a run is where this edition of the UI shows it
    expect_texts(page, "dagster/column_lineage")


def test_checks_say_which_of_them_block(page: Page) -> None:
    page.goto("/assets/call_list?view=checks")
    expect_texts(page, "This is a blocking asset check.", "budget_is_used", "nobody_is_in_control", "n_pools_over")


def test_a_published_list_names_its_table_and_shows_its_rows(page: Page) -> None:
    page.goto("/assets/published_call_list")
    expect_texts(page, "Storage", "bandicoot.call_list", "first_rows", "list_by_district", "Row count")
    page.goto(f"/assets/published_call_list?view=partitions&partition={CALL_DATE}")
    expect_texts(page, "dagster/uri", "postgresql://")
    assert "@" not in page.locator("body").inner_text().partition("postgresql://")[2][:100]


def test_days_are_partitions_that_say_what_they_hold(page: Page) -> None:
    page.goto(f"/assets/caregiver_states?view=partitions&partition={CALL_DATE[:-2]}18")
    expect_texts(page, "Materialized", "responsive_share", "n_responsive", "states_over_time", "first_rows")


def test_the_programmes_tables_are_external_upstreams(page: Page) -> None:
    page.goto("/assets/suvita_production/sms_logs")
    expect_texts(page, "External Asset", "Messages sent by the programme", "opened_at", "Postgres", "sms_events")


def test_options_are_described_and_bounded_in_the_launchpad(page: Page) -> None:
    page.goto("/locations/bandicoot_dagster.definitions/jobs/daily_list/playground")
    editor = page.locator(".CodeMirror").first
    expect(editor).to_contain_text("budget: 100")  # scaffolded with the defaults
    editor.locator("textarea").focus()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text("ops:\n  call_list:\n    config:\n      budgets: 5\n")
    expect_texts(page, 'Received unexpected config entry "budgets"')
    page.goto("/assets/call_list")
    page.get_by_text("Compute details").click()
    page.get_by_text("View config details").click()
    expect(page.get_by_role("dialog")).to_contain_text(re.compile(r"at least 0"))


def test_pools_retries_schedules_and_alarms_are_in_the_deployment(page: Page) -> None:
    page.goto("/deployment/config")
    expect_texts(page, "pools:", "default_limit: 1", "granularity: run", "run_retries:", "max_retries: 2")
    page.goto("/automation")
    expect_texts(page, "At 01:00 AM GMT+5:30", "At 02:00 AM GMT+5:30, only on Sunday", "At 06:00 AM GMT+5:30", "alarms")
