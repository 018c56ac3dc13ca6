"""The cost report of a day: materializing it, and what it says."""

from collections.abc import Sequence
from datetime import date

from bandicoot_core.contracts import SPENDING
from bandicoot_core.costs.charts import spending_against_limit
from bandicoot_core.costs.prices import load_prices
from bandicoot_core.costs.spending import RunTime, days_of_month_so_far, n_days_of_month, spending_of_month, total
from bandicoot_core.evaluation.report import Report
from bandicoot_core.stores.installation import Installation
from bandicoot_core.stores.lake.lake import Lake
from bandicoot_core.stores.lake.manifest import Manifest

COST_REPORT = "cost_report"


def materialize_cost_report(stores: Installation, day: date, run_times: Sequence[RunTime]) -> Manifest:
    """Write the `cost_report` partition of a day: SPENDING from its month's beginning to its end.

    `run_times` are the runs of the month, others are passed over. InvalidSettingError when the prices cannot be read.
    """
    prices = load_prices(stores.settings.prices_file)
    spending = spending_of_month(run_times, lake_bytes(stores.lake), prices, day=day)
    spent, limit = total(spending, "spent_usd"), prices.monthly_limit
    return stores.lake.write(
        COST_REPORT,
        day.isoformat(),
        {"data": (SPENDING, spending)},
        recipe={"prices": prices.model_dump(mode="json")},
        facts={
            "spent_usd": spent,
            "projected_usd": total(spending, "projected_usd"),
            "monthly_limit_usd": limit,
            "share_of_limit": spent / limit,
        },
    )


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
    return Report(
        title=f"What {day:%B %Y} has cost up to {day}",
        sentences=[
            f"{spent:,.2f} US dollars were spent up to {day}, {spent / limit:.0%} of the limit of {limit:,.0f}.",
            f"At this pace the month comes to {projected:,.2f}, "
            + ("which is within the limit." if projected <= limit else "more than the limit."),
        ],
        tables={"spending": lake.read(SPENDING, COST_REPORT, day.isoformat())},
        pictures={"spending against limit": picture},
    )
