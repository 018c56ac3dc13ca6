"""The bill as BigQuery's own client reads it, from a server that executes the SQL, and the report of it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from bandicoot_core.contracts import SPENDING
from bandicoot_core.costs.bill import BilledService
from bandicoot_core.errors import InvalidInputError, InvalidSettingError, UnreachableError
from bandicoot_core.settings import Settings, load_settings
from bandicoot_dagster.assets.costs import cost_report
from bandicoot_dagster.billing import Bill
from bandicoot_dagster.resources import build_resources
from tests.servers.bigquery import BigQuery, bigquery_server, service_account

DAY = date(2026, 11, 15)
TABLE = "billing-project.billing.gcp_billing_export_v1_0123AB"
PROJECT = "bandicoot-project"
START = datetime(2026, 10, 31, 18, 30, tzinfo=UTC)
"""Of November in India."""
RUPEES = 80.0


def usage(
    service: str, rupees: float, at: datetime, *credits: float, project: str | None = PROJECT, late_days: int = 0
) -> tuple[Any, ...]:
    exported = (at + timedelta(days=late_days)).replace(hour=0, minute=0)
    return (service, project, at, at + timedelta(hours=1), rupees, RUPEES, list(credits), exported)


@pytest.fixture(scope="module")
def _server() -> Iterator[BigQuery]:
    with bigquery_server(TABLE) as server:
        noon = datetime(2026, 11, 10, 12, tzinfo=UTC)
        server.bill(
            [
                usage("Cloud Run", 800.0, noon, -80.0, -8.0),
                usage("Cloud Run", 80.0, START + timedelta(minutes=30), late_days=4),
                usage("Cloud Storage", 8.0, noon - timedelta(days=1)),
                usage("Cloud Run", 1e6, START - timedelta(minutes=30)),  # October in India
                usage("Cloud Run", 1e6, datetime(2026, 11, 15, 19, tzinfo=UTC)),  # the 16th in India
                usage("Cloud SQL", 1e6, noon, project="another"),
                usage("Invoice", 160.0, noon, project=None),
            ]
        )
        yield server


@pytest.fixture
def bigquery(_server: BigQuery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BigQuery:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", _server.address)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(service_account(tmp_path, _server.address)))
    _server.refusal = None
    return _server


def configured(**changes: Any) -> Settings:
    return load_settings(
        **{"billing_table": TABLE, "billing_project": PROJECT, "billing_timeout_seconds": 3, **changes}
    )


def test_each_service_of_the_project_and_month_is_summed_in_dollars_with_its_credits(bigquery: BigQuery) -> None:
    assert Bill(configured()).read(DAY) == [
        BilledService("Cloud Run", pytest.approx(9.9), datetime(2026, 11, 10, 13, tzinfo=UTC)),
        BilledService("Cloud Storage", pytest.approx(0.1), datetime(2026, 11, 9, 13, tzinfo=UTC)),
    ]
    asked = bigquery.asked[-1]
    assert asked["maximumBytesBilled"] == str(20 * 2**30)
    assert asked["parameterMode"] == "NAMED"
    assert PROJECT not in asked["query"]
    # The library sends instants as BigQuery's SQL writes them.
    values = {each["name"]: each["parameterValue"].get("value") for each in asked["queryParameters"]}
    assert str(values["month_start"]).startswith("2026-10-31")


def test_without_a_project_everything_on_the_bill_counts(bigquery: BigQuery) -> None:
    found = {each.service: each.usd for each in Bill(configured(billing_project=None)).read(DAY)}
    assert found == {
        "Cloud Run": pytest.approx(9.9),
        "Cloud SQL": pytest.approx(12_500),
        "Cloud Storage": pytest.approx(0.1),
        "Invoice": pytest.approx(2),
    }


def test_a_refusal_says_which_rights_are_needed(bigquery: BigQuery) -> None:
    bigquery.refusal = (403, "Access Denied: Table billing: User does not have permission")
    with pytest.raises(InvalidInputError, match=r"refuses \(403 .*Access Denied.*bigquery.dataViewer"):
        Bill(configured()).read(DAY)


def test_a_server_that_does_not_answer_is_given_up_after_the_timeout(
    bigquery: BigQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:9")
    with pytest.raises(UnreachableError, match="BigQuery does not answer"):
        Bill(configured(billing_timeout_seconds=1)).read(DAY)


def test_a_process_without_credentials_says_so(
    bigquery: BigQuery, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(InvalidInputError, match=r"refuses \(File .*absent.json was not found"):
        Bill(configured()).read(DAY)


def test_a_name_that_could_end_its_quotes_is_no_table() -> None:
    with pytest.raises(InvalidSettingError, match="BANDICOOT_BILLING_TABLE"):
        configured(billing_table="a-project.billing.x` WHERE TRUE --")


def report(home: Path, url: str) -> tuple[dg.ExecuteInProcessResult, dict[str, dict[str, Any]]]:
    resources = build_resources(configured(home=home, database_url=url))
    ran = dg.materialize([cost_report], partition_key=DAY.isoformat(), resources=resources)
    rows = resources["stores"].lake.read(SPENDING, "cost_report", DAY.isoformat()).to_pylist()
    return ran, {row["component"]: row for row in rows}


def test_the_report_shows_the_bill_in_the_place_of_estimates_and_up_to_when(
    bigquery: BigQuery, published_url: str, tmp_path: Path
) -> None:
    ran, rows = report(tmp_path, published_url)
    assert rows["computing"]["billed_usd"] == pytest.approx(9.9)
    assert rows["lake"]["billed_usd"] == pytest.approx(0.1)
    assert rows["database"]["billed_usd"] is None
    assert "daemon and UI" not in rows
    [made] = ran.asset_materializations_for_node("cost_report")
    summary = str(made.metadata["summary"].value)
    assert "10.00 of it are on the bill, which is complete until 2026-11-09T13:00:00+00:00" in summary
    [check] = ran.get_asset_check_evaluations()
    assert check.passed


def test_a_bill_that_cannot_be_read_leaves_the_estimate_with_a_warning(
    bigquery: BigQuery, published_url: str, tmp_path: Path
) -> None:
    bigquery.refusal = (403, "Access Denied")
    ran, rows = report(tmp_path, published_url)
    assert ran.success
    assert {row["billed_usd"] for row in rows.values()} == {None}
    assert "daemon and UI" in rows
    [check] = ran.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    [made] = ran.asset_materializations_for_node("cost_report")
    assert "BigQuery refuses" in str(made.metadata["bill"].value)
    assert "what is said is an estimate" in str(made.metadata["bill"].value)
