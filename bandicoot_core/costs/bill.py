"""What Google has billed: the query on the standard usage cost export, and its answer put in the place of estimates.

The export is the one that a billing account writes to BigQuery (table `gcp_billing_export_v1_...`, a row for each
service, resource and hour of usage). Who runs the query belongs to Dagster; prices and estimates to prices, spending.

A row belongs to the Asia/Kolkata month, and to the day, in which its usage begins. Hours of usage begin on the full
hour in UTC and India's days half past: a day's first half hour is billed with the day before. Amounts are what the
service cost with all credits taken off, in US dollars at the rate of the row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa

from bandicoot_core.calendar import end_of_day
from bandicoot_core.contracts import SPENDING, conform
from bandicoot_core.costs.prices import BilledComponent
from bandicoot_core.costs.spending import month_start, n_days_of_month, share_of_month

RUNS = "runs"
"""In `replaces`: the runs of all jobs together."""
OTHER = "other services"

# Only the columns that are needed are read, and of the export's partitions, which are days of exporting, only those in
# which usage of the month can stand: it is exported after it happened, nearly all within days.
_QUERY = """
SELECT
  service.description AS service,
  SUM(cost / currency_conversion_rate)
    + SUM(IFNULL((SELECT SUM(credit.amount) FROM UNNEST(credits) AS credit), 0) / currency_conversion_rate) AS usd,
  MAX(usage_end_time) AS billed_until
FROM `{table}`
WHERE _PARTITIONTIME >= TIMESTAMP_TRUNC(@month_start, DAY)
  AND _PARTITIONTIME < TIMESTAMP_ADD(@until, INTERVAL 35 DAY)
  AND usage_start_time >= @month_start
  AND usage_start_time < @until
  AND (@project IS NULL OR project.id = @project)
GROUP BY service
ORDER BY service
"""


@dataclass(frozen=True)
class BilledService:
    """One service of the bill: US dollars since the month began, and when its newest usage on the bill ended (UTC)."""

    service: str
    usd: float
    billed_until: datetime


def bill_query(table: str) -> str:
    """The query, in BigQuery's SQL, with parameters `month_start`, `until` (TIMESTAMP) and `project` (STRING or NULL).

    `table` is `project.dataset.table`; a name cannot be a parameter, and the setting allows nothing that ends a quoted
    one. Rows: service, usd, billed_until.
    """
    return _QUERY.format(table=table)


def bill_span(day: date) -> tuple[datetime, datetime]:
    """The parameters `month_start` and `until` of the query for the month up to the end of a day, in UTC."""
    return month_start(day), end_of_day(day)


def with_bill(
    estimates: pa.Table, bill: Sequence[BilledService], components: Sequence[BilledComponent], *, day: date
) -> pa.Table:
    """Estimates of a month up to a day [SPENDING] with what was billed in the place of what it replaces [SPENDING].

    Of a component with a billed service, the bill counts until its newest usage, and that pace from there to the end of
    the day and of the month; the estimates of what it replaces stand beside it. A component of which nothing is billed
    keeps its estimate: it may be billed later, or elsewhere. Services that no component names are `other services`.
    """
    rows = {row["component"]: row for row in estimates.to_pylist()}
    named = {service for component in components for service in component.services}
    rest = BilledComponent(component=OTHER, services=tuple(each.service for each in bill if each.service not in named))
    for component in (*components, rest):
        billed = [each for each in bill if each.service in component.services]
        if not billed:
            continue
        replaced = [rows.pop(name) for name in list(rows) if _is_replaced(name, component.replaces)]
        rows[component.component] = _billed_row(component.component, billed, replaced, day)
    return conform(pa.Table.from_pylist(list(rows.values()), schema=SPENDING.arrow_schema()), SPENDING)


def billed_until(spending: pa.Table) -> datetime | None:
    """The instant (UTC) up to which everything billed is on the bill at least; None when nothing is billed."""
    return min((until for until in spending["billed_until"].to_pylist() if until is not None), default=None)


def _billed_row(
    name: str, billed: Sequence[BilledService], replaced: Iterable[dict[str, float]], day: date
) -> dict[str, object]:
    start, end = bill_span(day)
    until = min(max(each.billed_until for each in billed), end)
    usd = sum(each.usd for each in billed)
    n_seconds = n_days_of_month(day) * 86_400  # India has no daylight saving
    passed = max((until - start).total_seconds(), 1.0) / n_seconds
    projected = usd / passed
    return {
        "component": name,
        "basis": f"the bill: {', '.join(sorted(each.service for each in billed))}",
        "spent_usd": max(usd, projected * share_of_month(day)) if usd > 0 else usd,
        "projected_usd": projected if usd > 0 else usd,
        "estimated_usd": sum(row["spent_usd"] for row in replaced),
        "billed_usd": usd,
        "billed_until": until,
    }


def _is_replaced(component: str, replaces: Sequence[str]) -> bool:
    return component in replaces or (RUNS in replaces and component.startswith("runs of "))
