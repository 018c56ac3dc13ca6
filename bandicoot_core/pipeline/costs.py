"""The cost report of a day: materializing it, and what it says."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import pyarrow as pa

from bandicoot_core.checks import CheckOutcome
from bandicoot_core.contracts import SPENDING
from bandicoot_core.costs.bill import BilledService, billed_until, with_bill
from bandicoot_core.costs.charts import spending_against_limit
from bandicoot_core.costs.prices import Prices, load_prices
from bandicoot_core.costs.spending import RunTime, days_of_month_so_far, n_days_of_month, spending_of_month, total
from bandicoot_core.errors import InvalidInputError, UnreachableError
from bandicoot_core.evaluation.report import Report
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest

COST_REPORT = "cost_report"
BILL_IS_READ = "bill_is_read"
COST_CHECKS: Mapping[str, str] = {
    BILL_IS_READ: "Where a bill is configured, it could be read; if not, costs are estimated from use and prices.",
}
ReadBill: TypeAlias = Callable[[date], Sequence[BilledService]]
"""What is billed of a day's month, up to the end of the day."""


@dataclass(frozen=True)
class CostReport:
    """The partition that was written, and whether the bill could be read."""

    manifest: Manifest
    bill: CheckOutcome


def materialize_cost_report(
    stores: Installation, day: date, run_times: Sequence[RunTime], *, read_bill: ReadBill | None = None
) -> CostReport:
    """Write the `cost_report` partition of a day: SPENDING from its month's beginning to its end.

    `run_times` are the runs of the month, others are passed over. `read_bill` gives what was billed in the month up to
    the end of a day; where it raises UnreachableError or InvalidInputError the estimate stands, and the outcome says
    why. InvalidSettingError when the prices cannot be read.
    """
    prices = load_prices(stores.settings.prices_file)
    spending = spending_of_month(run_times, lake_bytes(stores.lake), prices, day=day)
    if read_bill is None:
        outcome = _bill_outcome("no bill is configured (billing_table): what is said is an estimate")
    else:
        spending, outcome = _with_bill(spending, read_bill, prices, day)
    spent, limit = total(spending, "spent_usd"), prices.monthly_limit
    known = billed_until(spending)
    manifest = stores.lake.write(
        COST_REPORT,
        day.isoformat(),
        {"data": (SPENDING, spending)},
        recipe={"prices": prices.model_dump(mode="json")},
        facts={
            "spent_usd": spent,
            "projected_usd": total(spending, "projected_usd"),
            "monthly_limit_usd": limit,
            "share_of_limit": spent / limit,
            "estimated_usd": total(spending, "estimated_usd"),
            **(
                {}
                if known is None
                else {"billed_usd": total(spending, "billed_usd"), "billed_until": known.isoformat()}
            ),
        },
    )
    return CostReport(manifest, outcome)


def _with_bill(spending: pa.Table, read_bill: ReadBill, prices: Prices, day: date) -> tuple[pa.Table, CheckOutcome]:
    try:
        bill = read_bill(day)
    except (UnreachableError, InvalidInputError) as error:
        text = f"{' '.join(str(error).split())}; what is said is an estimate"
        return spending, _bill_outcome(text, is_passed=False)
    if not bill:
        return spending, _bill_outcome(f"nothing of {day:%B %Y} is billed yet: what is said is an estimate")
    spending = with_bill(spending, bill, prices.billed, day=day)
    return spending, _bill_outcome(f"{len(bill)} services are billed, until {billed_until(spending)}")


def _bill_outcome(text: str, *, is_passed: bool = True) -> CheckOutcome:
    return CheckOutcome(BILL_IS_READ, is_passed, False, text)


def lake_bytes(lake: Lake) -> int:
    """Bytes of all files that the lake's partitions name."""
    return sum(
        entry.n_bytes
        for asset in lake.assets()
        for manifest in lake.manifests(asset, lake.partitions(asset))
        if manifest is not None
        for entry in manifest.entries.values()
    )


def read_cost_report(lake: Lake, day: date) -> Report:
    """The materialized report, with the month's earlier ones in its chart; MissingPartitionError when it is absent."""
    manifest = lake.require(COST_REPORT, day.isoformat())
    days = days_of_month_so_far(day)
    earlier = lake.manifests(COST_REPORT, [each.isoformat() for each in days])
    known = [(each, float(m.facts["spent_usd"])) for each, m in zip(days, earlier, strict=True) if m is not None]
    spent, projected = float(manifest.facts["spent_usd"]), float(manifest.facts["projected_usd"])
    limit = float(manifest.facts["monthly_limit_usd"])
    picture = spending_against_limit(
        [each for each, _ in known],
        [amount for _, amount in known],
        n_days_of_month=n_days_of_month(day),
        projected_usd=projected,
        limit_usd=limit,
    )
    billed = manifest.facts.get("billed_usd")
    said_of_bill = (
        f"An estimate from use and prices: {spent:,.2f}. Nothing of it is on a bill yet."
        if billed is None
        else f"{float(billed):,.2f} of it are on the bill, which is complete until {manifest.facts['billed_until']}; "
        f"use and prices alone would say {float(manifest.facts['estimated_usd']):,.2f}."
    )
    return Report(
        title=f"What {day:%B %Y} has cost up to {day}",
        sentences=[
            f"{spent:,.2f} US dollars were spent up to {day}, {spent / limit:.0%} of the limit of {limit:,.0f}.",
            f"At this pace the month comes to {projected:,.2f}, "
            + ("which is within the limit." if projected <= limit else "more than the limit."),
            said_of_bill,
        ],
        tables={"spending": lake.read(SPENDING, COST_REPORT, day.isoformat())},
        pictures={"spending against limit": picture},
    )
