"""What is billed takes the place of what was estimated."""

from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest
import sqlglot

from bandicoot_core.calendar import start_of_day
from bandicoot_core.contracts import SPENDING
from bandicoot_core.costs.bill import BilledService, bill_query, bill_span, billed_until, with_bill
from bandicoot_core.costs.prices import load_prices

DAY = date(2026, 11, 15)
NOON_OF_THE_TENTH = start_of_day(date(2026, 11, 1)) + timedelta(days=10)  # a third of November
ESTIMATES = {"runs of nightly": 4.0, "runs of daily_list": 1.0, "daemon and UI": 7.0, "lake": 0.5, "database": 6.0}


def estimated() -> pa.Table:
    rows = [
        {"component": name, "basis": "x", "spent_usd": usd, "projected_usd": 2 * usd, "estimated_usd": usd}
        for name, usd in ESTIMATES.items()
    ]
    return pa.Table.from_pylist(rows, schema=SPENDING.arrow_schema())


def billed(*services: tuple[str, float], until: datetime = NOON_OF_THE_TENTH) -> dict[str, dict[str, object]]:
    bill = [BilledService(name, usd, until) for name, usd in services]
    table = with_bill(estimated(), bill, load_prices().billed, day=DAY)
    return {row["component"]: row for row in table.to_pylist()}


def test_a_billed_component_replaces_its_estimates_and_shows_them_beside_it() -> None:
    rows = billed(("Cloud Run", 20.0), ("Compute Engine", 1.0))
    assert set(rows) == {"computing", "lake", "database"}
    computing = rows["computing"]
    assert computing["billed_usd"] == 21
    assert computing["estimated_usd"] == 12
    assert computing["basis"] == "the bill: Cloud Run, Compute Engine"
    assert rows["database"]["billed_usd"] is None
    assert rows["database"]["spent_usd"] == 6


def test_after_the_newest_usage_on_the_bill_its_pace_goes_on() -> None:
    lake = billed(("Cloud Storage", 2.0))["lake"]
    assert lake["projected_usd"] == pytest.approx(6.0)
    assert lake["spent_usd"] == pytest.approx(3.0)  # half of November has passed, a third is billed
    assert lake["billed_until"] == NOON_OF_THE_TENTH


def test_usage_that_ends_after_the_day_counts_up_to_the_day() -> None:
    lake = billed(("Cloud Storage", 2.0), until=bill_span(DAY)[1] + timedelta(minutes=30))["lake"]
    assert lake["spent_usd"] == pytest.approx(2.0)
    assert lake["projected_usd"] == pytest.approx(4.0)


def test_services_that_no_component_names_are_shown_together_and_credits_may_exceed_costs() -> None:
    other = billed(("BigQuery", 0.25), ("Secret Manager", -1.0))["other services"]
    assert other["basis"] == "the bill: BigQuery, Secret Manager"
    assert (other["spent_usd"], other["projected_usd"]) == (-0.75, -0.75)
    assert other["estimated_usd"] == 0


def test_a_bill_is_complete_until_its_least_complete_component() -> None:
    early = datetime(2026, 11, 3, tzinfo=UTC)
    bill = [BilledService("Cloud SQL", 1, early), BilledService("Cloud Run", 1, NOON_OF_THE_TENTH)]
    assert billed_until(with_bill(estimated(), bill, load_prices().billed, day=DAY)) == early
    assert billed_until(estimated()) is None


def test_the_query_reads_no_column_and_no_partition_that_it_does_not_need() -> None:
    query = sqlglot.parse_one(bill_query("p-1.billing.export"), read="bigquery")
    columns = {column.name for column in query.find_all(sqlglot.exp.Column)}
    needed = {"cost", "currency_conversion_rate", "credits", "usage_start_time", "usage_end_time", "_PARTITIONTIME"}
    assert needed <= columns
    assert columns - needed <= {"description", "amount", "id", "service"}
    assert not list(query.find_all(sqlglot.exp.Star))
