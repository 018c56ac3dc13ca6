"""The table of what running Bandicoot costs."""

from bandicoot_core.contracts.table_contract import Column, TableContract

SPENDING = TableContract(
    "cost_report",
    "What each component has cost since the month began, and will have cost at its end",
    (
        Column("component", "string", "What the money goes to"),
        Column("basis", "string", "What the figure is computed from"),
        Column("spent_usd", "float64", "Spent since the month began; credits may make it negative", "US dollars"),
        Column("projected_usd", "float64", "Spent at the end of the month, if it goes on so", "US dollars"),
        Column("estimated_usd", "float64", "What use and prices say was spent since the month began", "US dollars"),
        Column(
            "billed_usd",
            "float64",
            "What the bill says so far, credits taken off; empty where only an estimate is known",
            "US dollars",
            is_nullable=True,
        ),
        Column("billed_until", "timestamp", "End of the newest usage on the bill", "UTC", is_nullable=True),
    ),
    key=("component",),
    sort_by=("component",),
)
